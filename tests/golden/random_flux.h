/* A Flux transformer of any size with random bf16 weights, as a folder on disk. */
#ifndef IMAGINED_TESTS_RANDOM_FLUX_H
#define IMAGINED_TESTS_RANDOM_FLUX_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct random_flux {
    int heads, doubles, singles; /* heads of 32 numbers */
} random_flux;

enum { RANDOM_FLUX_HEAD = 32, RANDOM_FLUX_IN = 16, RANDOM_FLUX_TEXT = 24, RANDOM_FLUX_POOLED = 12 };

/* Writes the header of a safetensors file to `header` and counts the numbers behind it. */
typedef struct random_flux_header {
    FILE *header;
    size_t count;
} random_flux_header;

static inline void random_flux_array(random_flux_header *h, const char *name, long rows, long columns) {
    size_t count = (size_t)rows * (size_t)(columns > 0 ? columns : 1);
    fprintf(h->header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%ld", h->count > 0 ? "," : "{", name, rows);
    if (columns > 0) fprintf(h->header, ",%ld", columns);
    fprintf(h->header, "],\"data_offsets\":[%zu,%zu]}", 2 * h->count, 2 * (h->count + count));
    h->count += count;
}

static inline void random_flux_linear(random_flux_header *h, const char *block, const char *name, long out, long in) {
    char full[128];
    snprintf(full, sizeof full, "%s%s.weight", block, name);
    random_flux_array(h, full, out, in);
    snprintf(full, sizeof full, "%s%s.bias", block, name);
    random_flux_array(h, full, out, 0);
}

static inline void random_flux_norms(random_flux_header *h, const char *block, const char *first, const char *second) {
    char full[128];
    snprintf(full, sizeof full, "%sattn.%s.weight", block, first);
    random_flux_array(h, full, RANDOM_FLUX_HEAD, 0);
    snprintf(full, sizeof full, "%sattn.%s.weight", block, second);
    random_flux_array(h, full, RANDOM_FLUX_HEAD, 0);
}

static inline void random_flux_arrays(random_flux_header *h, const random_flux *f) {
    long n = (long)f->heads * RANDOM_FLUX_HEAD;
    char block[64];
    random_flux_linear(h, "", "x_embedder", n, RANDOM_FLUX_IN);
    random_flux_linear(h, "", "context_embedder", n, RANDOM_FLUX_TEXT);
    random_flux_linear(h, "time_text_embed.", "timestep_embedder.linear_1", n, 256);
    random_flux_linear(h, "time_text_embed.", "timestep_embedder.linear_2", n, n);
    random_flux_linear(h, "time_text_embed.", "text_embedder.linear_1", n, RANDOM_FLUX_POOLED);
    random_flux_linear(h, "time_text_embed.", "text_embedder.linear_2", n, n);
    for (int i = 0; i < f->doubles; i++) {
        static const char *const square[] = {"attn.to_q",       "attn.to_k",       "attn.to_v",       "attn.to_out.0",
                                             "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"};
        snprintf(block, sizeof block, "transformer_blocks.%d.", i);
        random_flux_linear(h, block, "norm1.linear", 6 * n, n);
        random_flux_linear(h, block, "norm1_context.linear", 6 * n, n);
        for (int k = 0; k < 8; k++) random_flux_linear(h, block, square[k], n, n);
        random_flux_norms(h, block, "norm_q", "norm_k");
        random_flux_norms(h, block, "norm_added_q", "norm_added_k");
        random_flux_linear(h, block, "ff.net.0.proj", 4 * n, n);
        random_flux_linear(h, block, "ff.net.2", n, 4 * n);
        random_flux_linear(h, block, "ff_context.net.0.proj", 4 * n, n);
        random_flux_linear(h, block, "ff_context.net.2", n, 4 * n);
    }
    for (int i = 0; i < f->singles; i++) {
        snprintf(block, sizeof block, "single_transformer_blocks.%d.", i);
        random_flux_linear(h, block, "norm.linear", 3 * n, n);
        random_flux_linear(h, block, "attn.to_q", n, n);
        random_flux_linear(h, block, "attn.to_k", n, n);
        random_flux_linear(h, block, "attn.to_v", n, n);
        random_flux_norms(h, block, "norm_q", "norm_k");
        random_flux_linear(h, block, "proj_mlp", 4 * n, n);
        random_flux_linear(h, block, "proj_out", n, 5 * n);
    }
    random_flux_linear(h, "", "norm_out.linear", 2 * n, n);
    random_flux_linear(h, "", "proj_out", RANDOM_FLUX_IN, n);
}

/* folder/config.json and folder/diffusion_pytorch_model.safetensors. */
static inline void random_flux_write(const char *folder, const random_flux *f) {
    char path[512], *header = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "w");
    if (file == NULL) abort();
    fprintf(file,
            "{\"in_channels\": %d, \"num_layers\": %d, \"num_single_layers\": %d, \"attention_head_dim\": %d, \"num_attention_heads\": %d, "
            "\"joint_attention_dim\": %d, \"pooled_projection_dim\": %d, \"guidance_embeds\": false, \"axes_dims_rope\": [8, 12, 12]}",
            RANDOM_FLUX_IN, f->doubles, f->singles, RANDOM_FLUX_HEAD, f->heads, RANDOM_FLUX_TEXT, RANDOM_FLUX_POOLED);
    fclose(file);
    random_flux_header h = {open_memstream(&header, &size), 0};
    random_flux_arrays(&h, f);
    fputc('}', h.header);
    while (ftell(h.header) % 64 != 56) fputc(' ', h.header);
    fclose(h.header);
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", folder);
    uint64_t length = size;
    uint16_t *data = malloc(2 * h.count);
    uint32_t seed = 1;
    if (data == NULL || (file = fopen(path, "wb")) == NULL) abort();
    for (size_t i = 0; i < h.count; i++) {
        seed = seed * 1664525u + 1013904223u;
        float value = ((float)(seed >> 8) * 0x1p-23f - 1.0f) * 0.12f;
        uint32_t bits;
        memcpy(&bits, &value, 4);
        data[i] = (uint16_t)(bits >> 16);
    }
    if (fwrite(&length, 8, 1, file) != 1 || fwrite(header, 1, size, file) != size || fwrite(data, 2, h.count, file) != h.count ||
        fclose(file) != 0)
        abort();
    free(header);
    free(data);
}

#endif
