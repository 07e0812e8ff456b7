#include "text/spiece.h"

#include <stdint.h>
#include <string.h>

/* A run of protobuf bytes being read. */
typedef struct wire {
    const unsigned char *at, *end;
} wire;

typedef struct field {
    uint64_t number;
    int type;       /* 0 varint, 1 64 bits, 2 bytes, 5 32 bits */
    uint64_t value; /* of types 0, 1, 5 */
    wire bytes;     /* of type 2 */
} field;

static bool varint(wire *w, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && w->at < w->end; shift += 7) {
        unsigned char byte = *w->at++;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

static bool fixed(wire *w, size_t size, uint64_t *out) {
    if ((size_t)(w->end - w->at) < size) return false;
    *out = 0;
    for (size_t i = 0; i < size; i++) *out |= (uint64_t)w->at[i] << 8 * i;
    w->at += size;
    return true;
}

static bool next_field(wire *w, field *f) {
    uint64_t key, size;
    if (!varint(w, &key)) return false;
    f->number = key >> 3;
    f->type = (int)(key & 7);
    switch (f->type) {
    case 0: return varint(w, &f->value);
    case 1: return fixed(w, 8, &f->value);
    case 5: return fixed(w, 4, &f->value);
    case 2:
        if (!varint(w, &size) || size > (uint64_t)(w->end - w->at)) return false;
        f->bytes = (wire){w->at, w->at + size};
        w->at += size;
        return true;
    default: return false;
    }
}

static bool read_piece(wire w, const spiece_visitor *v, bool *stopped, error *e) {
    wire text = {0};
    float score = 0;
    uint64_t type = SPIECE_NORMAL;
    for (field f; w.at < w.end;) {
        if (!next_field(&w, &f)) return false;
        if (f.number == 1 && f.type == 2) text = f.bytes;
        if (f.number == 2 && f.type == 5) memcpy(&score, &(uint32_t){(uint32_t)f.value}, 4);
        if (f.number == 3 && f.type == 0) type = f.value;
    }
    size_t size = text.at != NULL ? (size_t)(text.end - text.at) : 0;
    *stopped = !v->piece(v->context, size > 0 ? (const char *)text.at : "", size, score, (spiece_type)type, e);
    return !*stopped;
}

static bool read_normalizer(wire w, const spiece_visitor *v, bool *stopped, error *e) {
    for (field f; w.at < w.end;) {
        if (!next_field(&w, &f)) return false;
        if (f.number != 2 || f.type != 2) continue;
        *stopped = !v->charsmap(v->context, f.bytes.at, (size_t)(f.bytes.end - f.bytes.at), e);
        if (*stopped) return false;
    }
    return true;
}

bool spiece_read(const void *bytes, size_t size, const char *source, const spiece_visitor *v, error *e) {
    wire w = {bytes, (const unsigned char *)bytes + size};
    bool ok = true, stopped = false;
    for (field f; ok && w.at < w.end;) {
        ok = next_field(&w, &f);
        if (ok && f.number == 1 && f.type == 2) ok = read_piece(f.bytes, v, &stopped, e);
        else if (ok && f.number == 3 && f.type == 2) ok = read_normalizer(f.bytes, v, &stopped, e);
    }
    if (!ok && !stopped)
        error_set(e, ERROR_BAD_FILE, "%s is not a sentencepiece model: damaged at byte %zu", source,
                  (size_t)(w.at - (const unsigned char *)bytes));
    return ok;
}
