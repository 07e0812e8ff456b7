/* POST txt2img and img2img: the picture comes with the answer, and the task is cancelled when its client leaves. */
#ifndef IMAGINED_SERVER_API_A1111_GENERATE_H
#define IMAGINED_SERVER_API_A1111_GENERATE_H

#include "server/http/http.h"

struct services;

enum { A1111_BODY_BYTES = 64 << 20 };

void a1111_txt2img(struct services *s, http_exchange *x, const char *id);
void a1111_img2img(struct services *s, http_exchange *x, const char *id);

#endif
