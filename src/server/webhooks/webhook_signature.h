/* The signatures of Standard Webhooks (standard-webhooks.md, "Signature scheme"): HMAC-SHA256 over "id.timestamp.body".
 *
 * A secret is "whsec_" and 24 to 64 bytes in base 64. Several, separated by commas, sign together, so that receivers can go from one to the
 * next. */
#ifndef IMAGINED_SERVER_WEBHOOKS_WEBHOOK_SIGNATURE_H
#define IMAGINED_SERVER_WEBHOOKS_WEBHOOK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { WEBHOOK_SECRETS = 4, WEBHOOK_SECRET_LEAST = 24, WEBHOOK_SECRET_MOST = 64, WEBHOOK_SIGNATURE_BYTES = WEBHOOK_SECRETS * 48 };

typedef struct webhook_secrets {
    struct {
        uint8_t bytes[WEBHOOK_SECRET_MOST];
        size_t size;
    } of[WEBHOOK_SECRETS];
    int count;
} webhook_secrets;

/* ERROR_INVALID where it is none, none of them or too many; `source` says in the error where it came from, the text itself never. */
bool webhook_secrets_parse(const char *text, const char *source, webhook_secrets *out, error *e);
/* The secret of the file, which is made (32 random bytes, mode 0600) where it is missing; *made tells. */
bool webhook_secrets_keep(const char *path, webhook_secrets *out, bool *made, error *e);
/* What goes into the header webhook-signature: "v1,…", one for each secret, with blanks between. False without memory. */
bool webhook_sign(const webhook_secrets *s, const char *id, int64_t unix_seconds, const char *body, size_t size,
                  char out[WEBHOOK_SIGNATURE_BYTES], error *e);

#endif
