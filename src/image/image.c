#include "image/image.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "image/codec.h"

static const image_codec *const codecs[IMAGE_FORMATS] = {
    [IMAGE_PNG] = &image_codec_png, [IMAGE_JPEG] = &image_codec_jpeg, [IMAGE_WEBP] = &image_codec_webp};

static bool find(const void *bytes, size_t size, image_format *out, error *e) {
    for (int f = 0; f < IMAGE_FORMATS; f++) {
        if (!codecs[f]->matches(bytes, size)) continue;
        *out = (image_format)f;
        return true;
    }
    return error_set(e, ERROR_UNSUPPORTED, "the picture is neither PNG nor JPEG nor WebP");
}

static bool within_caps(long long width, long long height, error *e) {
    if (width < 1 || height < 1) return error_set(e, ERROR_INVALID, "the picture has no pixels");
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE || width * height > IMAGE_MAX_PIXELS)
        return error_set(e, ERROR_TOO_LARGE, "the picture has %lld × %lld pixels: at most %d a side and %d megapixels are taken", width,
                         height, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS >> 20);
    return true;
}

bool image_probe(const void *bytes, size_t size, image_info *out, error *e) {
    image_info info = {0};
    if (!find(bytes, size, &info.format, e) || !codecs[info.format]->probe(bytes, size, &info, e) ||
        !within_caps(info.width, info.height, e))
        return false;
    *out = info;
    return true;
}

bool image_new(int width, int height, int channels, image *out, error *e) {
    *out = (image){.width = width, .height = height, .channels = channels};
    if (!within_caps(width, height, e)) return false;
    size_t size = (size_t)width * (size_t)height * (size_t)channels; /* the caps keep it small */
    out->pixels = malloc(size);
    return out->pixels != NULL || error_no_memory(e, "a picture's pixels", size);
}

bool image_decode(const void *bytes, size_t size, image *out, error *e) {
    image_info info;
    image made = {0};
    *out = made;
    bool ok = image_probe(bytes, size, &info, e) && image_new(info.width, info.height, info.channels, &made, e) &&
              codecs[info.format]->read(bytes, size, &made, e);
    if (ok) *out = made;
    else image_free(&made);
    return ok;
}

void image_free(image *i) {
    if (i == NULL) return;
    free(i->pixels);
    *i = (image){0};
}

bool image_encode(const image *i, image_format format, int quality, const char *parameters, buffer *out, error *e) {
    if (quality < 1 || quality > 100) return error_set(e, ERROR_INVALID, "a picture's quality is %d: it must be from 1 to 100", quality);
    if (!within_caps(i->width, i->height, e)) return false;
    if (parameters != NULL && !utf8_valid(parameters, strlen(parameters), NULL))
        return error_set(e, ERROR_INVALID, "the text for a picture's metadata is not UTF-8");
    if (parameters != NULL && strlen(parameters) > IMAGE_TEXT_MAX_BYTES)
        return error_set(e, ERROR_TOO_LARGE, "the text for a picture's metadata has %zu bytes: at most %d are allowed", strlen(parameters),
                         IMAGE_TEXT_MAX_BYTES);
    if (!buffer_ok(out)) return error_no_memory(e, "a picture's file", out->size);
    size_t before = out->size;
    bool ok = codecs[format]->write(i, quality, parameters, out, e);
    if (ok && !buffer_ok(out)) ok = error_no_memory(e, "a picture's file", out->size);
    if (!ok) {
        out->size = before;
        if (out->data != NULL) out->data[before] = '\0';
    }
    return ok;
}

bool image_metadata_read(const void *bytes, size_t size, buffer *out, error *e) {
    image_format format = IMAGE_PNG;
    size_t before = out->size;
    bool ok = find(bytes, size, &format, e) && codecs[format]->metadata(bytes, size, out, e);
    if (ok && !buffer_ok(out)) ok = error_no_memory(e, "a picture's metadata", out->size);
    if (ok && out->size - before > IMAGE_TEXT_MAX_BYTES)
        ok = error_set(e, ERROR_TOO_LARGE, "the picture's metadata has more than %d bytes", IMAGE_TEXT_MAX_BYTES);
    if (!ok) {
        out->size = before;
        if (out->data != NULL) out->data[before] = '\0';
    }
    return ok;
}

const char *image_format_name(image_format f) { return codecs[f]->name; }
const char *image_format_type(image_format f) { return codecs[f]->type; }
const char *image_format_extension(image_format f) { return codecs[f]->extension; }

bool image_format_parse(const char *text, image_format *out) {
    for (int f = 0; f < IMAGE_FORMATS; f++) {
        if (strcasecmp(text, codecs[f]->name) != 0 && strcasecmp(text, codecs[f]->extension) != 0 && strcasecmp(text, codecs[f]->type) != 0)
            continue;
        *out = (image_format)f;
        return true;
    }
    return false;
}
