#include "server/api/a1111_mask.h"

#include "image/image.h"
#include "server/requests/intake.h"

static bool has_transparency(const image *i) {
    if (i->channels != 4) return false;
    size_t pixels = (size_t)i->width * (size_t)i->height;
    for (size_t p = 0; p < pixels; p++)
        if (i->pixels[4 * p + 3] != 255) return true;
    return false;
}

/* Rec. 601's luma, as Pillow turns RGB into grey. */
static uint8_t grey(const uint8_t *rgb) { return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16); }

static bool paint(const image *from, bool inverted, image *to, error *e) {
    if (!image_new(from->width, from->height, 3, to, e)) return false;
    bool by_alpha = has_transparency(from);
    size_t pixels = (size_t)from->width * (size_t)from->height, channels = (size_t)from->channels;
    for (size_t p = 0; p < pixels; p++) {
        const uint8_t *pixel = from->pixels + p * channels;
        uint8_t value = by_alpha ? pixel[3] : grey(pixel);
        if (inverted) value = (uint8_t)(255 - value);
        to->pixels[3 * p] = to->pixels[3 * p + 1] = to->pixels[3 * p + 2] = value;
    }
    return true;
}

static bool make_mask(buffer *bytes, bool inverted, error *e) {
    image given = {0}, mask = {0};
    buffer file = {0};
    bool ok = intake_from_base64(bytes, e) && image_decode(bytes->data, bytes->size, &given, e) && paint(&given, inverted, &mask, e) &&
              image_encode(&mask, IMAGE_PNG, 100, NULL, &file, e);
    image_free(&given);
    image_free(&mask);
    if (ok) {
        buffer_free(bytes);
        *bytes = file;
    } else {
        buffer_free(&file);
        error_prefix(e, "the mask: ");
    }
    return ok;
}

bool a1111_mask_as_it_is(buffer *bytes, error *e) { return make_mask(bytes, false, e); }
bool a1111_mask_inverted(buffer *bytes, error *e) { return make_mask(bytes, true, e); }
