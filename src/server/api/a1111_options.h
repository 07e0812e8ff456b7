/* A1111's settings, of which one means something here: the model. */
#ifndef IMAGINED_SERVER_API_A1111_OPTIONS_H
#define IMAGINED_SERVER_API_A1111_OPTIONS_H

#include "server/http/http.h"

struct services;

/* GET and POST options. What GET answers can be sent back as it is. */
void a1111_get_options(struct services *s, http_exchange *x, const char *id);
void a1111_set_options(struct services *s, http_exchange *x, const char *id);

#endif
