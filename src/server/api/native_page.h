/* GET / and GET /ui/{id}: the page and its files. */
#ifndef IMAGINED_SERVER_API_NATIVE_PAGE_H
#define IMAGINED_SERVER_API_NATIVE_PAGE_H

#include "server/http.h"

struct services;

void native_get_page(struct services *s, http_exchange *x, const char *id);
void native_get_page_file(struct services *s, http_exchange *x, const char *id);

#endif
