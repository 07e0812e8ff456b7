/* The files that a part of a model is made of — its config.json and its weights — and when two folders hold the same part. */
#ifndef IMAGINED_MODELS_PART_FILES_H
#define IMAGINED_MODELS_PART_FILES_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/file_watch.h"

typedef struct part_files {
    file_watch watch;      /* config.json, the index of shards where there is one, the weight files */
    buffer identity;       /* the weight files, by device, inode, size and time, and the text of config.json */
    uint64_t weight_bytes; /* of the weight files */
} part_files;

/* Looks which files a load of this folder would take, and reads no weight. A missing file is no fault here: the load will name it. Errors:
 * an index that is none, memory. The result is yours, also on failure: part_files_free. */
bool part_files_read(const char *folder, part_files *out, error *e);
void part_files_free(part_files *f); /* takes a zeroed one */
/* Whether both name the same weights (hard links and symbolic links of one file are one) under the same config.json. */
bool part_files_same(const part_files *a, const part_files *b);

#endif
