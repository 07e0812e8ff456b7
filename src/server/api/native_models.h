/* The native API's handlers about models and the memory they take; native.c has the table. */
#ifndef IMAGINED_SERVER_API_NATIVE_MODELS_H
#define IMAGINED_SERVER_API_NATIVE_MODELS_H

#include "server/http/http.h"

struct services;

void native_get_models(struct services *s, http_exchange *x, const char *id);
void native_load_model(struct services *s, http_exchange *x, const char *id);    /* answers when it is loaded */
void native_preload_model(struct services *s, http_exchange *x, const char *id); /* 202 */
void native_unload_model(struct services *s, http_exchange *x, const char *id);  /* 409 while it is in use */
void native_cleanup(struct services *s, http_exchange *x, const char *id);

#endif
