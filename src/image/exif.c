#include "image/exif.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

enum {
    TAG_ORIENTATION = 0x0112,
    TAG_EXIF_IFD = 0x8769,
    TAG_USER_COMMENT = 0x9286,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7,
    ENTRY_BYTES = 12,
    CODE_BYTES = 8, /* "UNICODE\0": how a UserComment is encoded */
};

typedef struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool big; /* endian */
} tiff;

/* Zero where the block ends before: every offset is the file's word. */
static uint32_t read_16(const tiff *t, size_t at) {
    if (t->size < 2 || at > t->size - 2) return 0;
    const uint8_t *p = t->bytes + at;
    return t->big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t read_32(const tiff *t, size_t at) {
    return t->big ? read_16(t, at) << 16 | read_16(t, at + 2) : read_16(t, at + 2) << 16 | read_16(t, at);
}

static bool open_tiff(const uint8_t *exif, size_t size, tiff *t) {
    if (size >= 6 && memcmp(exif, "Exif\0", 6) == 0) {
        exif += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)) return false;
    *t = (tiff){.bytes = exif, .size = size, .big = exif[0] == 'M'};
    return true;
}

/* Where the entry with this tag stands in the directory at `ifd`; 0: nowhere. */
static size_t find_entry(const tiff *t, size_t ifd, uint32_t tag) {
    uint32_t count = read_16(t, ifd);
    for (size_t i = 0, at = ifd + 2; i < count && at + ENTRY_BYTES <= t->size; i++, at += ENTRY_BYTES)
        if (read_16(t, at) == tag) return at;
    return 0;
}

int exif_orientation(const uint8_t *exif, size_t size) {
    tiff t;
    if (!open_tiff(exif, size, &t)) return 1;
    size_t entry = find_entry(&t, read_32(&t, 4), TAG_ORIENTATION);
    uint32_t value = entry != 0 && read_16(&t, entry + 2) == TYPE_SHORT ? read_16(&t, entry + 8) : 1;
    return value >= 1 && value <= 8 ? (int)value : 1;
}

/* The value's bytes; false where there are none, or not all of them. */
static bool find_comment(const tiff *t, const uint8_t **bytes, size_t *size) {
    size_t pointer = find_entry(t, read_32(t, 4), TAG_EXIF_IFD);
    size_t entry = pointer != 0 ? find_entry(t, read_32(t, pointer + 8), TAG_USER_COMMENT) : 0;
    if (entry == 0) return false;
    *size = read_32(t, entry + 4);
    size_t at = *size <= 4 ? entry + 8 : read_32(t, entry + 8);
    if (at > t->size || *size > t->size - at) return false;
    *bytes = t->bytes + at;
    return true;
}

static void append_character(uint32_t c, buffer *out) {
    char bytes[4];
    buffer_append(out, bytes, utf8_encode(c, bytes));
}

/* Most writers use the block's byte order, some do not: in nearly all text the high bytes are zero more often. */
static bool guess_big(const uint8_t *text, size_t size, bool otherwise) {
    size_t zeros[2] = {0, 0};
    for (size_t i = 0; i + 1 < size; i += 2) {
        zeros[0] += text[i] == 0;
        zeros[1] += text[i + 1] == 0;
    }
    return zeros[0] == zeros[1] ? otherwise : zeros[0] > zeros[1];
}

static void append_utf16(const uint8_t *text, size_t size, bool big, buffer *out) {
    size_t at = 0;
    if (size >= 2 && ((text[0] == 0xFE && text[1] == 0xFF) || (text[0] == 0xFF && text[1] == 0xFE))) {
        big = text[0] == 0xFE;
        at = 2;
    } else {
        big = guess_big(text, size, big);
    }
    const tiff t = {.bytes = text, .size = size, .big = big};
    for (; at + 1 < size; at += 2) {
        uint32_t c = read_16(&t, at), low = read_16(&t, at + 2);
        if (c == 0) return;
        if (c >= 0xD800 && c < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            at += 2;
        } else if (c >= 0xD800 && c < 0xE000) {
            c = 0xFFFD;
        }
        append_character(c, out);
    }
}

static void append_bytes(const char *text, size_t size, buffer *out) {
    for (size_t at = 0; at < size && text[at] != '\0';) {
        int32_t c = utf8_next(text, size, &at);
        append_character(c >= 0 ? (uint32_t)c : 0xFFFD, out);
    }
}

void exif_comment(const uint8_t *exif, size_t size, buffer *out) {
    tiff t;
    const uint8_t *bytes;
    size_t count;
    if (!open_tiff(exif, size, &t) || !find_comment(&t, &bytes, &count) || count < CODE_BYTES) return;
    if (memcmp(bytes, "UNICODE", CODE_BYTES) == 0) append_utf16(bytes + CODE_BYTES, count - CODE_BYTES, t.big, out);
    else if (memcmp(bytes, "ASCII\0\0", CODE_BYTES) == 0 || memcmp(bytes, "\0\0\0\0\0\0\0", CODE_BYTES) == 0)
        append_bytes((const char *)bytes + CODE_BYTES, count - CODE_BYTES, out);
}

/* --- writing, in big endian --- */

static void write_16(uint32_t value, buffer *out) {
    buffer_append_byte(out, (char)(value >> 8));
    buffer_append_byte(out, (char)value);
}

static void write_32(uint32_t value, buffer *out) {
    write_16(value >> 16, out);
    write_16(value, out);
}

static void write_directory(uint32_t tag, uint32_t type, uint32_t count, uint32_t value, buffer *out) {
    write_16(1, out);
    write_16(tag, out);
    write_16(type, out);
    write_32(count, out);
    write_32(value, out);
    write_32(0, out); /* no directory follows */
}

static uint32_t utf16_units(const char *text) {
    uint32_t units = 0;
    for (size_t at = 0, size = strlen(text); at < size;) units += utf8_next(text, size, &at) >= 0x10000 ? 2 : 1;
    return units;
}

void exif_write_comment(const char *text, buffer *out) {
    enum { FIRST = 8, SECOND = FIRST + 2 + ENTRY_BYTES + 4, COMMENT = SECOND + 2 + ENTRY_BYTES + 4 };
    size_t size = strlen(text);
    buffer_append(out, "MM\0*", 4);
    write_32(FIRST, out);
    write_directory(TAG_EXIF_IFD, TYPE_LONG, 1, SECOND, out);
    write_directory(TAG_USER_COMMENT, TYPE_UNDEFINED, CODE_BYTES + 2 * utf16_units(text), COMMENT, out);
    buffer_append(out, "UNICODE", CODE_BYTES);
    for (size_t at = 0; at < size;) {
        uint32_t c = (uint32_t)utf8_next(text, size, &at);
        if (c >= 0x10000) {
            write_16(0xD800 + ((c - 0x10000) >> 10), out);
            c = 0xDC00 + ((c - 0x10000) & 0x3FF);
        }
        write_16(c, out);
    }
}
