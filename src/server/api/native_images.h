/* /api/images: made pictures and the inputs that clients bring. */
#ifndef IMAGINED_SERVER_API_NATIVE_IMAGES_H
#define IMAGINED_SERVER_API_NATIVE_IMAGES_H

#include "server/http/router.h"

enum { NATIVE_UPLOAD_BYTES = 32 << 20 };

void native_post_image(struct services *s, http_exchange *x, const char *id);
void native_list_images(struct services *s, http_exchange *x, const char *id);
void native_get_image(struct services *s, http_exchange *x, const char *id);
void native_delete_image(struct services *s, http_exchange *x, const char *id);

#endif
