/* OpenAI's streamed pictures: Server-Sent Events image_generation.partial_image and .completed (image_edit… for edits), then [DONE].
 *
 * Partial images are the latent's previews (server/pictures/previews.h), spread over the steps and enlarged; of several pictures, those of
 * the first. Where fewer previews come than were asked for there are fewer. After an `error` event nothing follows. */
#ifndef IMAGINED_SERVER_API_OPENAI_STREAM_H
#define IMAGINED_SERVER_API_OPENAI_STREAM_H

#include "server/api/openai_request.h"
#include "server/http/http.h"

/* Nothing here is paid by the token. */
#define OPENAI_NO_USAGE                                                                                         \
    "{\"total_tokens\":0,\"input_tokens\":0,\"input_tokens_details\":{\"image_tokens\":0,\"text_tokens\":0},"   \
    "\"output_tokens\":0,\"output_tokens_details\":{\"image_tokens\":0,\"text_tokens\":0}}"

struct services;

/* Answers with the events of this task, which is the request's own: it is cancelled when the client leaves. False: nothing was answered. */
bool openai_stream_begin(struct services *s, http_exchange *x, task *t, const openai_choices *choices, error *e);

#endif
