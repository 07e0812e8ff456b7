#include "server/owner.h"

#include <stdint.h>
#include <stdio.h>

const char *owner_of(const http_exchange *x, char text[OWNER_BYTES]) {
    const char *authorization = http_header(x, "authorization");
    if (authorization == NULL || authorization[0] == '\0') return NULL;
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *authorization != '\0'; authorization++) hash = (hash ^ (unsigned char)*authorization) * 1099511628211u;
    snprintf(text, OWNER_BYTES, "key-%016llx", (unsigned long long)hash);
    return text;
}
