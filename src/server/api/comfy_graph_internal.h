/* What comfy_graph.c (nodes, links, checks) and comfy_translate.c (what they mean) share; nobody else includes it. */
#ifndef IMAGINED_SERVER_API_COMFY_GRAPH_INTERNAL_H
#define IMAGINED_SERVER_API_COMFY_GRAPH_INTERNAL_H

#include "base/buffer.h"
#include "server/api/comfy_graph.h"

typedef struct comfy_node {
    const char *id;
    const comfy_class *class;
    yyjson_val *inputs; /* an object, or NULL */
    enum { NODE_NEW, NODE_OPEN, NODE_DONE, NODE_BAD } walked;
    char signature[SHA256_TEXT_BYTES];
} comfy_node;

typedef struct comfy_graph {
    const comfy_world *world;
    comfy_node nodes[COMFY_GRAPH_NODES];
    int count;
    int order[COMFY_GRAPH_NODES]; /* walked ones, each after what it needs */
    int walked;
    int output; /* that is being walked or translated */
    int problems;
    yyjson_mut_doc *doc;          /* of the answer that tells them */
    yyjson_mut_val *node_errors;
    buffer details; /* of all problems: a line each */
} comfy_graph;

/* A value that stands in a node, or comes from a primitive that is linked to. */
typedef struct comfy_value {
    double number;
    uint64_t whole; /* of an INT that is not negative */
    const char *text;
    bool flag;
} comfy_value;

/* Notes a problem of the node, in ComfyUI's shape. config NULL: the input's own is not told. Returns false. */
bool comfy_problem(comfy_graph *g, const comfy_node *n, const char *type, const char *message, const char *details,
                   const comfy_input *input, yyjson_val *received);
/* The node that is linked to by this input, past reroutes, and its output's number; NULL: the input is absent or no link. Links of walked
 * nodes are valid. */
comfy_node *comfy_source_of(comfy_graph *g, const comfy_node *n, const char *input, int *slot);
/* The value of an input of a walked node: its own, a primitive's, or the default. */
comfy_value comfy_value_of(comfy_graph *g, const comfy_node *n, const char *input);

/* comfy_translate.c: what the outputs ask for. False: a problem was noted. */
bool comfy_translate(comfy_graph *g, comfy_plan *out);

#endif
