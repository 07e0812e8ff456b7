/* sentencepiece's model file (spiece.model): a protobuf message, of which we need the pieces and the normaliser's charsmap.
 *
 * ModelProto: field 1 repeated SentencePiece {1 piece, 2 score, 3 type}, field 3 NormalizerSpec {2 precompiled_charsmap}. */
#ifndef IMAGINED_TEXT_SPIECE_H
#define IMAGINED_TEXT_SPIECE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef enum spiece_type { SPIECE_NORMAL = 1, SPIECE_UNKNOWN, SPIECE_CONTROL, SPIECE_USER_DEFINED, SPIECE_UNUSED, SPIECE_BYTE } spiece_type;

/* What the reader finds, in the file's order; borrowed from the file's bytes. A false return stops it (the callee fills the error). */
typedef struct spiece_visitor {
    void *context;
    bool (*piece)(void *context, const char *text, size_t size, float score, spiece_type type, error *e);
    bool (*charsmap)(void *context, const void *bytes, size_t size, error *e);
} spiece_visitor;

/* `source` names the file in errors (ERROR_BAD_FILE for what is not well-formed). */
bool spiece_read(const void *bytes, size_t size, const char *source, const spiece_visitor *v, error *e);

#endif
