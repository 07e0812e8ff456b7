/* A ComfyUI graph (the "API format": {"node id": {"class_type", "inputs"}}) read and translated into one request for pictures.
 *
 * Each node's class must be one of comfy_nodes.h. The outputs (SaveImage, PreviewImage) are walked back; what they need is checked as
 * ComfyUI checks it (missing inputs, bad links, types, bounds, choices), and what was found wrong is told in the shape in which it tells
 * it. All outputs must show the pictures of one sampler.
 *
 * What decides: the model of the sampler, the texts of its conditionings, its seed, steps and denoise, the empty latent's size or the
 * picture that is encoded. What has no meaning here, as each model brings its own: encoders' and autoencoders' names, sampler and schedule,
 * tiles, CLIP layers, shifts. docs/comfyui.md has the list.
 *
 * A pure function but for what `world` answers; any thread may use it. */
#ifndef IMAGINED_SERVER_API_COMFY_GRAPH_H
#define IMAGINED_SERVER_API_COMFY_GRAPH_H

#include "base/sha256.h"
#include "models/model_folder.h"
#include "queue/task.h"
#include "server/api/comfy_nodes.h"

enum {
    COMFY_GRAPH_BYTES = 256 << 10, /* of a graph, as text */
    COMFY_GRAPH_NODES = 256,
    COMFY_NODE_ID_BYTES = 64,
};

/* A picture that was brought. */
typedef struct comfy_picture {
    char image[SHA256_TEXT_BYTES]; /* ids of stored inputs (server/pictures/input_store.h) */
    char mask[SHA256_TEXT_BYTES]; /* whose alpha is its mask; mostly its own id */
    int width, height;
} comfy_picture;

/* What the graph's names stand for. */
typedef struct comfy_world {
    void *context;
    const model_info *(*model)(void *context, const char *file_name); /* "demo.safetensors"; NULL: none. Borrowed for as long as the plan */
    bool (*picture)(void *context, const char *name, comfy_picture *out);
    comfy_lister list; /* what there is, for errors */
} comfy_world;

/* A node that runs. */
typedef struct comfy_step {
    const char *id; /* borrowed from the graph */
    const comfy_class *class;
    char signature[SHA256_TEXT_BYTES]; /* equal for nodes that make the same of the same */
} comfy_step;

typedef struct comfy_plan {
    const model_info *model;
    const char *prompt, *negative_prompt; /* borrowed from the graph; negative_prompt NULL: none */
    int width, height, steps, count;
    double guidance_scale; /* below 0: the model's */
    double true_cfg_scale;
    uint64_t seed;
    comfy_picture picture, mask; /* .image "": none */
    bool mask_is_alpha;
    double strength;
    int shown_steps;   /* those that ComfyUI would count: without what a strength below 1 skips */
    int sampler;       /* of steps[] */
    comfy_step nodes[COMFY_GRAPH_NODES]; /* in the order in which they run; outputs last */
    int node_count;
    const char *prefixes[COMFY_GRAPH_NODES]; /* filename_prefix of node i, of SaveImage */
} comfy_plan;

/* Reads the graph, an object (`graph`.value borrowed; its texts must outlive the plan). On failure *fault is the body of the answer,
 * {"error": {"type", "message", "details", "extra_info"}, "node_errors": {…}}, yours; NULL without memory. */
bool comfy_graph_read(yyjson_val *graph, const comfy_world *world, comfy_plan *out, yyjson_mut_doc **fault);

/* The answer's body for a prompt that cannot be run for another reason; NULL without memory. `node`: the id at fault, with its class; or
 * NULL. */
yyjson_mut_doc *comfy_fault(const char *type, const char *message, const char *details);
/* The same for one node of a plan. */
yyjson_mut_doc *comfy_node_fault(const comfy_step *node, const char *type, const char *message, const char *details);

#endif
