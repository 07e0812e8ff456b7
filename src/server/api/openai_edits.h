/* Pictures made from pictures: POST /v1/images/edits and /variations. */
#ifndef IMAGINED_SERVER_API_OPENAI_EDITS_H
#define IMAGINED_SERVER_API_OPENAI_EDITS_H

#include "server/http/http.h"

enum { OPENAI_FORM_BYTES = 64 << 20 };

struct services;

void openai_edit(struct services *s, http_exchange *x, const char *id);
void openai_vary(struct services *s, http_exchange *x, const char *id);

#endif
