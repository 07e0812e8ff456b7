/* Picture files from mutated, cut and random bytes, in each format: never a crash, no more memory than the caps allow, a complaint that is
 * the file's fault in one sentence; what is accepted is what its head said, within the caps. Also EXIF blocks, and files that unpack to far
 * more than they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zlib.h>
#include <jpeglib.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "image/exif.h"
#include "image/image.h"
#include "mutate.h"

enum { SIDE = 24, ROUNDS = 6000 };

static void check_error(const error *e) {
    if (e->code != ERROR_INVALID && e->code != ERROR_UNSUPPORTED && e->code != ERROR_TOO_LARGE)
        fail_msg("%s: %s", error_code_name(e->code), e->text);
    assert_true(e->text[0] != '\0' && strchr(e->text, '\n') == NULL && utf8_valid(e->text, strlen(e->text), NULL));
}

static int accepted, refused;

static void check(const uint8_t *bytes, size_t size) {
    image_info info;
    image i;
    buffer text = {0};
    error e = {0};
    uint8_t *exact = exact_copy(bytes, size);
    bool probed = image_probe(exact, size, &info, &e);
    if (!probed) check_error(&e);
    else assert_true(info.width >= 1 && info.height >= 1 && (long long)info.width * info.height <= IMAGE_MAX_PIXELS);
    e = (error){0};
    /* A mutated head may claim megapixels; those are tried, too, but not often. */
    if (!probed || (long long)info.width * info.height < 1 << 20 || size % 16 == 0) {
        if (image_decode(exact, size, &i, &e)) {
            assert_true(probed && i.width == info.width && i.height == info.height && i.channels == info.channels);
            accepted++;
        } else {
            check_error(&e);
            assert_null(i.pixels);
            refused++;
        }
        image_free(&i);
    }
    e = (error){0};
    if (!image_metadata_read(exact, size, &text, &e)) check_error(&e);
    assert_true(utf8_valid(buffer_text(&text), text.size, NULL) && text.size <= IMAGE_TEXT_MAX_BYTES);
    buffer_free(&text);
    text = (buffer){0};
    exif_comment(exact, size, &text);
    assert_in_range(exif_orientation(exact, size), 1, 8);
    assert_true(utf8_valid(buffer_text(&text), text.size, NULL));
    buffer_free(&text);
    free(exact);
}

static void mutate(const buffer *seed, uint64_t *random, int rounds) {
    uint8_t *copy = malloc(seed->size);
    for (int round = 0; round < rounds; round++) {
        size_t size = seed->size, changes = next_random(random) % 6, head = next_random(random) % 2 == 0 ? 64 : size;
        if (head > size) head = size;
        memcpy(copy, seed->data, size);
        for (size_t n = 0; n < changes; n++) copy[next_random(random) % head] = (uint8_t)next_random(random);
        if (next_random(random) % 3 == 0) size = next_random(random) % (size + 1);
        check(copy, size);
    }
    free(copy);
}

static void add(const image *i, image_format f, int quality, const char *text, uint64_t *random) {
    buffer b = {0};
    error e = {0};
    assert_true(image_encode(i, f, quality, text, &b, &e));
    check((const uint8_t *)b.data, b.size);
    mutate(&b, random, ROUNDS);
    buffer_free(&b);
}

static void mutated_pictures_do_no_harm(void **state) {
    image i;
    error e = {0};
    uint64_t random = 88172645463325252u;
    image_format f = (image_format)(intptr_t)*state;
    accepted = refused = 0;
    for (int channels = 3; channels <= (f == IMAGE_JPEG ? 3 : 4); channels++) {
        assert_true(image_new(SIDE, SIDE, channels, &i, &e));
        for (int n = 0; n < SIDE * SIDE * channels; n++) i.pixels[n] = (uint8_t)(next_random(&random) % 64 + (unsigned)n % 128);
        add(&i, f, 75, NULL, &random);
        add(&i, f, 100, "a fox 狐\nSteps: 8", &random);
        image_free(&i);
    }
    assert_true(accepted > 100 && refused > 100);
}

static void random_bytes_behind_each_signature_do_no_harm(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } heads[] = {{"\x89PNG\r\n\x1a\n", 8}, {"\xFF\xD8\xFF", 3}, {"RIFF\x40\0\0\0WEBPVP8 ", 16}, {"RIFF\x40\0\0\0WEBPVP8L", 16},
                 {"RIFF\x40\0\0\0WEBPVP8X", 16}, {"", 0}, {"MM\0*\0\0\0\x08", 8}, {"II*\0\x08\0\0\0", 8}};
    uint64_t random = 362436069u;
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (int round = 0; round < 3000; round++) {
            uint8_t bytes[96];
            size_t size = heads[h].size + next_random(&random) % (sizeof bytes - heads[h].size);
            for (size_t n = 0; n < sizeof bytes; n++)
                bytes[n] = (uint8_t)(next_random(&random) >> (next_random(&random) % 2 * 7)) & (n % 3 == 0 ? 255 : 15);
            memcpy(bytes, heads[h].bytes, heads[h].size);
            check(bytes, size);
        }
}

/* --- bombs --- */

static void put_chunk(buffer *b, const char *type, const void *data, size_t size) {
    uint32_t crc = (uint32_t)crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)size);
    for (int k = 24; k >= 0; k -= 8) buffer_append_byte(b, (char)(size >> k));
    buffer_append(b, type, 4);
    buffer_append(b, data, size);
    for (int k = 24; k >= 0; k -= 8) buffer_append_byte(b, (char)(crc >> k));
}

static buffer zeros_packed(size_t size) {
    uint8_t *zeros = calloc(1, size);
    uLongf packed = compressBound(size);
    buffer b = {0};
    assert_int_equal(compress2((Bytef *)buffer_reserve(&b, packed), &packed, zeros, size, 9), Z_OK);
    b.size = packed;
    free(zeros);
    return b;
}

static long peak_kilobytes(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

/* Texts, profiles and pixels of 64 MB in a few kilobytes: what would not be used is not unpacked, and what is has its cap. */
static void a_small_png_does_not_unpack_to_much(void **state) {
    (void)state;
    buffer packed = zeros_packed(64 << 20);
    static const char *const types[] = {"zTXt", "iTXt", "iCCP", "IDAT", "IDAT"};
    static const char *const heads[] = {"parameters\0", "parameters\0\1\0\0\0", "profile\0", "", ""};
    static const size_t head_sizes[] = {12, 15, 9, 0, 0};
    long before = peak_kilobytes();
    for (int t = 0; t < 5; t++) {
        buffer b = {0}, data = {0};
        buffer_append(&b, "\x89PNG\r\n\x1a\n", 8);
        /* The fourth has one pixel and far too much behind it, the fifth is beyond the cap. */
        put_chunk(&b, "IHDR", t < 4 ? "\0\0\0\1\0\0\0\1\x08\2\0\0\0" : "\0\0\x40\0\0\0\x40\0\x08\2\0\0\0", 13);
        buffer_append(&data, heads[t], head_sizes[t]);
        buffer_append(&data, packed.data, packed.size);
        for (int n = 0; n < 8; n++) put_chunk(&b, types[t], data.data, data.size);
        buffer pixel = zeros_packed(4);
        if (t < 3) put_chunk(&b, "IDAT", pixel.data, pixel.size);
        put_chunk(&b, "IEND", "", 0);
        check((const uint8_t *)b.data, b.size);
        buffer_free(&pixel);
        buffer_free(&data);
        buffer_free(&b);
    }
    buffer_free(&packed);
    assert_true(peak_kilobytes() - before < 48 * 1024);
}

/* A grey progressive JPEG whose script refines one coefficient over and over would cost a picture's work a scan. */
static void a_jpeg_of_endless_scans_is_refused(void **state) {
    (void)state;
    struct jpeg_compress_struct j = {0};
    struct jpeg_error_mgr faults;
    unsigned char *memory = NULL;
    unsigned long size = 0;
    j.err = jpeg_std_error(&faults);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &memory, &size);
    j.image_width = j.image_height = 64;
    j.input_components = 1;
    j.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&j);
    jpeg_simple_progression(&j);
    jpeg_start_compress(&j, TRUE);
    uint8_t line[64] = {0};
    JSAMPROW row = line;
    for (int y = 0; y < 64; y++) jpeg_write_scanlines(&j, &row, 1);
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    /* The last scan (from its SOS on) again and again. */
    size_t last = size - 2;
    while (last > 0 && (memory[last] != 0xFF || memory[last + 1] != 0xDA)) last--;
    buffer b = {0};
    buffer_append(&b, memory, size - 2);
    image i;
    error e = {0};
    for (int n = 0; n < 5000; n++) buffer_append(&b, memory + last, size - 2 - last);
    buffer_append(&b, memory + size - 2, 2);
    assert_false(image_decode(b.data, b.size, &i, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(e.text, "scans"));
    assert_true(image_decode(memory, size, &i, &e));
    image_free(&i);
    buffer_free(&b);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(mutated_pictures_do_no_harm, (void *)(intptr_t)IMAGE_PNG),
        cmocka_unit_test_prestate(mutated_pictures_do_no_harm, (void *)(intptr_t)IMAGE_JPEG),
        cmocka_unit_test_prestate(mutated_pictures_do_no_harm, (void *)(intptr_t)IMAGE_WEBP),
        cmocka_unit_test(random_bytes_behind_each_signature_do_no_harm),
        cmocka_unit_test(a_small_png_does_not_unpack_to_much),
        cmocka_unit_test(a_jpeg_of_endless_scans_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
