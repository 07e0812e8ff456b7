/* A picture's settings text (image/parameters.h has its form; A1111 and others write it too), taken apart. */
#ifndef IMAGINED_SERVER_API_A1111_INFOTEXT_H
#define IMAGINED_SERVER_API_A1111_INFOTEXT_H

#include <yyjson.h>

#include "server/http/http.h"

struct services;

/* {"Prompt", "Negative prompt", "Steps", …}: all members text; "Size: 512x768" becomes "Size-1" and "Size-2", as in A1111. Any text has
 * some such reading: what is no setting belongs to the prompts. NULL without memory. */
yyjson_mut_val *a1111_infotext_document(yyjson_mut_doc *doc, const char *text);

/* POST png-info: {"image": …} → {"info": the text, "items": {"parameters": …}, "parameters": the above}; info "" where the picture has
 * none. */
void a1111_png_info(struct services *s, http_exchange *x, const char *id);

#endif
