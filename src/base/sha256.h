/* SHA-256 (FIPS 180-4): names for contents that nobody can make two of. */
#ifndef IMAGINED_BASE_SHA256_H
#define IMAGINED_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_TEXT_BYTES = 2 * SHA256_BYTES + 1 };

void sha256(const void *bytes, size_t size, uint8_t out[SHA256_BYTES]);
/* Their code under a key that only two sides know (HMAC, RFC 2104). */
void sha256_hmac(const void *key, size_t key_size, const void *bytes, size_t size, uint8_t out[SHA256_BYTES]);
/* sha256 as 64 lower-case hexadecimal digits. */
void sha256_text(const void *bytes, size_t size, char out[SHA256_TEXT_BYTES]);

#endif
