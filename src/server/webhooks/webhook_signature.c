#include "server/webhooks/webhook_signature.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/sha256.h"

#define PREFIX "whsec_"
enum { MADE_BYTES = 32, FILE_BYTES = 4096 };

static bool parse_one(const char *text, size_t size, const char *source, webhook_secrets *out, error *e) {
    size_t prefix = strlen(PREFIX), n = 0;
    uint8_t bytes[BASE64_BYTES(BASE64_SIZE(WEBHOOK_SECRET_MOST))];
    bool ok = out->count < WEBHOOK_SECRETS && size > prefix && size - prefix <= BASE64_SIZE(WEBHOOK_SECRET_MOST) &&
              memcmp(text, PREFIX, prefix) == 0 && base64_decode(text + prefix, size - prefix, bytes, &n, NULL) &&
              n >= WEBHOOK_SECRET_LEAST && n <= WEBHOOK_SECRET_MOST;
    if (!ok)
        return error_set(e, ERROR_INVALID,
                         "%s: a secret must be whsec_ and %d to %d bytes in base 64 (echo whsec_$(openssl rand -base64 32)); at most %d, separated by commas", source, WEBHOOK_SECRET_LEAST, WEBHOOK_SECRET_MOST, WEBHOOK_SECRETS);
    memcpy(out->of[out->count].bytes, bytes, n);
    out->of[out->count++].size = n;
    return true;
}

bool webhook_secrets_parse(const char *text, const char *source, webhook_secrets *out, error *e) {
    *out = (webhook_secrets){0};
    for (;;) {
        text += strspn(text, ", \t\r\n");
        size_t size = strcspn(text, ", \t\r\n");
        if (size == 0) break;
        if (!parse_one(text, size, source, out, e)) return false;
        text += size;
    }
    return out->count > 0 || parse_one("", 0, source, out, e);
}

static bool make(char text[128], error *e) {
    uint8_t random[MADE_BYTES];
    ssize_t n;
    do n = getrandom(random, sizeof random, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof random) return error_set(e, ERROR_INTERNAL, "the system gives no random numbers");
    char coded[BASE64_SIZE(MADE_BYTES) + 1] = "";
    base64_encode(random, sizeof random, coded);
    snprintf(text, 128, PREFIX "%s\n", coded);
    return true;
}

bool webhook_secrets_keep(const char *path, webhook_secrets *out, bool *made, error *e) {
    buffer text = {0};
    error why = {0};
    char fresh[128];
    *made = false;
    bool ok = file_read(path, FILE_BYTES, &text, &why);
    if (!ok && why.code == ERROR_NOT_FOUND) {
        ok = make(fresh, &why) && file_replace_private(path, fresh, strlen(fresh), &why);
        if (ok) buffer_append_text(&text, fresh);
        *made = ok;
    }
    if (ok && !buffer_ok(&text)) ok = error_no_memory(&why, path, FILE_BYTES);
    ok = ok && webhook_secrets_parse(buffer_text(&text), path, out, &why);
    buffer_free(&text);
    if (!ok && e != NULL) *e = why;
    return ok;
}

bool webhook_sign(const webhook_secrets *s, const char *id, int64_t unix_seconds, const char *body, size_t size,
                  char out[WEBHOOK_SIGNATURE_BYTES], error *e) {
    buffer signed_text = {0};
    buffer_printf(&signed_text, "%s.%lld.", id, (long long)unix_seconds);
    buffer_append(&signed_text, body, size);
    if (!buffer_ok(&signed_text)) {
        buffer_free(&signed_text);
        return error_no_memory(e, "a message's signature", size);
    }
    char *at = out;
    for (int i = 0; i < s->count; i++) {
        uint8_t code[SHA256_BYTES];
        sha256_hmac(s->of[i].bytes, s->of[i].size, signed_text.data, signed_text.size, code);
        at += sprintf(at, "%sv1,", i > 0 ? " " : "");
        base64_encode(code, sizeof code, at);
        at += BASE64_SIZE(SHA256_BYTES);
        *at = '\0';
    }
    buffer_free(&signed_text);
    return true;
}
