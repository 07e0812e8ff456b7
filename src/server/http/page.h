/* Files that are compiled in, as they were when this was built: the page's, of ui/, and the native API's OpenAPI document. Written by
 * scripts/embed. */
#ifndef IMAGINED_SERVER_HTTP_PAGE_H
#define IMAGINED_SERVER_HTTP_PAGE_H

#include <stddef.h>

typedef struct page_file {
    const char *name;            /* "index.html" */
    const char *type;            /* with its charset */
    const char *tag;             /* a weak entity tag, quotes included: the same for both forms */
    const unsigned char *plain;
    size_t plain_size;
    const unsigned char *small; /* gzip */
    size_t small_size;
} page_file;

extern const page_file page_files[];
extern const size_t page_file_count;
extern const page_file openapi_files[]; /* one */
extern const size_t openapi_file_count;

#endif
