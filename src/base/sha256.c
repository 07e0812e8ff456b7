#include "base/sha256.h"

#include <string.h>

enum { BLOCK = 64 };

static const uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void add_block(uint32_t state[8], const uint8_t *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++, p += 4) w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t first = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + rounds[i] + w[i];
        uint32_t second = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + second;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
}

static const uint32_t beginning[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* What is left after `before` bytes, whole blocks that are in the state already. */
static void end(uint32_t state[8], size_t before, const void *bytes, size_t size, uint8_t out[SHA256_BYTES]) {
    uint8_t last[2 * BLOCK] = {0};
    const uint8_t *p = bytes;
    size_t left = size;
    for (; left >= BLOCK; left -= BLOCK, p += BLOCK) add_block(state, p);
    /* The rest, a one, zeros, and the count of bits in the last eight bytes of a block. */
    size_t padded = left < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    if (left > 0) memcpy(last, p, left);
    last[left] = 0x80;
    for (size_t i = 0; i < 8; i++) last[padded - 1 - i] = (uint8_t)(((uint64_t)before + size) * 8 >> 8 * i);
    for (size_t at = 0; at < padded; at += BLOCK) add_block(state, last + at);
    for (int i = 0; i < SHA256_BYTES; i++) out[i] = (uint8_t)(state[i / 4] >> (24 - i % 4 * 8));
}

void sha256(const void *bytes, size_t size, uint8_t out[SHA256_BYTES]) {
    uint32_t state[8];
    memcpy(state, beginning, sizeof state);
    end(state, 0, bytes, size, out);
}

static void begin_with_key(uint32_t state[8], const uint8_t key[BLOCK], uint8_t pad) {
    uint8_t block[BLOCK];
    for (int i = 0; i < BLOCK; i++) block[i] = key[i] ^ pad;
    memcpy(state, beginning, sizeof beginning);
    add_block(state, block);
}

void sha256_hmac(const void *key, size_t key_size, const void *bytes, size_t size, uint8_t out[SHA256_BYTES]) {
    uint8_t block[BLOCK] = {0}, inner[SHA256_BYTES];
    uint32_t state[8];
    if (key_size > BLOCK) sha256(key, key_size, block);
    else if (key_size > 0) memcpy(block, key, key_size);
    begin_with_key(state, block, 0x36);
    end(state, BLOCK, bytes, size, inner);
    begin_with_key(state, block, 0x5c);
    end(state, BLOCK, inner, sizeof inner, out);
}

void sha256_text(const void *bytes, size_t size, char out[SHA256_TEXT_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t hash[SHA256_BYTES];
    sha256(bytes, size, hash);
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[SHA256_TEXT_BYTES - 1] = '\0';
}
