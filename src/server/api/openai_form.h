/* The form that edits come in (multipart/form-data): its text fields as the JSON object that a generation would have been, and its
 * pictures.
 *
 * In a form everything is text: fields that are numbers or truth values become such; where they are none they stay text, and whoever
 * reads them complains. An empty value or "null" of such a field counts as absent. Of a field that comes twice the first counts; unknown
 * ones are left out. */
#ifndef IMAGINED_SERVER_API_OPENAI_FORM_H
#define IMAGINED_SERVER_API_OPENAI_FORM_H

#include "base/buffer.h"
#include "base/json.h"

typedef enum openai_picture { OPENAI_IMAGE, OPENAI_MASK, OPENAI_PICTURES } openai_picture;

typedef struct openai_form {
    json_document fields;                /* an object */
    buffer pictures[OPENAI_PICTURES];    /* the files as they came; size 0: none */
    int images;                          /* how many came as `image`; the first is the one above */
} openai_form;

/* Copies what it needs of the body. `silent`: a form that has no prompt gets an empty one. ERROR_INVALID for what is no such form, or no
 * UTF-8; on failure *out is empty. */
bool openai_form_read(const char *content_type, const buffer *body, bool silent, openai_form *out, error *e);
/* A zeroed one is fine. */
void openai_form_free(openai_form *f);

#endif
