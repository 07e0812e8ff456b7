#include "image/png.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { COMPRESSION_LEVEL = 6 };

/* libpng reports through error_fn, which must not return: it fills the caller's error and jumps back into encode(). Everything that must
 * survive the jump lives here, not in encode()'s registers. */
typedef struct writer {
    png_structp png;
    png_infop info;
    buffer *out;
    error *e;
    bool starved;                /* libpng asked for memory in vain, whatever it calls that */
    char *latin1[PNG_MAX_TEXTS]; /* converted texts, NULL for iTXt */
} writer;

static void on_error(png_structp png, png_const_charp message) {
    writer *w = png_get_error_ptr(png);
    if (w->starved || !buffer_ok(w->out)) error_no_memory(w->e, "a PNG file", w->out->size);
    else error_set(w->e, ERROR_INTERNAL, "libpng: %s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static void on_write(png_structp png, png_bytep bytes, size_t size) {
    writer *w = png_get_io_ptr(png);
    buffer_append(w->out, bytes, size);
    if (!buffer_ok(w->out)) png_error(png, "out of memory");
}

static void on_flush(png_structp png) { (void)png; }

static void *on_malloc(png_structp png, png_alloc_size_t size) {
    writer *w = png_get_mem_ptr(png);
    void *memory = malloc(size);
    if (memory == NULL) w->starved = true;
    return memory;
}

static void on_free(png_structp png, void *memory) {
    (void)png;
    free(memory);
}

static bool keyword_valid(const char *keyword) {
    size_t size = strlen(keyword);
    if (size == 0 || size > 79 || keyword[0] == ' ' || keyword[size - 1] == ' ') return false;
    for (size_t i = 0; i < size; i++) {
        if (keyword[i] < ' ' || keyword[i] > '~' || (keyword[i] == ' ' && keyword[i + 1] == ' ')) return false;
    }
    return true;
}

static bool check(const uint8_t *pixels, int width, int height, const png_text_entry *texts, size_t count, error *e) {
    if (pixels == NULL || width < 1 || height < 1 || width > PNG_IMAGE_MAX_SIDE || height > PNG_IMAGE_MAX_SIDE)
        return error_set(e, ERROR_INVALID, "a PNG of %d × %d pixels: each side must be from 1 to %d", width, height, PNG_IMAGE_MAX_SIDE);
    if (count > PNG_MAX_TEXTS) return error_set(e, ERROR_TOO_LARGE, "a PNG with %zu texts: at most %d are allowed", count, PNG_MAX_TEXTS);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(texts[i].text);
        if (!keyword_valid(texts[i].keyword)) return error_set(e, ERROR_INVALID, "PNG text %zu has no valid keyword", i);
        if (size > PNG_TEXT_MAX_BYTES)
            return error_set(e, ERROR_TOO_LARGE, "PNG text '%s' has %zu bytes: at most %d are allowed", texts[i].keyword, size,
                             PNG_TEXT_MAX_BYTES);
        if (!utf8_valid(texts[i].text, size, NULL)) return error_set(e, ERROR_INVALID, "PNG text '%s' is not UTF-8", texts[i].keyword);
    }
    return true;
}

/* Whether tEXt may hold it: Latin-1 printable characters and line feeds (PNG specification, 11.3.3.2). */
static bool is_latin1(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        int32_t c = utf8_next(text, size, &at);
        if (c > 0xff || (c < 0x20 && c != '\n') || (c >= 0x7f && c < 0xa0)) return false;
    }
    return true;
}

/* True with *out NULL when the text is not Latin-1. */
static bool to_latin1(const char *text, char **out, error *e) {
    size_t size = strlen(text), length = 0;
    *out = NULL;
    if (!is_latin1(text, size)) return true;
    *out = malloc(size + 1);
    if (*out == NULL) return error_no_memory(e, "a PNG text", size + 1);
    for (size_t at = 0; at < size;) (*out)[length++] = (char)utf8_next(text, size, &at);
    (*out)[length] = '\0';
    return true;
}

/* Runs libpng; false when it jumped out. */
static bool encode(writer *w, const uint8_t *pixels, int width, int height, int channels, const png_text_entry *texts, size_t count) {
    if (setjmp(png_jmpbuf(w->png)) != 0) return false;
    png_set_write_fn(w->png, w, on_write, on_flush);
    png_set_user_limits(w->png, PNG_IMAGE_MAX_SIDE, PNG_IMAGE_MAX_SIDE);
    png_set_compression_level(w->png, COMPRESSION_LEVEL);
    png_set_IHDR(w->png, w->info, (png_uint_32)width, (png_uint_32)height, 8,
                 channels == 4 ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    for (size_t i = 0; i < count; i++) {
        bool latin1 = w->latin1[i] != NULL;
        png_text chunk = {.compression = latin1 ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
                          .key = (char *)texts[i].keyword,
                          .text = latin1 ? w->latin1[i] : (char *)texts[i].text};
        png_set_text(w->png, w->info, &chunk, 1);
    }
    png_write_info(w->png, w->info);
    for (int y = 0; y < height; y++) png_write_row(w->png, pixels + (size_t)y * (size_t)width * (size_t)channels);
    png_write_end(w->png, NULL);
    return true;
}

static bool encode_pixels(const uint8_t *pixels, int width, int height, int channels, const png_text_entry *texts, size_t count,
                          buffer *out, error *e) {
    if (!check(pixels, width, height, texts, count, e)) return false;
    if (!buffer_ok(out)) return error_no_memory(e, "a PNG file", out->size);
    size_t before = out->size;
    bool ok = true;
    writer w = {.out = out, .e = e};
    for (size_t i = 0; ok && i < count; i++) ok = to_latin1(texts[i].text, &w.latin1[i], e);
    if (ok) {
        w.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning, &w, on_malloc, on_free);
        w.info = w.png != NULL ? png_create_info_struct(w.png) : NULL;
        ok = w.info != NULL ? encode(&w, pixels, width, height, channels, texts, count) : error_no_memory(e, "a PNG writer", sizeof w);
        if (ok && w.starved) ok = error_no_memory(e, "a PNG file", out->size); /* only a warning to libpng: something was left out */
    }
    png_destroy_write_struct(&w.png, &w.info);
    for (size_t i = 0; i < count; i++) free(w.latin1[i]);
    if (!ok) {
        out->size = before;
        if (out->data != NULL) out->data[before] = '\0';
    }
    return ok;
}

bool png_encode(const uint8_t *rgb, int width, int height, const png_text_entry *texts, size_t count, buffer *out, error *e) {
    return encode_pixels(rgb, width, height, 3, texts, count, out, e);
}

bool png_encode_rgba(const uint8_t *rgba, int width, int height, const png_text_entry *texts, size_t count, buffer *out, error *e) {
    return encode_pixels(rgba, width, height, 4, texts, count, out, e);
}
