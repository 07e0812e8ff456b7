/* The weights of one component (a transformer, a text encoder, a VAE): named, typed arrays over safetensors files, memory-mapped
 * or read into private memory.
 *
 * File format: 8 bytes little-endian header length, a JSON header {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …,
 * "__metadata__"}, then the data (https://huggingface.co/docs/safetensors). Everything in the header is hostile until checked:
 * lengths, offsets, shapes, overlaps, duplicates. Sharded components carry STEM.safetensors.index.json with a "weight_map".
 *
 * A store is immutable once open and may be read by many threads. The arrays are borrowed and live as long as the store. */
#ifndef IMAGINED_WEIGHTS_TENSOR_STORE_H
#define IMAGINED_WEIGHTS_TENSOR_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum weight_type { WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16, WEIGHT_F64, WEIGHT_I64, WEIGHT_I32, WEIGHT_OTHER } weight_type;

enum { WEIGHT_MAX_RANK = 6 };

typedef struct weight {
    const char *name;
    weight_type type;
    int rank;
    int64_t shape[WEIGHT_MAX_RANK]; /* outermost first, as PyTorch prints it; rank 0 is a scalar */
    const void *data;               /* in the mapping or the memory; may be unaligned */
    size_t size;                    /* bytes */
} weight;

typedef struct tensor_store tensor_store;

/* Opens folder/STEM.safetensors, or the shards that folder/STEM.safetensors.index.json names, trying each of the NULL-terminated
 * `stems` in turn ("diffusion_pytorch_model", "model"). Errors name the file and what is wrong with it. */
bool tensor_store_open(const char *folder, const char *const *stems, tensor_store **out, error *e);
/* How weights are read into memory of the process's own. */
typedef struct tensor_reading {
    bool (*claim)(void *context, size_t bytes,
                  error *e); /* asked before the memory for each file is taken; false: it is not taken. May be NULL */
    void (*progress)(void *context,
                     size_t bytes); /* so many more bytes were read; over a store they add up to tensor_store_bytes. May be NULL */
    void *context;
} tensor_reading;
/* As tensor_store_open, but reads the files into private memory and closes them: what happens to them afterwards does not matter. The
 * checks are the same; a file that becomes shorter meanwhile is an error and not a signal. */
bool tensor_store_read(const char *folder, const char *const *stems, const tensor_reading *how, tensor_store **out, error *e);
void tensor_store_free(tensor_store *s); /* NULL is fine */

const weight *tensor_store_find(const tensor_store *s, const char *name); /* NULL when there is none */
size_t tensor_store_count(const tensor_store *s);
const weight *tensor_store_at(const tensor_store *s, size_t index); /* in order of name, one behind the other in memory */
size_t tensor_store_bytes(const tensor_store *s);        /* of all files, wherever they are */
size_t tensor_store_mapped_bytes(const tensor_store *s);  /* of mapped files */
size_t tensor_store_private_bytes(const tensor_store *s); /* of files in private memory */
const char *tensor_store_folder(const tensor_store *s); /* for messages */

/* The files in memory: count, and the page-aligned address and length of each. For backends that wrap host memory. */
size_t tensor_store_file_count(const tensor_store *s);
void tensor_store_file(const tensor_store *s, size_t index, const void **address, size_t *length);

size_t weight_type_size(weight_type t);      /* bytes an element; 0 for WEIGHT_OTHER */
const char *weight_type_name(weight_type t); /* as the file spells it: "F32", "BF16", … */
/* Elements of any float type to f32, exactly. `data` may be unaligned. False for non-float types. */
bool weight_to_f32(weight_type t, const void *data, float *out, size_t count);

#endif
