/* ComfyUI's node classes that this server knows: their inputs and outputs, as its /object_info tells them. What a graph of them means is in
 * comfy_graph.h.
 *
 * Names, types, defaults and bounds are those of ComfyUI's nodes.py and comfy_extras. Constant: any thread may use it. */
#ifndef IMAGINED_SERVER_API_COMFY_NODES_H
#define IMAGINED_SERVER_API_COMFY_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <yyjson.h>

enum { COMFY_INPUTS = 14, COMFY_OUTPUTS = 3 };

/* "*" fits everything. INT … COMBO are values; the others can only be linked. */
typedef enum comfy_type {
    COMFY_NONE, COMFY_ANY, COMFY_MODEL, COMFY_CLIP, COMFY_VAE, COMFY_CONDITIONING, COMFY_LATENT, COMFY_IMAGE, COMFY_MASK, COMFY_NOISE, COMFY_GUIDER,
    COMFY_SAMPLER, COMFY_SIGMAS, COMFY_INT, COMFY_FLOAT, COMFY_STRING, COMFY_BOOLEAN, COMFY_COMBO,
} comfy_type;

/* Lists of choices. Those of models and pictures are known at run time only; of encoders and autoencoders any name is taken, as each model
 * brings its own. */
typedef enum comfy_choices {
    CHOOSE_NONE, CHOOSE_MODEL, CHOOSE_CLIP, CHOOSE_VAE, CHOOSE_PICTURE, CHOOSE_SAMPLER, CHOOSE_SCHEDULER, CHOOSE_SWITCH, CHOOSE_UPSCALE, CHOOSE_CROP, CHOOSE_CHANNEL,
    CHOOSE_CLIP_KIND, CHOOSE_PAIR_KIND, CHOOSE_DTYPE, CHOOSE_DEVICE,
} comfy_choices;

typedef struct comfy_input {
    const char *name;
    comfy_type type;
    comfy_choices choices; /* of a COMBO */
    double low, high, step; /* of INT and FLOAT; high of a seed stands for 2^64 − 1 */
    double initial;         /* their default, and that of BOOLEAN */
    const char *text;       /* the default of STRING and COMBO, or NULL */
    bool optional;
} comfy_input;

/* When a class's work is done, in the order in which this server works. */
typedef enum comfy_stage { STAGE_LOAD, STAGE_ENCODE, STAGE_SAMPLE, STAGE_DECODE, STAGE_OUTPUT } comfy_stage;

/* Each class that means something of its own to the translation. */
typedef enum comfy_kind {
    KIND_NOTE, KIND_REROUTE, KIND_PRIMITIVE, KIND_CHECKPOINT, KIND_UNET, KIND_CLIP_LOADER, KIND_VAE_LOADER, KIND_TEXT, KIND_TEXT_FLUX, KIND_TEXT_SDXL, KIND_CLIP_PASS,
    KIND_ZERO_OUT, KIND_GUIDANCE, KIND_MODEL_PASS, KIND_EMPTY_LATENT, KIND_LATENT_BATCH, KIND_LATENT_REPEAT, KIND_KSAMPLER, KIND_KSAMPLER_ADVANCED, KIND_SAMPLER_CUSTOM,
    KIND_SAMPLER_ADVANCED, KIND_NOISE, KIND_NO_NOISE, KIND_BASIC_GUIDER, KIND_CFG_GUIDER, KIND_SAMPLER_SELECT, KIND_SCHEDULER, KIND_VAE_ENCODE, KIND_VAE_INPAINT,
    KIND_NOISE_MASK, KIND_INPAINT_CONDITIONING, KIND_LOAD_IMAGE, KIND_LOAD_MASK, KIND_SCALE, KIND_SCALE_BY, KIND_VAE_DECODE, KIND_SAVE, KIND_PREVIEW,
} comfy_kind;

typedef struct comfy_class {
    const char *name, *title, *category;
    comfy_kind kind;
    comfy_stage stage;
    comfy_input inputs[COMFY_INPUTS]; /* up to the first without a name */
    struct {
        comfy_type type;
        const char *name;
    } outputs[COMFY_OUTPUTS]; /* up to the first of COMFY_NONE */
    bool is_output;
} comfy_class;

const comfy_class *comfy_class_find(const char *name); /* NULL when there is none */
size_t comfy_class_count(void);
const comfy_class *comfy_class_at(size_t index);
const char *comfy_type_name(comfy_type t); /* "MODEL", …, "*" */
/* NULL when the class has no such input. */
const comfy_input *comfy_class_input(const comfy_class *c, const char *name);

/* The fixed names of a list, NULL at its end; NULL for those known at run time only. */
const char *const *comfy_choice_names(comfy_choices c);

/* Adds the names of the lists that are known at run time only (CHOOSE_MODEL, CHOOSE_PICTURE, CHOOSE_CLIP, CHOOSE_VAE). */
typedef void (*comfy_lister)(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *list);
/* The class as /object_info tells it; NULL without memory. */
yyjson_mut_val *comfy_class_document(yyjson_mut_doc *doc, const comfy_class *c, comfy_lister lister, void *context);
/* ["euler", …]: what an input can be; NULL for one without choices. */
yyjson_mut_val *comfy_choices_document(yyjson_mut_doc *doc, comfy_choices c, comfy_lister lister, void *context);
/* An input's [type, {…}], as /object_info and the errors have it. */
yyjson_mut_val *comfy_input_document(yyjson_mut_doc *doc, const comfy_input *i, comfy_lister lister, void *context);

#endif
