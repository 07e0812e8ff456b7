#include "server/api/comfy_nodes.h"

#include <string.h>

static const double seed_high = 18446744073709551615.0;

#define LINK(n, t) {.name = n, .type = t}
#define OPTIONAL_LINK(n, t) {.name = n, .type = t, .optional = true}
#define WHOLE(n, first, least, most) {.name = n, .type = COMFY_INT, .initial = first, .low = least, .high = most, .step = 1}
#define STEPPED(n, first, least, most, by) {.name = n, .type = COMFY_INT, .initial = first, .low = least, .high = most, .step = by}
#define REAL(n, first, least, most, by) {.name = n, .type = COMFY_FLOAT, .initial = first, .low = least, .high = most, .step = by}
#define TEXT(n, first) {.name = n, .type = COMFY_STRING, .text = first}
#define FLAG(n, first) {.name = n, .type = COMFY_BOOLEAN, .initial = first}
#define CHOICE(n, c) {.name = n, .type = COMFY_COMBO, .choices = c}
#define SEED(n) {.name = n, .type = COMFY_INT, .low = 0, .high = 18446744073709551615.0, .step = 1}
#define SIDE(n, first) STEPPED(n, first, 16, 16384, 8)

static const comfy_class classes[] = {
    /* --- what brings models and pictures --- */
    {"CheckpointLoaderSimple", "Load Checkpoint", "loaders", KIND_CHECKPOINT, STAGE_LOAD, {CHOICE("ckpt_name", CHOOSE_MODEL)},
     {{COMFY_MODEL, "MODEL"}, {COMFY_CLIP, "CLIP"}, {COMFY_VAE, "VAE"}}, false},
    {"UNETLoader", "Load Diffusion Model", "advanced/loaders", KIND_UNET, STAGE_LOAD, {CHOICE("unet_name", CHOOSE_MODEL), CHOICE("weight_dtype", CHOOSE_DTYPE)},
     {{COMFY_MODEL, "MODEL"}}, false},
    {"CLIPLoader", "Load CLIP", "advanced/loaders", KIND_CLIP_LOADER, STAGE_LOAD,
     {CHOICE("clip_name", CHOOSE_CLIP), CHOICE("type", CHOOSE_CLIP_KIND), {.name = "device", .type = COMFY_COMBO, .choices = CHOOSE_DEVICE, .optional = true}},
     {{COMFY_CLIP, "CLIP"}}, false},
    {"DualCLIPLoader", "DualCLIPLoader", "advanced/loaders", KIND_CLIP_LOADER, STAGE_LOAD,
     {CHOICE("clip_name1", CHOOSE_CLIP), CHOICE("clip_name2", CHOOSE_CLIP), CHOICE("type", CHOOSE_PAIR_KIND),
      {.name = "device", .type = COMFY_COMBO, .choices = CHOOSE_DEVICE, .optional = true}},
     {{COMFY_CLIP, "CLIP"}}, false},
    {"VAELoader", "Load VAE", "loaders", KIND_VAE_LOADER, STAGE_LOAD, {CHOICE("vae_name", CHOOSE_VAE)}, {{COMFY_VAE, "VAE"}}, false},
    {"LoadImage", "Load Image", "image", KIND_LOAD_IMAGE, STAGE_LOAD, {CHOICE("image", CHOOSE_PICTURE)}, {{COMFY_IMAGE, "IMAGE"}, {COMFY_MASK, "MASK"}}, false},
    {"LoadImageMask", "Load Image (as Mask)", "mask", KIND_LOAD_MASK, STAGE_LOAD, {CHOICE("image", CHOOSE_PICTURE), CHOICE("channel", CHOOSE_CHANNEL)},
     {{COMFY_MASK, "MASK"}}, false},
    /* --- what passes values on --- */
    {"PrimitiveInt", "Int", "utils/primitive", KIND_PRIMITIVE, STAGE_LOAD,
     {{.name = "value", .type = COMFY_INT, .low = -9007199254740991.0, .high = seed_high, .step = 1}}, {{COMFY_INT, "INT"}}, false},
    {"PrimitiveFloat", "Float", "utils/primitive", KIND_PRIMITIVE, STAGE_LOAD, {REAL("value", 0, -9007199254740991.0, 9007199254740991.0, 0.1)},
     {{COMFY_FLOAT, "FLOAT"}}, false},
    {"PrimitiveString", "String", "utils/primitive", KIND_PRIMITIVE, STAGE_LOAD, {TEXT("value", "")}, {{COMFY_STRING, "STRING"}}, false},
    {"PrimitiveStringMultiline", "String (Multiline)", "utils/primitive", KIND_PRIMITIVE, STAGE_LOAD, {TEXT("value", "")}, {{COMFY_STRING, "STRING"}}, false},
    {"PrimitiveBoolean", "Boolean", "utils/primitive", KIND_PRIMITIVE, STAGE_LOAD, {FLAG("value", 0)}, {{COMFY_BOOLEAN, "BOOLEAN"}}, false},
    {"Reroute", "Reroute", "utils", KIND_REROUTE, STAGE_LOAD, {LINK("", COMFY_ANY)}, {{COMFY_ANY, ""}}, false},
    {"Note", "Note", "utils", KIND_NOTE, STAGE_LOAD, {{0}}, {{0}}, false},
    {"MarkdownNote", "Markdown Note", "utils", KIND_NOTE, STAGE_LOAD, {{0}}, {{0}}, false},
    /* --- what conditions --- */
    {"CLIPTextEncode", "CLIP Text Encode (Prompt)", "conditioning", KIND_TEXT, STAGE_ENCODE, {TEXT("text", NULL), LINK("clip", COMFY_CLIP)},
     {{COMFY_CONDITIONING, "CONDITIONING"}}, false},
    {"CLIPTextEncodeFlux", "CLIPTextEncodeFlux", "advanced/conditioning/flux", KIND_TEXT_FLUX, STAGE_ENCODE,
     {LINK("clip", COMFY_CLIP), TEXT("clip_l", NULL), TEXT("t5xxl", NULL), REAL("guidance", 3.5, 0, 100, 0.1)}, {{COMFY_CONDITIONING, "CONDITIONING"}}, false},
    {"CLIPTextEncodeSDXL", "CLIPTextEncodeSDXL", "advanced/conditioning", KIND_TEXT_SDXL, STAGE_ENCODE,
     {LINK("clip", COMFY_CLIP), WHOLE("width", 1024, 0, 16384), WHOLE("height", 1024, 0, 16384), WHOLE("crop_w", 0, 0, 16384), WHOLE("crop_h", 0, 0, 16384),
      WHOLE("target_width", 1024, 0, 16384), WHOLE("target_height", 1024, 0, 16384), TEXT("text_g", NULL), TEXT("text_l", NULL)},
     {{COMFY_CONDITIONING, "CONDITIONING"}}, false},
    {"CLIPSetLastLayer", "CLIP Set Last Layer", "conditioning", KIND_CLIP_PASS, STAGE_ENCODE, {LINK("clip", COMFY_CLIP), WHOLE("stop_at_clip_layer", -1, -24, -1)},
     {{COMFY_CLIP, "CLIP"}}, false},
    {"ConditioningZeroOut", "ConditioningZeroOut", "advanced/conditioning", KIND_ZERO_OUT, STAGE_ENCODE, {LINK("conditioning", COMFY_CONDITIONING)},
     {{COMFY_CONDITIONING, "CONDITIONING"}}, false},
    {"FluxGuidance", "FluxGuidance", "advanced/conditioning/flux", KIND_GUIDANCE, STAGE_ENCODE,
     {LINK("conditioning", COMFY_CONDITIONING), REAL("guidance", 3.5, 0, 100, 0.1)}, {{COMFY_CONDITIONING, "CONDITIONING"}}, false},
    {"ModelSamplingFlux", "ModelSamplingFlux", "advanced/model", KIND_MODEL_PASS, STAGE_ENCODE,
     {LINK("model", COMFY_MODEL), REAL("max_shift", 1.15, 0, 100, 0.01), REAL("base_shift", 0.5, 0, 100, 0.01), SIDE("width", 1024), SIDE("height", 1024)},
     {{COMFY_MODEL, "MODEL"}}, false},
    {"InpaintModelConditioning", "InpaintModelConditioning", "conditioning/inpaint", KIND_INPAINT_CONDITIONING, STAGE_ENCODE,
     {LINK("positive", COMFY_CONDITIONING), LINK("negative", COMFY_CONDITIONING), LINK("vae", COMFY_VAE), LINK("pixels", COMFY_IMAGE), LINK("mask", COMFY_MASK),
      {.name = "noise_mask", .type = COMFY_BOOLEAN, .initial = 1, .optional = true}},
     {{COMFY_CONDITIONING, "positive"}, {COMFY_CONDITIONING, "negative"}, {COMFY_LATENT, "latent"}}, false},
    /* --- latents and pictures on their way to the sampler --- */
    {"EmptyLatentImage", "Empty Latent Image", "latent", KIND_EMPTY_LATENT, STAGE_ENCODE, {SIDE("width", 512), SIDE("height", 512), WHOLE("batch_size", 1, 1, 4096)},
     {{COMFY_LATENT, "LATENT"}}, false},
    {"EmptySD3LatentImage", "EmptySD3LatentImage", "latent/sd3", KIND_EMPTY_LATENT, STAGE_ENCODE,
     {SIDE("width", 1024), SIDE("height", 1024), WHOLE("batch_size", 1, 1, 4096)}, {{COMFY_LATENT, "LATENT"}}, false},
    {"LatentFromBatch", "Latent From Batch", "latent/batch", KIND_LATENT_BATCH, STAGE_ENCODE,
     {LINK("samples", COMFY_LATENT), WHOLE("batch_index", 0, 0, 63), WHOLE("length", 1, 1, 64)}, {{COMFY_LATENT, "LATENT"}}, false},
    {"RepeatLatentBatch", "Repeat Latent Batch", "latent/batch", KIND_LATENT_REPEAT, STAGE_ENCODE, {LINK("samples", COMFY_LATENT), WHOLE("amount", 1, 1, 64)},
     {{COMFY_LATENT, "LATENT"}}, false},
    {"VAEEncode", "VAE Encode", "latent", KIND_VAE_ENCODE, STAGE_ENCODE, {LINK("pixels", COMFY_IMAGE), LINK("vae", COMFY_VAE)}, {{COMFY_LATENT, "LATENT"}}, false},
    {"VAEEncodeTiled", "VAE Encode (Tiled)", "_for_testing", KIND_VAE_ENCODE, STAGE_ENCODE,
     {LINK("pixels", COMFY_IMAGE), LINK("vae", COMFY_VAE), STEPPED("tile_size", 512, 64, 4096, 64),
      {.name = "overlap", .type = COMFY_INT, .initial = 64, .high = 4096, .step = 32, .optional = true},
      {.name = "temporal_size", .type = COMFY_INT, .initial = 64, .low = 8, .high = 4096, .step = 4, .optional = true},
      {.name = "temporal_overlap", .type = COMFY_INT, .initial = 8, .low = 4, .high = 4096, .step = 4, .optional = true}},
     {{COMFY_LATENT, "LATENT"}}, false},
    {"VAEEncodeForInpaint", "VAE Encode (for Inpainting)", "latent/inpaint", KIND_VAE_INPAINT, STAGE_ENCODE,
     {LINK("pixels", COMFY_IMAGE), LINK("vae", COMFY_VAE), LINK("mask", COMFY_MASK), WHOLE("grow_mask_by", 6, 0, 64)}, {{COMFY_LATENT, "LATENT"}}, false},
    {"SetLatentNoiseMask", "Set Latent Noise Mask", "latent/inpaint", KIND_NOISE_MASK, STAGE_ENCODE, {LINK("samples", COMFY_LATENT), LINK("mask", COMFY_MASK)},
     {{COMFY_LATENT, "LATENT"}}, false},
    {"ImageScale", "Upscale Image", "image/upscaling", KIND_SCALE, STAGE_ENCODE,
     {LINK("image", COMFY_IMAGE), CHOICE("upscale_method", CHOOSE_UPSCALE), WHOLE("width", 512, 0, 16384), WHOLE("height", 512, 0, 16384), CHOICE("crop", CHOOSE_CROP)},
     {{COMFY_IMAGE, "IMAGE"}}, false},
    {"ImageScaleBy", "Upscale Image By", "image/upscaling", KIND_SCALE_BY, STAGE_ENCODE,
     {LINK("image", COMFY_IMAGE), CHOICE("upscale_method", CHOOSE_UPSCALE), REAL("scale_by", 1, 0.01, 8, 0.01)}, {{COMFY_IMAGE, "IMAGE"}}, false},
    /* --- sampling --- */
    {"RandomNoise", "RandomNoise", "sampling/custom_sampling/noise", KIND_NOISE, STAGE_ENCODE, {SEED("noise_seed")}, {{COMFY_NOISE, "NOISE"}}, false},
    {"DisableNoise", "DisableNoise", "sampling/custom_sampling/noise", KIND_NO_NOISE, STAGE_ENCODE, {{0}}, {{COMFY_NOISE, "NOISE"}}, false},
    {"BasicGuider", "BasicGuider", "sampling/custom_sampling/guiders", KIND_BASIC_GUIDER, STAGE_ENCODE,
     {LINK("model", COMFY_MODEL), LINK("conditioning", COMFY_CONDITIONING)}, {{COMFY_GUIDER, "GUIDER"}}, false},
    {"CFGGuider", "CFGGuider", "sampling/custom_sampling/guiders", KIND_CFG_GUIDER, STAGE_ENCODE,
     {LINK("model", COMFY_MODEL), LINK("positive", COMFY_CONDITIONING), LINK("negative", COMFY_CONDITIONING), REAL("cfg", 8, 0, 100, 0.1)},
     {{COMFY_GUIDER, "GUIDER"}}, false},
    {"KSamplerSelect", "KSamplerSelect", "sampling/custom_sampling/samplers", KIND_SAMPLER_SELECT, STAGE_ENCODE, {CHOICE("sampler_name", CHOOSE_SAMPLER)},
     {{COMFY_SAMPLER, "SAMPLER"}}, false},
    {"BasicScheduler", "BasicScheduler", "sampling/custom_sampling/schedulers", KIND_SCHEDULER, STAGE_ENCODE,
     {LINK("model", COMFY_MODEL), CHOICE("scheduler", CHOOSE_SCHEDULER), WHOLE("steps", 20, 1, 10000), REAL("denoise", 1, 0, 1, 0.01)}, {{COMFY_SIGMAS, "SIGMAS"}}, false},
    {"KSampler", "KSampler", "sampling", KIND_KSAMPLER, STAGE_SAMPLE,
     {LINK("model", COMFY_MODEL), SEED("seed"), WHOLE("steps", 20, 1, 10000), REAL("cfg", 8, 0, 100, 0.1), CHOICE("sampler_name", CHOOSE_SAMPLER),
      CHOICE("scheduler", CHOOSE_SCHEDULER), LINK("positive", COMFY_CONDITIONING), LINK("negative", COMFY_CONDITIONING), LINK("latent_image", COMFY_LATENT),
      REAL("denoise", 1, 0, 1, 0.01)},
     {{COMFY_LATENT, "LATENT"}}, false},
    {"KSamplerAdvanced", "KSampler (Advanced)", "sampling", KIND_KSAMPLER_ADVANCED, STAGE_SAMPLE,
     {LINK("model", COMFY_MODEL), CHOICE("add_noise", CHOOSE_SWITCH), SEED("noise_seed"), WHOLE("steps", 20, 1, 10000), REAL("cfg", 8, 0, 100, 0.1),
      CHOICE("sampler_name", CHOOSE_SAMPLER), CHOICE("scheduler", CHOOSE_SCHEDULER), LINK("positive", COMFY_CONDITIONING), LINK("negative", COMFY_CONDITIONING),
      LINK("latent_image", COMFY_LATENT), WHOLE("start_at_step", 0, 0, 10000), WHOLE("end_at_step", 10000, 0, 10000),
      {.name = "return_with_leftover_noise", .type = COMFY_COMBO, .choices = CHOOSE_SWITCH, .text = "disable"}},
     {{COMFY_LATENT, "LATENT"}}, false},
    {"SamplerCustom", "SamplerCustom", "sampling/custom_sampling", KIND_SAMPLER_CUSTOM, STAGE_SAMPLE,
     {LINK("model", COMFY_MODEL), FLAG("add_noise", 1), SEED("noise_seed"), REAL("cfg", 8, 0, 100, 0.1), LINK("positive", COMFY_CONDITIONING),
      LINK("negative", COMFY_CONDITIONING), LINK("sampler", COMFY_SAMPLER), LINK("sigmas", COMFY_SIGMAS), LINK("latent_image", COMFY_LATENT)},
     {{COMFY_LATENT, "output"}, {COMFY_LATENT, "denoised_output"}}, false},
    {"SamplerCustomAdvanced", "SamplerCustomAdvanced", "sampling/custom_sampling", KIND_SAMPLER_ADVANCED, STAGE_SAMPLE,
     {LINK("noise", COMFY_NOISE), LINK("guider", COMFY_GUIDER), LINK("sampler", COMFY_SAMPLER), LINK("sigmas", COMFY_SIGMAS), LINK("latent_image", COMFY_LATENT)},
     {{COMFY_LATENT, "output"}, {COMFY_LATENT, "denoised_output"}}, false},
    /* --- pictures out --- */
    {"VAEDecode", "VAE Decode", "latent", KIND_VAE_DECODE, STAGE_DECODE, {LINK("samples", COMFY_LATENT), LINK("vae", COMFY_VAE)}, {{COMFY_IMAGE, "IMAGE"}}, false},
    {"VAEDecodeTiled", "VAE Decode (Tiled)", "_for_testing", KIND_VAE_DECODE, STAGE_DECODE,
     {LINK("samples", COMFY_LATENT), LINK("vae", COMFY_VAE), STEPPED("tile_size", 512, 64, 4096, 32),
      {.name = "overlap", .type = COMFY_INT, .initial = 64, .high = 4096, .step = 32, .optional = true},
      {.name = "temporal_size", .type = COMFY_INT, .initial = 64, .low = 8, .high = 4096, .step = 4, .optional = true},
      {.name = "temporal_overlap", .type = COMFY_INT, .initial = 8, .low = 4, .high = 4096, .step = 4, .optional = true}},
     {{COMFY_IMAGE, "IMAGE"}}, false},
    {"SaveImage", "Save Image", "image", KIND_SAVE, STAGE_OUTPUT, {LINK("images", COMFY_IMAGE), TEXT("filename_prefix", "ComfyUI")}, {{0}}, true},
    {"PreviewImage", "Preview Image", "image", KIND_PREVIEW, STAGE_OUTPUT, {LINK("images", COMFY_IMAGE)}, {{0}}, true},
};

enum { CLASSES = sizeof classes / sizeof *classes };

size_t comfy_class_count(void) { return CLASSES; }
const comfy_class *comfy_class_at(size_t index) { return &classes[index]; }

const comfy_class *comfy_class_find(const char *name) {
    for (size_t i = 0; i < CLASSES; i++)
        if (strcmp(classes[i].name, name) == 0) return &classes[i];
    return NULL;
}

const comfy_input *comfy_class_input(const comfy_class *c, const char *name) {
    for (int i = 0; i < COMFY_INPUTS && c->inputs[i].name != NULL; i++)
        if (strcmp(c->inputs[i].name, name) == 0) return &c->inputs[i];
    return NULL;
}

const char *comfy_type_name(comfy_type t) {
    static const char *const names[] = {
        [COMFY_NONE] = "",         [COMFY_ANY] = "*",           [COMFY_MODEL] = "MODEL",
        [COMFY_CLIP] = "CLIP",     [COMFY_VAE] = "VAE",         [COMFY_CONDITIONING] = "CONDITIONING",
        [COMFY_LATENT] = "LATENT", [COMFY_IMAGE] = "IMAGE",     [COMFY_MASK] = "MASK",
        [COMFY_NOISE] = "NOISE",   [COMFY_GUIDER] = "GUIDER",   [COMFY_SAMPLER] = "SAMPLER",
        [COMFY_SIGMAS] = "SIGMAS", [COMFY_INT] = "INT",         [COMFY_FLOAT] = "FLOAT",
        [COMFY_STRING] = "STRING", [COMFY_BOOLEAN] = "BOOLEAN", [COMFY_COMBO] = "COMBO",
    };
    return names[t];
}

/* --- lists of choices --- */

const char *const *comfy_choice_names(comfy_choices c) {
    /* All run Euler over the model's own schedule: the first of each says what is done, the others are what graphs of other servers hold. */
    static const char *const samplers[] = {
        "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0", "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms",
        "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde",
        "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm", "ipndm_v", "deis", "res_multistep",
        "res_multistep_cfg_pp", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde", "seeds_2",
        "seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2", NULL};
    static const char *const schedulers[] = {"simple", "normal", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "linear_quadratic", "kl_optimal", NULL};
    static const char *const switches[] = {"enable", "disable", NULL};
    static const char *const upscale[] = {"nearest-exact", "bilinear", "area", "bicubic", "lanczos", NULL};
    static const char *const crop[] = {"disabled", "center", NULL};
    static const char *const channels[] = {"alpha", "red", "green", "blue", NULL};
    static const char *const kinds[] = {"stable_diffusion", "stable_cascade", "sd3",   "stable_audio", "mochi",  "ltxv", "pixart",
                                        "cosmos",           "lumina2",        "wan",   "hidream",      "chroma", "ace",  "omnigen2",
                                        "qwen_image",       "hunyuan_image",  "flux2", "ovis",         NULL};
    static const char *const pairs[] = {
        "sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image", "hunyuan_video_15", "kandinsky5", "kandinsky5_image", NULL};
    static const char *const dtypes[] = {"default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2", NULL};
    static const char *const devices[] = {"default", "cpu", NULL};
    switch (c) {
    case CHOOSE_SAMPLER: return samplers;
    case CHOOSE_SCHEDULER: return schedulers;
    case CHOOSE_SWITCH: return switches;
    case CHOOSE_UPSCALE: return upscale;
    case CHOOSE_CROP: return crop;
    case CHOOSE_CHANNEL: return channels;
    case CHOOSE_CLIP_KIND: return kinds;
    case CHOOSE_PAIR_KIND: return pairs;
    case CHOOSE_DTYPE: return dtypes;
    case CHOOSE_DEVICE: return devices;
    case CHOOSE_NONE:
    case CHOOSE_MODEL:
    case CHOOSE_CLIP:
    case CHOOSE_VAE:
    case CHOOSE_PICTURE: break;
    }
    return NULL;
}

yyjson_mut_val *comfy_choices_document(yyjson_mut_doc *doc, comfy_choices c, comfy_lister lister, void *context) {
    if (c == CHOOSE_NONE) return NULL;
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    const char *const *names = comfy_choice_names(c);
    for (; names != NULL && *names != NULL; names++) yyjson_mut_arr_add_str(doc, list, *names);
    if (comfy_choice_names(c) == NULL) lister(context, c, doc, list);
    return list;
}

/* --- /object_info --- */

static void add_number(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, comfy_type type, double value) {
    if (type == COMFY_FLOAT) yyjson_mut_obj_add_real(doc, o, key, value);
    else if (value >= seed_high) yyjson_mut_obj_add_uint(doc, o, key, UINT64_MAX);
    else yyjson_mut_obj_add_int(doc, o, key, (int64_t)value);
}

yyjson_mut_val *comfy_input_document(yyjson_mut_doc *doc, const comfy_input *i, comfy_lister lister, void *context) {
    yyjson_mut_val *pair = yyjson_mut_arr(doc);
    if (i->type == COMFY_COMBO) yyjson_mut_arr_append(pair, comfy_choices_document(doc, i->choices, lister, context));
    else yyjson_mut_arr_add_str(doc, pair, comfy_type_name(i->type));
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, pair);
    if (i->type == COMFY_INT || i->type == COMFY_FLOAT) {
        add_number(doc, o, "default", i->type, i->initial);
        add_number(doc, o, "min", i->type, i->low);
        add_number(doc, o, "max", i->type, i->high);
        add_number(doc, o, "step", i->type, i->step);
    } else if (i->type == COMFY_BOOLEAN) {
        yyjson_mut_obj_add_bool(doc, o, "default", i->initial != 0);
    } else if (i->text != NULL) {
        yyjson_mut_obj_add_str(doc, o, "default", i->text);
    }
    if (i->type == COMFY_STRING) yyjson_mut_obj_add_bool(doc, o, "multiline", i->text == NULL);
    if (i->type == COMFY_INT && i->high >= seed_high && strstr(i->name, "seed") != NULL)
        yyjson_mut_obj_add_bool(doc, o, "control_after_generate", true);
    if (i->choices == CHOOSE_PICTURE) yyjson_mut_obj_add_bool(doc, o, "image_upload", true);
    return pair;
}

static void add_inputs(yyjson_mut_doc *doc, yyjson_mut_val *o, const comfy_class *c, comfy_lister lister, void *context) {
    yyjson_mut_val *inputs = yyjson_mut_obj_add_obj(doc, o, "input"), *order = yyjson_mut_obj_add_obj(doc, o, "input_order");
    for (int optional = 0; optional < 2; optional++) {
        const char *key = optional ? "optional" : "required";
        yyjson_mut_val *list = NULL, *names = NULL;
        for (int i = 0; i < COMFY_INPUTS && c->inputs[i].name != NULL; i++) {
            if (c->inputs[i].optional != (optional == 1)) continue;
            if (list == NULL) list = yyjson_mut_obj_add_obj(doc, inputs, key), names = yyjson_mut_obj_add_arr(doc, order, key);
            yyjson_mut_obj_add_val(doc, list, c->inputs[i].name, comfy_input_document(doc, &c->inputs[i], lister, context));
            yyjson_mut_arr_add_str(doc, names, c->inputs[i].name);
        }
        if (list == NULL && !optional) {
            yyjson_mut_obj_add_obj(doc, inputs, key);
            yyjson_mut_obj_add_arr(doc, order, key);
        }
    }
    if (c->is_output) { /* what ComfyUI hands to nodes that save */
        yyjson_mut_val *hidden = yyjson_mut_obj_add_obj(doc, inputs, "hidden");
        yyjson_mut_obj_add_str(doc, hidden, "prompt", "PROMPT");
        yyjson_mut_obj_add_str(doc, hidden, "extra_pnginfo", "EXTRA_PNGINFO");
    }
}

yyjson_mut_val *comfy_class_document(yyjson_mut_doc *doc, const comfy_class *c, comfy_lister lister, void *context) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    add_inputs(doc, o, c, lister, context);
    yyjson_mut_val *types = yyjson_mut_obj_add_arr(doc, o, "output"), *lists = yyjson_mut_obj_add_arr(doc, o, "output_is_list"),
                   *names = yyjson_mut_obj_add_arr(doc, o, "output_name");
    for (int i = 0; i < COMFY_OUTPUTS && c->outputs[i].type != COMFY_NONE; i++) {
        yyjson_mut_arr_add_str(doc, types, comfy_type_name(c->outputs[i].type));
        yyjson_mut_arr_add_bool(doc, lists, false);
        yyjson_mut_arr_add_str(doc, names, c->outputs[i].name);
    }
    yyjson_mut_obj_add_str(doc, o, "name", c->name);
    yyjson_mut_obj_add_str(doc, o, "display_name", c->title);
    yyjson_mut_obj_add_str(doc, o, "description", "");
    yyjson_mut_obj_add_str(doc, o, "python_module", "nodes");
    yyjson_mut_obj_add_str(doc, o, "category", c->category);
    yyjson_mut_obj_add_bool(doc, o, "output_node", c->is_output);
    return o;
}
