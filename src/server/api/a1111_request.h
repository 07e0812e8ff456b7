/* From a body of txt2img or img2img to a task. docs/a1111.md says what each field means here. */
#ifndef IMAGINED_SERVER_API_A1111_REQUEST_H
#define IMAGINED_SERVER_API_A1111_REQUEST_H

#include "base/arena.h"
#include "base/json.h"
#include "queue/task.h"

struct services;

enum { A1111_ECHO_BYTES = 64 << 10, A1111_ECHO_MEMBER_BYTES = 16 << 10 };

/* A text of the body, borrowed from it; NULL: it has none. */
typedef struct a1111_text {
    const char *text;
    size_t size;
} a1111_text;

typedef struct a1111_request {
    arena memory;
    task_request task;        /* strings in .memory, with adapter and adapter_data; .owner is the caller's to set */
    a1111_text picture, mask; /* in base 64 */
    bool mask_inverted;
    bool has_size; /* else the picture decides, once it is read */
} a1111_request;

/* Fills *out; free its memory when the task was submitted. Bodies of img2img need a picture (ERROR_NOT_FOUND). task.adapter_data is a JSON
 * object: "parameters", what of the request is told back, about A1111_ECHO_BYTES at most; "send_images"; "batch_size"; "extra", what info
 * says of things that are not as they were asked for. */
bool a1111_request_read(struct services *s, json body, bool img2img, a1111_request *out, error *e);
void a1111_request_free(a1111_request *r); /* takes a zeroed one */

#endif
