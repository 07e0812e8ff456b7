/* The pictures that a request names, for every API that takes them by name: from "image", "mask", "strength" and "mask_source" to a
 * task_request.
 *
 * A name is the id of an input or of a made picture, or its address, "/api/images/{id}". A made picture is copied into the inputs before
 * the task is made, so that it may go while the task waits; that takes a moment, after which the request is read again:
 *
 *     request_pictures p = {0};
 *     …
 *     if (!request_pictures_read(s, x, body, model, &p, &request, &why)) … refuse …
 *     if (p.wanted[0] != '\0') … request_pictures_adopt(s, x, &p, again, context, &why) … and in `again` the same from the top, with this p
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_REQUESTS_REQUEST_PICTURES_H
#define IMAGINED_SERVER_REQUESTS_REQUEST_PICTURES_H

#include "base/json.h"
#include "models/model_folder.h"
#include "queue/task.h"
#include "server/http/http.h"
#include "server/pictures/input_store.h"
#include "server/pictures/picture_store.h"
#include "server/requests/uploads.h"

typedef struct request_pictures {
    struct {
        char picture[PICTURE_ID_BYTES], input[INPUT_ID_BYTES];
    } adopted[2];
    int count;                     /* of these */
    char wanted[PICTURE_ID_BYTES]; /* a made picture that must be adopted first; "": none */
} request_pictures;

struct services;
/* Fills in image, mask, strength and mask_is_alpha of *io, and with an image its size (model_size_for_picture). To be called before
 * request_fields_read, which reads width and height over that. Texts are borrowed from the document and from *p.
 * ERROR_INVALID names the field at fault. */
bool request_pictures_read(struct services *s, const http_exchange *x, json body, const model_info *model, request_pictures *p,
                           task_request *io, error *e);
/* Copies p->wanted into the inputs and calls `done`, which calls request_pictures_adopted first. False: it will not be called. */
bool request_pictures_adopt(struct services *s, http_exchange *x, const request_pictures *p, upload_answer done, void *context, error *e);
void request_pictures_adopted(request_pictures *p, const input *i);

#endif
