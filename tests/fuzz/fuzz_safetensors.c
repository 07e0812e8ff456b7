/* Mutated safetensors files: refused in words, or every array lies within the file and can be read. Never a crash. The same files in every
 * run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "weights/safetensors.h"
#include "mutate.h"

enum { ROUNDS = 60000, CAPACITY = 4096, DATA_BYTES = 48 };

static const char *const headers[] = {
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[12],\"data_offsets\":[24,48]}}",
    "{\"one\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},\"two\":{\"dtype\":\"I64\",\"shape\":[1,5],\"data_offsets\":[8,48]},"
    "\"none\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[8,8]}}   ",
    "{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[48],\"data_offsets\":[0,48]}}",
    "{}",
};

static const char *const morsels[] = {
    "-1", "0", "1", "24", "48", "49", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
    "1e3", "0.5", "null", "true", "[]", "{}", "\"\"", "[0,48]", "[48,0]", "\"F32\"", "\"BOOL\"", "\\u0000", "\"a\":", ",", ":", "]", "}", "[", "{", "\xff\xfe",
    "\"a\":{\"dtype\":\"F32\",\"shape\":[12],\"data_offsets\":[0,48]},",
};

typedef struct image {
    unsigned char bytes[CAPACITY];
    size_t size;
    uint64_t header; /* its length as built, before mutation */
} image;

static size_t below(uint64_t *state, size_t bound) { return bound > 0 ? (size_t)(next_random(state) % bound) : 0; }

static void build(image *m, const char *header) {
    m->header = strlen(header);
    memcpy(m->bytes, &m->header, 8);
    memcpy(m->bytes + 8, header, m->header);
    memset(m->bytes + 8 + m->header, 0x3c, DATA_BYTES);
    m->size = 8 + m->header + DATA_BYTES;
}

/* Puts text in place of `gone` bytes at `at`, and half of the time tells the header's length so. */
static void splice(image *m, size_t at, size_t gone, const char *text, bool honest) {
    size_t length = strlen(text);
    if (at + gone > m->size) gone = m->size - at;
    if (m->size - gone + length > CAPACITY) return;
    memmove(m->bytes + at + length, m->bytes + at + gone, m->size - at - gone);
    memcpy(m->bytes + at, text, length);
    m->size = m->size - gone + length;
    m->header = m->header - gone + length;
    if (honest) memcpy(m->bytes, &m->header, 8);
}

static void mutate(image *m, uint64_t *random) {
    size_t at = below(random, m->size);
    switch (below(random, 6)) {
    case 0: m->bytes[at] ^= (unsigned char)(1u << below(random, 8)); break;
    case 1: m->bytes[at] = (unsigned char)next_random(random); break;
    case 2: m->size = at; break;
    case 3: memcpy(m->bytes, &(uint64_t){next_random(random) >> below(random, 64)}, 8); break;
    case 4:
        splice(m, 8 + below(random, (size_t)m->header), below(random, 4), morsels[below(random, sizeof morsels / sizeof *morsels)], true);
        break;
    default: {
        /* A number, where there is one from here on, becomes another. */
        while (at < m->size && (m->bytes[at] < '0' || m->bytes[at] > '9')) at++;
        size_t digits = 0;
        while (at + digits < m->size && m->bytes[at + digits] >= '0' && m->bytes[at + digits] <= '9') digits++;
        splice(m, at, digits, morsels[below(random, 11)], below(random, 2) == 0);
    }
    }
}

static volatile unsigned char sink;

static void check(const safetensors *s) {
    const void *address;
    size_t length;
    safetensors_mapping(s, &address, &length);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const weight *w = safetensors_at(s, i);
        const unsigned char *data = w->data;
        assert_true(data >= (const unsigned char *)address && w->size <= length &&
                    data + w->size <= (const unsigned char *)address + length);
        assert_in_range(w->rank, 0, WEIGHT_MAX_RANK);
        if (i > 0) assert_true(strcmp(safetensors_at(s, i - 1)->name, w->name) < 0);
        if (w->size > 0) sink = data[0] ^ data[w->size - 1];
        if (w->type == WEIGHT_OTHER) continue;
        size_t elements = 1;
        for (int d = 0; d < w->rank; d++) elements *= (size_t)w->shape[d];
        assert_int_equal(elements * weight_type_size(w->type), w->size);
    }
}

static void mutated_files_are_refused_or_sound(void **state) {
    (void)state;
    uint64_t random = 20240801;
    int fd = memfd_create("weights", MFD_CLOEXEC), opened = 0, refused = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int round = 0; round < ROUNDS; round++) {
        image m;
        build(&m, headers[below(&random, sizeof headers / sizeof *headers)]);
        for (size_t n = below(&random, 4); n > 0 && m.size > 8; n--) mutate(&m, &random);
        assert_int_equal(ftruncate(fd, (off_t)m.size), 0);
        assert_int_equal(pwrite(fd, m.bytes, m.size, 0), (ssize_t)m.size);
        safetensors *s;
        error e = {0};
        if (round % 2 == 0 ? safetensors_open(path, &s, &e) : safetensors_read(path, &(tensor_reading){0}, &s, &e)) {
            check(s);
            safetensors_free(s);
            opened++;
        } else {
            assert_null(s);
            assert_true(e.code == ERROR_BAD_FILE || e.code == ERROR_UNSUPPORTED);
            assert_true(e.text[0] != '\0');
            refused++;
        }
    }
    close(fd);
    print_message("    %d opened, %d refused\n", opened, refused);
    assert_true(opened > ROUNDS / 10 && refused > ROUNDS / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutated_files_are_refused_or_sound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
