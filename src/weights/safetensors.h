/* One safetensors file, memory-mapped or read into memory, its header checked in full. tensor_store.h puts files together; nothing else
 * uses this. */
#ifndef IMAGINED_WEIGHTS_SAFETENSORS_H
#define IMAGINED_WEIGHTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "weights/tensor_store.h"

/* The reference implementation's cap on the header. */
enum { SAFETENSORS_MAX_HEADER_BYTES = 100 * 1000 * 1000 };

typedef struct safetensors safetensors;

/* Maps the file and checks its header: nothing of the data is read. ERROR_NOT_FOUND, ERROR_BAD_FILE, ERROR_UNSUPPORTED (an array of more
 * than WEIGHT_MAX_RANK dimensions), … with the file's name and what is wrong. */
bool safetensors_open(const char *path, safetensors **out, error *e);
/* The same for a file that is read into private memory (page-aligned, as a mapping is) and closed again. */
bool safetensors_read(const char *path, const tensor_reading *how, safetensors **out, error *e);
void safetensors_free(safetensors *s); /* NULL is fine */

const char *safetensors_path(const safetensors *s);
size_t safetensors_count(const safetensors *s);
const weight *safetensors_at(const safetensors *s, size_t index); /* in order of name; valid until freed */
bool safetensors_is_private(const safetensors *s); /* read, not mapped */
/* The whole file in memory, from its first byte. */
void safetensors_mapping(const safetensors *s, const void **address, size_t *length);

#endif
