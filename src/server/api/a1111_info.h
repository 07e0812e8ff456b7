/* What the answer to txt2img and img2img says of the pictures. */
#ifndef IMAGINED_SERVER_API_A1111_INFO_H
#define IMAGINED_SERVER_API_A1111_INFO_H

#include <yyjson.h>

#include "base/buffer.h"
#include "queue/task.h"

/* A task's adapter_data (a1111_request.h), read. Borrowed from its document. */
typedef struct a1111_data {
    yyjson_doc *doc; /* NULL: there is none, or it is damaged; then the rest is what A1111 would have without it */
    bool send_images;
    int batch_size;
    yyjson_val *extra, *parameters; /* may be NULL */
} a1111_data;

void a1111_data_read(const task *t, a1111_data *out);
void a1111_data_free(a1111_data *d);
/* "info", the text of a JSON object with every member that strict clients need. False without memory. */
bool a1111_info_write(const task *t, const a1111_data *d, buffer *out);
/* "20260131120000" of a time, as A1111 writes job_timestamp, but in UTC. Returns text. */
enum { A1111_TIME_BYTES = 16 };
const char *a1111_time(int64_t unix_ms, char text[A1111_TIME_BYTES]);

#endif
