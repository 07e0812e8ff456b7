/* Pictures that bear a tag, by which clients ask whether they have them already (If-None-Match). */
#ifndef IMAGINED_SERVER_API_NATIVE_TAGGED_H
#define IMAGINED_SERVER_API_NATIVE_TAGGED_H

#include "server/http/http.h"
#include "server/pictures/input_store.h"
#include "server/pictures/transcoder.h"

struct services;

typedef struct native_tag {
    char text[INPUT_ID_BYTES + 16]; /* with its quotation marks */
    bool lasts; /* what is stored under an id, which never changes: it may be kept for ever; else it is not to be stored */
} native_tag;

/* Adds the headers: the tag, and how long the picture may be kept. */
void native_tag_add(http_exchange *x, const native_tag *tag);
/* True when the client has it already, and was told so. */
bool native_tag_answer_had(http_exchange *x, const native_tag *tag);
/* Answers with what the job makes, or with what went wrong. Takes the job's pixels, whatever happens. */
void native_tag_answer_made(struct services *s, http_exchange *x, const transcode *job, const native_tag *tag);

#endif
