/* GET / and GET /ui/{id}: the page and its files. */
#ifndef IMAGINED_SERVER_API_NATIVE_PAGE_H
#define IMAGINED_SERVER_API_NATIVE_PAGE_H

#include "server/http/http.h"

struct services;
struct page_file;

void native_get_page(struct services *s, http_exchange *x, const char *id);
void native_get_page_file(struct services *s, http_exchange *x, const char *id);
/* Answers with one of the files that were compiled in: plain or compressed, or 304 where the client has it. */
void native_answer_file(http_exchange *x, const struct page_file *f);

#endif
