/* Sends messages to other people's servers, on a thread of its own that waits for none of them: libcurl's multi interface.
 *
 * At most WEBHOOK_SENDING requests are under way, at most two of them to one host and port; hosts take turns, so that one that is slow
 * holds nobody but itself. A request gets WEBHOOK_SECONDS for everything, names' resolution included. No redirect is followed, no proxy
 * asked, TLS is verified, and what is answered beyond its status is not looked at. Each socket's address is judged by the guard before it
 * is connected.
 *
 * Functions are called from one thread, the loop's: watch webhook_sender_fd and take results when it is readable. */
#ifndef IMAGINED_SERVER_WEBHOOKS_WEBHOOK_SENDER_H
#define IMAGINED_SERVER_WEBHOOKS_WEBHOOK_SENDER_H

#include <stddef.h>
#include <stdint.h>

#include "server/webhooks/webhook_guard.h"
#include "server/webhooks/webhook_signature.h"

enum { WEBHOOK_SENDING = 32, WEBHOOK_SENDING_TO_ONE = 2, WEBHOOK_SECONDS = 15, WEBHOOK_ANSWER_BYTES = 64 << 10 };

typedef struct webhook_sender webhook_sender;

/* All borrowed for the sender's life. */
typedef struct webhook_sender_options {
    const webhook_guard *guard;
    const webhook_secrets *secrets;
    const char *authorities; /* a file of certificates to trust in place of the system's; "": those */
} webhook_sender_options;

typedef struct webhook_message {
    const char *id, *url, *body; /* copied; the URL was read by webhook_target_parse before */
    void *context;               /* comes back with the result */
} webhook_message;

typedef struct webhook_result {
    void *context;
    int status;                  /* 200…299: delivered; 0: no answer */
    bool unsent;                 /* no request was made: its address answered 410 to another meanwhile, which is the status then */
    int64_t retry_after_seconds; /* that the answer asks for; 0: nothing */
    char error[128];             /* why it was not delivered; "" where it was */
} webhook_result;

bool webhook_sender_new(const webhook_sender_options *options, webhook_sender **out, error *e);
/* Ends what is under way, without a result. NULL is fine. */
void webhook_sender_free(webhook_sender *s);
int webhook_sender_fd(const webhook_sender *s);
/* One attempt, with a result in any case; false, and none, without memory. */
bool webhook_sender_add(webhook_sender *s, const webhook_message *m, error *e);
/* The next result; false when there is none. */
bool webhook_sender_next(webhook_sender *s, webhook_result *out);

#endif
