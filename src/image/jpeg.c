/* JPEG with libjpeg-turbo; and its row in the table of formats. */
#include <stdio.h>
#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"
#include "image/exif.h"

enum {
    SCANS_MAX = 100, /* a progressive picture of a few kilobytes could claim thousands, each as dear as a picture */
    MARKER_SOI = 0xD8,
    MARKER_EOI = 0xD9,
    MARKER_SOS = 0xDA,
    MARKER_APP1 = 0xE1,
    SEGMENT_MAX_BYTES = 65533, /* of one marker's data */
    PIECE_BYTES = 16 * 1024,
};

/* --- the segments before the pixels (ISO/IEC 10918-1, B.1) --- */

typedef struct segment {
    int marker;
    const uint8_t *data;
    size_t size;
} segment;

/* The next one from *at on; false at the pixels, at the end, and where the file is no more a JPEG. */
static bool next_segment(const uint8_t *bytes, size_t size, size_t *at, segment *out) {
    for (;;) {
        if (*at >= size || bytes[*at] != 0xFF) return false;
        while (*at < size && bytes[*at] == 0xFF) (*at)++;
        if (*at >= size) return false;
        int marker = bytes[(*at)++];
        if (marker == 0x01 || (marker >= 0xD0 && marker <= MARKER_SOI)) continue; /* they stand alone */
        if (marker == MARKER_SOS || marker == MARKER_EOI || size - *at < 2) return false;
        size_t length = (size_t)bytes[*at] << 8 | bytes[*at + 1];
        if (length < 2 || length > size - *at) return false;
        *out = (segment){.marker = marker, .data = bytes + *at + 2, .size = length - 2};
        *at += length;
        return true;
    }
}

static bool is_frame(int marker) { return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC; }

static bool is_exif(const segment *s) { return s->marker == MARKER_APP1 && s->size > 6 && memcmp(s->data, "Exif\0", 6) == 0; }

/* Of the first EXIF block; readers take that one. */
static int orientation_of(const uint8_t *bytes, size_t size) {
    segment s;
    for (size_t at = 0; next_segment(bytes, size, &at, &s);)
        if (is_exif(&s)) return exif_orientation(s.data, s.size);
    return 1;
}

static bool probe(const uint8_t *bytes, size_t size, image_info *out, error *e) {
    segment s;
    for (size_t at = 0; next_segment(bytes, size, &at, &s);) {
        if (!is_frame(s.marker)) continue;
        if (s.size < 6) break;
        int height = s.data[1] << 8 | s.data[2], width = s.data[3] << 8 | s.data[4], components = s.data[5];
        if (components != 1 && components != 3 && components != 4)
            return error_set(e, ERROR_UNSUPPORTED, "a JPEG file of %d components: 1, 3 and 4 are supported", components);
        bool turned = orientation_of(bytes, size) >= 5;
        out->width = turned ? height : width;
        out->height = turned ? width : height;
        out->channels = 3;
        return true;
    }
    return error_set(e, ERROR_INVALID, "the JPEG file is damaged: it ends before it says how large it is");
}

/* --- faults --- */

/* libjpeg's error_exit must not return. What survives the jump lives in the structs that begin with this. */
typedef struct faults {
    struct jpeg_error_mgr manager;
    jmp_buf back;
    error *e;
    bool cut;     /* the file ended early */
    bool guessed; /* pixels were made up for bits that are not there */
} faults;

static void on_error(j_common_ptr c) {
    faults *f = (faults *)c->err;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    if (c->err->msg_code == JERR_OUT_OF_MEMORY) error_no_memory(f->e, "a JPEG file", 0);
    else error_set(f->e, ERROR_INVALID, "the JPEG file is damaged or of a rare kind: %s", text);
    longjmp(f->back, 1);
}

static void on_message(j_common_ptr c, int level) {
    faults *f = (faults *)c->err;
    if (level >= 0) return;
    if (c->err->msg_code == JWRN_JPEG_EOF) f->cut = true;
    if (c->err->msg_code == JWRN_HIT_MARKER) f->guessed = true;
}

static void watch_faults(faults *f, error *e) {
    jpeg_std_error(&f->manager);
    f->manager.error_exit = on_error;
    f->manager.emit_message = on_message;
    f->e = e;
}

/* --- reading --- */

typedef struct reader {
    faults faults; /* first: libjpeg hands back its address */
    struct jpeg_decompress_struct jpeg;
    struct jpeg_progress_mgr progress;
    uint8_t *row;
} reader;

static void on_progress(j_common_ptr c) {
    faults *f = (faults *)c->err;
    if (((j_decompress_ptr)c)->input_scan_number <= SCANS_MAX) return;
    error_set(f->e, ERROR_TOO_LARGE, "the JPEG file has more than %d scans", SCANS_MAX);
    longjmp(f->back, 1);
}

/* Where the stored row y goes, and how far it is from one of its pixels to the next, in pixels; w × h as stored (TIFF 6.0, Orientation). */
static void place_row(int orientation, long w, long h, long y, long *start, long *step) {
    bool turned = orientation >= 5;
    bool mirrored_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool mirrored_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    long across = turned ? h : w, at_y = mirrored_y ? h - 1 - y : y, first_x = mirrored_x ? w - 1 : 0;
    *step = (mirrored_x ? -1 : 1) * (turned ? across : 1);
    *start = turned ? first_x * across + at_y : at_y * across + first_x;
}

/* Photoshop stores CMYK upside down and marks the file with its name; hardly anything else writes CMYK. */
static void rgb_of_cmyk(const uint8_t *cmyk, bool inverted, uint8_t rgb[3]) {
    int k = inverted ? cmyk[3] : 255 - cmyk[3];
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)(((inverted ? cmyk[c] : 255 - cmyk[c]) * k + 127) / 255);
}

static void scatter(const reader *r, int orientation, image *out) {
    const struct jpeg_decompress_struct *j = &r->jpeg;
    long start, step;
    place_row(orientation, (long)j->output_width, (long)j->output_height, (long)j->output_scanline - 1, &start, &step);
    const uint8_t *from = r->row;
    uint8_t *to = out->pixels + start * 3;
    for (JDIMENSION x = 0; x < j->output_width; x++, to += step * 3, from += j->output_components) {
        if (j->output_components == 4) rgb_of_cmyk(from, j->saw_Adobe_marker != 0, to);
        else memcpy(to, from, 3);
    }
}

static bool try_read(reader *r, const uint8_t *bytes, size_t size, image *out) {
    struct jpeg_decompress_struct *j = &r->jpeg;
    if (setjmp(r->faults.back) != 0) return false;
    jpeg_create_decompress(j);
    r->progress.progress_monitor = on_progress;
    j->progress = &r->progress;
    jpeg_mem_src(j, bytes, (unsigned long)size);
    jpeg_read_header(j, TRUE);
    int orientation = orientation_of(bytes, size);
    bool turned = orientation >= 5;
    if (j->image_width != (JDIMENSION)(turned ? out->height : out->width) ||
        j->image_height != (JDIMENSION)(turned ? out->width : out->height) ||
        (j->num_components != 1 && j->num_components != 3 && j->num_components != 4))
        return error_set(r->faults.e, ERROR_INVALID, "the JPEG file is damaged: its head contradicts itself");
    j->out_color_space = j->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(j);
    r->row = malloc((size_t)j->output_width * 4);
    if (r->row == NULL) return error_no_memory(r->faults.e, "a row of pixels", (size_t)j->output_width * 4);
    while (j->output_scanline < j->output_height) {
        jpeg_read_scanlines(j, &r->row, 1);
        scatter(r, orientation, out);
    }
    /* A file without its last two bytes shows all it has; one that was cut earlier does not. Of a progressive one it could not be told. */
    if (r->faults.cut && (r->faults.guessed || j->progressive_mode))
        return error_set(r->faults.e, ERROR_INVALID, "the JPEG file is damaged: it ends before its picture does");
    return true;
}

static bool read(const uint8_t *bytes, size_t size, image *out, error *e) {
    reader r = {0};
    watch_faults(&r.faults, e);
    r.jpeg.err = &r.faults.manager;
    bool ok = try_read(&r, bytes, size, out);
    jpeg_destroy_decompress(&r.jpeg);
    free(r.row);
    return ok;
}

/* --- writing --- */

typedef struct writer {
    faults faults; /* first, as above */
    struct jpeg_compress_struct jpeg;
    struct jpeg_destination_mgr destination;
    buffer *out;
    buffer exif;
    uint8_t piece[PIECE_BYTES];
} writer;

static void flush(writer *w, size_t size) {
    buffer_append(w->out, w->piece, size);
    w->destination.next_output_byte = w->piece;
    w->destination.free_in_buffer = PIECE_BYTES;
}

static void on_begin(j_compress_ptr j) {
    writer *w = j->client_data;
    w->destination.next_output_byte = w->piece;
    w->destination.free_in_buffer = PIECE_BYTES;
}

static boolean on_full(j_compress_ptr j) {
    flush(j->client_data, PIECE_BYTES);
    return TRUE;
}

static void on_end(j_compress_ptr j) {
    writer *w = j->client_data;
    flush(w, PIECE_BYTES - w->destination.free_in_buffer);
}

static bool make_exif(writer *w, const char *parameters, error *e) {
    if (parameters == NULL || parameters[0] == '\0') return true;
    buffer_append(&w->exif, "Exif\0", 6);
    exif_write_comment(parameters, &w->exif);
    if (!buffer_ok(&w->exif)) return error_no_memory(e, "a picture's metadata", w->exif.size);
    if (w->exif.size > SEGMENT_MAX_BYTES)
        return error_set(e, ERROR_TOO_LARGE, "a JPEG file holds no text of %zu bytes: at most %d, at two for each character", w->exif.size,
                         SEGMENT_MAX_BYTES);
    return true;
}

static bool try_write(writer *w, const image *i, int quality) {
    struct jpeg_compress_struct *j = &w->jpeg;
    if (setjmp(w->faults.back) != 0) return false;
    jpeg_create_compress(j);
    j->client_data = w;
    w->destination = (struct jpeg_destination_mgr){
        .init_destination = on_begin, .empty_output_buffer = on_full, .term_destination = on_end};
    j->dest = &w->destination;
    j->image_width = (JDIMENSION)i->width;
    j->image_height = (JDIMENSION)i->height;
    j->input_components = 3;
    j->in_color_space = JCS_RGB;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, quality, TRUE);
    j->optimize_coding = TRUE;
    /* At high qualities, colour is wanted as sharp as light. */
    if (quality >= 90) j->comp_info[0].h_samp_factor = j->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(j, TRUE);
    if (w->exif.size > 0) jpeg_write_marker(j, MARKER_APP1, (const JOCTET *)w->exif.data, (unsigned)w->exif.size);
    while (j->next_scanline < j->image_height) {
        JSAMPROW row = i->pixels + (size_t)j->next_scanline * (size_t)i->width * 3;
        jpeg_write_scanlines(j, &row, 1);
    }
    jpeg_finish_compress(j);
    return true;
}

static bool write(const image *i, int quality, const char *parameters, buffer *out, error *e) {
    if (i->channels != 3) return error_set(e, ERROR_INVALID, "a JPEG file has no alpha: the picture must be flattened first");
    writer w = {.out = out};
    watch_faults(&w.faults, e);
    w.jpeg.err = &w.faults.manager;
    bool ok = make_exif(&w, parameters, e) && try_write(&w, i, quality);
    jpeg_destroy_compress(&w.jpeg);
    buffer_free(&w.exif);
    return ok;
}

/* --- text --- */

static bool metadata(const uint8_t *bytes, size_t size, buffer *out, error *e) {
    (void)e;
    segment s;
    size_t before = out->size;
    for (size_t at = 0; out->size == before && next_segment(bytes, size, &at, &s);)
        if (is_exif(&s)) exif_comment(s.data, s.size, out);
    return true;
}

static bool matches(const uint8_t *bytes, size_t size) {
    return size >= 3 && bytes[0] == 0xFF && bytes[1] == MARKER_SOI && bytes[2] == 0xFF;
}

const image_codec image_codec_jpeg = {.name = "jpeg",
                                      .type = "image/jpeg",
                                      .extension = "jpg",
                                      .matches = matches,
                                      .probe = probe,
                                      .read = read,
                                      .write = write,
                                      .metadata = metadata};
