/* WebP with libwebp; and its row in the table of formats. The container is a few chunks, walked and written here. */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/encode.h>

#include "image/codec.h"
#include "image/exif.h"

enum { RIFF_HEAD_BYTES = 12, CHUNK_HEAD_BYTES = 8, FLAG_ALPHA = 0x10, FLAG_EXIF = 0x08, QUALITY_LOSSLESS = 100 };

static bool matches(const uint8_t *bytes, size_t size) {
    return size >= RIFF_HEAD_BYTES && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0;
}

static const char *fault_of(VP8StatusCode code) {
    switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA: return "it ends before its picture does";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "it uses something that is not supported";
    /* The library says so of broken alpha, too. */
    case VP8_STATUS_OUT_OF_MEMORY: return "its alpha makes no sense, or memory is short";
    default: return "its bytes make no sense";
    }
}

static bool damaged(VP8StatusCode code, error *e) {
    return error_set(e, ERROR_INVALID, "the WebP file is damaged: %s", fault_of(code));
}

static bool probe(const uint8_t *bytes, size_t size, image_info *out, error *e) {
    WebPBitstreamFeatures f;
    VP8StatusCode code = WebPGetFeatures(bytes, size, &f);
    if (code != VP8_STATUS_OK) return damaged(code, e);
    if (f.has_animation != 0) return error_set(e, ERROR_UNSUPPORTED, "the WebP file is an animation: one picture is wanted");
    out->width = f.width;
    out->height = f.height;
    out->channels = f.has_alpha != 0 ? 4 : 3;
    return true;
}

static bool read(const uint8_t *bytes, size_t size, image *out, error *e) {
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config)) return error_set(e, ERROR_INTERNAL, "libwebp is of another version than its headers");
    int row = out->width * out->channels; /* the caps keep it small */
    config.output.colorspace = out->channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = out->pixels;
    config.output.u.RGBA.stride = row;
    config.output.u.RGBA.size = (size_t)row * (size_t)out->height;
    VP8StatusCode code = WebPDecode(bytes, size, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK || damaged(code, e);
}

/* --- the container (RFC 9649) --- */

static uint32_t read_32(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static bool metadata(const uint8_t *bytes, size_t size, buffer *out, error *e) {
    (void)e;
    for (size_t at = RIFF_HEAD_BYTES; at + CHUNK_HEAD_BYTES <= size;) {
        size_t length = read_32(bytes + at + 4), left = size - at - CHUNK_HEAD_BYTES;
        if (length > left) return true;
        if (memcmp(bytes + at, "EXIF", 4) == 0) {
            exif_comment(bytes + at + CHUNK_HEAD_BYTES, length, out);
            return true;
        }
        at += CHUNK_HEAD_BYTES + length + (length & 1);
    }
    return true;
}

static void write_little(uint32_t value, int bytes, buffer *out) {
    for (int i = 0; i < bytes; i++) buffer_append_byte(out, (char)(value >> 8 * i));
}

static void write_chunk(const char *type, const void *data, size_t size, buffer *out) {
    buffer_append(out, type, 4);
    write_little((uint32_t)size, 4, out);
    buffer_append(out, data, size);
    if (size % 2 == 1) buffer_append_byte(out, 0);
}

/* The simple file that the encoder made, as an extended one with the text. */
static void wrap(const image *i, const uint8_t *simple, size_t size, const buffer *exif, buffer *out) {
    const uint8_t *chunks = simple + RIFF_HEAD_BYTES;
    size_t chunks_size = size - RIFF_HEAD_BYTES, exif_size = exif->size + exif->size % 2;
    buffer head = {0};
    write_little(FLAG_EXIF | (i->channels == 4 ? FLAG_ALPHA : 0), 4, &head);
    write_little((uint32_t)i->width - 1, 3, &head);
    write_little((uint32_t)i->height - 1, 3, &head);
    /* With alpha, a lossy picture is extended already: its own head goes. */
    if (memcmp(chunks, "VP8X", 4) == 0) {
        size_t skip = CHUNK_HEAD_BYTES + read_32(chunks + 4);
        chunks += skip;
        chunks_size -= skip;
    }
    buffer_append_text(out, "RIFF");
    write_little((uint32_t)(4 + CHUNK_HEAD_BYTES + head.size + chunks_size + CHUNK_HEAD_BYTES + exif_size), 4, out);
    buffer_append_text(out, "WEBP");
    write_chunk("VP8X", head.data, head.size, out);
    buffer_append(out, chunks, chunks_size);
    write_chunk("EXIF", exif->data, exif->size, out);
    if (!buffer_ok(&head)) out->failed = true;
    buffer_free(&head);
}

static bool compress(const image *i, int quality, WebPMemoryWriter *memory, error *e) {
    WebPConfig config;
    WebPPicture picture;
    if (!WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, (float)quality) || !WebPPictureInit(&picture))
        return error_set(e, ERROR_INTERNAL, "libwebp is of another version than its headers");
    if (quality == QUALITY_LOSSLESS) {
        config.lossless = 1;
        config.exact = 1;
        config.quality = 70; /* effort */
    }
    picture.use_argb = config.lossless;
    picture.width = i->width;
    picture.height = i->height;
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = memory;
    int row = i->width * i->channels;
    bool ok = (i->channels == 4 ? WebPPictureImportRGBA(&picture, i->pixels, row) : WebPPictureImportRGB(&picture, i->pixels, row)) != 0 &&
              WebPEncode(&config, &picture) != 0;
    int fault = picture.error_code;
    WebPPictureFree(&picture);
    if (ok) return true;
    if (fault == VP8_ENC_ERROR_OUT_OF_MEMORY || fault == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY) return error_no_memory(e, "a WebP file", 0);
    return error_set(e, ERROR_INTERNAL, "libwebp: fault %d", fault);
}

static bool write(const image *i, int quality, const char *parameters, buffer *out, error *e) {
    if (i->width > WEBP_MAX_DIMENSION || i->height > WEBP_MAX_DIMENSION)
        return error_set(e, ERROR_TOO_LARGE, "a WebP file of %d × %d pixels: it holds at most %d a side", i->width, i->height,
                         WEBP_MAX_DIMENSION);
    buffer exif = {0};
    WebPMemoryWriter memory;
    WebPMemoryWriterInit(&memory);
    if (parameters != NULL && parameters[0] != '\0') exif_write_comment(parameters, &exif);
    bool ok = buffer_ok(&exif) || error_no_memory(e, "a picture's metadata", exif.size);
    ok = ok && compress(i, quality, &memory, e);
    if (ok && exif.size == 0) buffer_append(out, memory.mem, memory.size);
    else if (ok) wrap(i, memory.mem, memory.size, &exif, out);
    WebPMemoryWriterClear(&memory);
    buffer_free(&exif);
    return ok;
}

const image_codec image_codec_webp = {.name = "webp",
                                      .type = "image/webp",
                                      .extension = "webp",
                                      .matches = matches,
                                      .probe = probe,
                                      .read = read,
                                      .write = write,
                                      .metadata = metadata};
