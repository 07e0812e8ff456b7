/* PNG to pixels, with libpng; and PNG's row in the table of formats. png.c writes. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "image/codec.h"
#include "image/png.h"

enum { CHUNK_MAX_BYTES = 8 << 20 }; /* of any chunk but the pixels', once unpacked */

/* As in png.c: libpng must not return from an error, and what survives the jump lives here. */
typedef struct reader {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t size, at;
    error *e;
    bool starved;
} reader;

static void on_error(png_structp png, png_const_charp message) {
    reader *r = png_get_error_ptr(png);
    if (r->starved) error_no_memory(r->e, "a PNG file", r->size);
    else error_set(r->e, ERROR_INVALID, "the PNG file is damaged: %s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep out, size_t size) {
    reader *r = png_get_io_ptr(png);
    if (size > r->size - r->at) png_error(png, "it ends before its picture does");
    memcpy(out, r->bytes + r->at, size);
    r->at += size;
}

static void *on_malloc(png_structp png, png_alloc_size_t size) {
    reader *r = png_get_mem_ptr(png);
    void *memory = malloc(size);
    if (memory == NULL) r->starved = true;
    return memory;
}

static void on_free(png_structp png, void *memory) {
    (void)png;
    free(memory);
}

static bool open_reader(reader *r, const uint8_t *bytes, size_t size, error *e) {
    *r = (reader){.bytes = bytes, .size = size, .e = e};
    r->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, r, on_error, on_warning, r, on_malloc, on_free);
    r->info = r->png != NULL ? png_create_info_struct(r->png) : NULL;
    return r->info != NULL || error_no_memory(e, "a PNG reader", sizeof *r);
}

static void close_reader(reader *r) { png_destroy_read_struct(&r->png, &r->info, NULL); }

/* Everything up to the first pixel. Sides are limited to what PNG allows: the caps are image.c's. */
static void read_head(reader *r) {
    png_set_read_fn(r->png, r, on_read);
    png_set_user_limits(r->png, 0x7FFFFFFF, 0x7FFFFFFF);
    png_set_chunk_malloc_max(r->png, CHUNK_MAX_BYTES);
    png_set_chunk_cache_max(r->png, PNG_MAX_TEXTS * 4);
    png_read_info(r->png, r->info);
}

/* --- pixels --- */

static bool has_alpha(const reader *r) {
    return (png_get_color_type(r->png, r->info) & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(r->png, r->info, PNG_INFO_tRNS) != 0;
}

static int capped(png_uint_32 side) { return side > INT32_MAX ? INT32_MAX : (int)side; }

static bool try_probe(reader *r, image_info *out) {
    if (setjmp(png_jmpbuf(r->png)) != 0) return false;
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1); /* only what says how pixels are meant */
    read_head(r);
    out->width = capped(png_get_image_width(r->png, r->info));
    out->height = capped(png_get_image_height(r->png, r->info));
    out->channels = has_alpha(r) ? 4 : 3;
    return true;
}

static bool probe(const uint8_t *bytes, size_t size, image_info *out, error *e) {
    reader r;
    bool ok = open_reader(&r, bytes, size, e) && try_probe(&r, out);
    close_reader(&r);
    return ok;
}

static bool try_read(reader *r, image *out) {
    size_t row = (size_t)out->width * (size_t)out->channels;
    if (setjmp(png_jmpbuf(r->png)) != 0) return false;
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    read_head(r);
    png_set_expand(r->png);
    png_set_scale_16(r->png);
    png_set_gray_to_rgb(r->png);
    int passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    /* The second reading of the same head cannot say anything else, but an overrun would be the end. */
    if (png_get_rowbytes(r->png, r->info) != row || png_get_image_height(r->png, r->info) != (png_uint_32)out->height)
        png_error(r->png, "its head contradicts itself");
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < out->height; y++) png_read_row(r->png, out->pixels + (size_t)y * row, NULL);
    return true;
}

static bool read(const uint8_t *bytes, size_t size, image *out, error *e) {
    reader r;
    bool ok = open_reader(&r, bytes, size, e) && try_read(&r, out);
    if (ok && r.starved) ok = error_no_memory(e, "a PNG file", size);
    close_reader(&r);
    return ok;
}

/* --- text --- */

static void append_latin1(const char *text, size_t size, buffer *out) {
    char bytes[4];
    for (size_t i = 0; i < size && text[i] != '\0'; i++) buffer_append(out, bytes, utf8_encode((unsigned char)text[i], bytes));
}

static void append_utf8(const char *text, size_t size, buffer *out) {
    char bytes[4];
    for (size_t at = 0; at < size && text[at] != '\0';) {
        int32_t c = utf8_next(text, size, &at);
        buffer_append(out, bytes, utf8_encode(c >= 0 ? (uint32_t)c : 0xFFFD, bytes));
    }
}

static bool is_international(const png_text *t) {
    return t->compression == PNG_ITXT_COMPRESSION_NONE || t->compression == PNG_ITXT_COMPRESSION_zTXt;
}

static bool try_metadata(reader *r, buffer *out) {
    if (setjmp(png_jmpbuf(r->png)) != 0) return false;
    static const png_byte wanted[] = "tEXt\0zTXt\0iTXt"; /* five bytes each */
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_AS_DEFAULT, wanted, 3);
    read_head(r);
    png_textp texts;
    int count;
    png_get_text(r->png, r->info, &texts, &count);
    for (int i = 0; i < count; i++) {
        if (strcmp(texts[i].key, "parameters") != 0) continue;
        if (is_international(&texts[i])) append_utf8(texts[i].text, texts[i].itxt_length, out);
        else append_latin1(texts[i].text, texts[i].text_length, out);
        break;
    }
    return true;
}

static bool metadata(const uint8_t *bytes, size_t size, buffer *out, error *e) {
    reader r;
    bool ok = open_reader(&r, bytes, size, e) && try_metadata(&r, out);
    if (ok && r.starved) ok = error_no_memory(e, "a PNG's texts", size);
    close_reader(&r);
    return ok;
}

/* --- the row --- */

static bool matches(const uint8_t *bytes, size_t size) { return size >= 8 && png_sig_cmp(bytes, 0, 8) == 0; }

static bool write(const image *i, int quality, const char *parameters, buffer *out, error *e) {
    (void)quality;
    const png_text_entry text = {"parameters", parameters};
    size_t count = parameters != NULL && parameters[0] != '\0' ? 1 : 0;
    return i->channels == 4 ? png_encode_rgba(i->pixels, i->width, i->height, &text, count, out, e)
                            : png_encode(i->pixels, i->width, i->height, &text, count, out, e);
}

const image_codec image_codec_png = {.name = "png",
                                     .type = "image/png",
                                     .extension = "png",
                                     .matches = matches,
                                     .probe = probe,
                                     .read = read,
                                     .write = write,
                                     .metadata = metadata};
