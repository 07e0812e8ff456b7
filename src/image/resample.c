#include "image/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { LOBES = 3 };

/* How the pixels of one axis come from those of another: out[i] = Σ weights[i × taps + k] · in[first[i] + k]. */
typedef struct axis {
    int taps;
    int *first;
    float *weights;
} axis;

static double lanczos(double x) {
    if (x == 0) return 1;
    if (fabs(x) >= LOBES) return 0;
    double p = M_PI * x;
    return LOBES * sin(p) * sin(p / LOBES) / (p * p);
}

static void axis_free(axis *a) {
    free(a->first);
    free(a->weights);
    *a = (axis){0};
}

static bool axis_new(int from, int to, axis *a, error *e) {
    double scale = (double)from / to, widening = scale > 1 ? scale : 1, radius = LOBES * widening;
    size_t count;
    *a = (axis){.taps = 2 * (int)ceil(radius) + 1};
    if (a->taps > from) a->taps = from;
    if (!checked_mul((size_t)to, (size_t)a->taps, &count)) return error_no_memory(e, "the weights of a picture's pixels", SIZE_MAX);
    a->first = calloc((size_t)to, sizeof *a->first);
    a->weights = calloc(count, sizeof *a->weights);
    if (a->first == NULL || a->weights == NULL) {
        axis_free(a);
        return error_no_memory(e, "the weights of a picture's pixels", count * sizeof *a->weights);
    }
    for (int i = 0; i < to; i++) {
        double centre = (i + 0.5) * scale, sum = 0;
        int first = (int)floor(centre - radius);
        if (first > from - a->taps) first = from - a->taps;
        if (first < 0) first = 0;
        float *w = a->weights + (size_t)i * (size_t)a->taps;
        for (int k = 0; k < a->taps; k++) sum += w[k] = (float)lanczos((first + k + 0.5 - centre) / widening);
        for (int k = 0; k < a->taps; k++) w[k] = (float)(w[k] / sum);
        a->first[i] = first;
    }
    return true;
}

/* Adds a row, colours times alpha. */
static void add_row(const uint8_t *row, int width, int channels, float weight, float *sum) {
    if (channels == 3) {
        for (int i = 0; i < width * 3; i++) sum[i] += weight * row[i];
        return;
    }
    for (int x = 0; x < width; x++, row += 4, sum += 4) {
        float alpha = weight * row[3];
        for (int c = 0; c < 3; c++) sum[c] += alpha * row[c] * (1.0f / 255);
        sum[3] += alpha;
    }
}

static uint8_t to_byte(float value) { return value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)(value + 0.5f); }

static void write_row(const axis *a, const float *line, int width, int channels, uint8_t *out) {
    for (int x = 0; x < width; x++, out += channels) {
        const float *w = a->weights + (size_t)x * (size_t)a->taps, *in = line + (size_t)a->first[x] * (size_t)channels;
        float sum[4] = {0};
        for (int k = 0; k < a->taps; k++)
            for (int c = 0; c < channels; c++) sum[c] += w[k] * *in++;
        float undo = channels == 3 ? 1 : sum[3] > 0 ? 255 / sum[3] : 0;
        for (int c = 0; c < 3; c++) out[c] = to_byte(sum[c] * undo);
        if (channels == 4) out[3] = to_byte(sum[3]);
    }
}

static void resize(const image *from, const axis *across, const axis *down, float *line, image *out) {
    size_t row = (size_t)from->width * (size_t)from->channels;
    for (int y = 0; y < out->height; y++) {
        const float *w = down->weights + (size_t)y * (size_t)down->taps;
        memset(line, 0, row * sizeof *line);
        for (int k = 0; k < down->taps; k++)
            if (w[k] != 0) add_row(from->pixels + (size_t)(down->first[y] + k) * row, from->width, from->channels, w[k], line);
        write_row(across, line, out->width, out->channels, out->pixels + (size_t)y * (size_t)out->width * (size_t)out->channels);
    }
}

bool image_resize(const image *from, int width, int height, image *out, error *e) {
    axis across = {0}, down = {0};
    float *line = NULL;
    *out = (image){0};
    bool ok = image_new(width, height, from->channels, out, e) && axis_new(from->width, width, &across, e) &&
              axis_new(from->height, height, &down, e);
    if (ok) {
        size_t bytes = (size_t)from->width * (size_t)from->channels * sizeof *line;
        line = malloc(bytes);
        ok = line != NULL || error_no_memory(e, "a row of pixels", bytes);
    }
    if (ok) resize(from, &across, &down, line, out);
    else image_free(out);
    axis_free(&across);
    axis_free(&down);
    free(line);
    return ok;
}

void image_flatten(image *i, const uint8_t rgb[3]) {
    if (i->channels != 4) return;
    size_t count = (size_t)i->width * (size_t)i->height;
    const uint8_t *from = i->pixels;
    uint8_t *to = i->pixels;
    for (size_t n = 0; n < count; n++, from += 4, to += 3) {
        int alpha = from[3];
        for (int c = 0; c < 3; c++) to[c] = (uint8_t)((from[c] * alpha + rgb[c] * (255 - alpha) + 127) / 255);
    }
    i->channels = 3;
}

bool image_mask(const image *i, mask_source source, uint8_t **out, error *e) {
    size_t count = (size_t)i->width * (size_t)i->height;
    uint8_t *mask = malloc(count);
    if (mask == NULL) return error_no_memory(e, "a mask", count);
    const uint8_t *p = i->pixels;
    for (size_t n = 0; n < count; n++, p += i->channels) {
        int alpha = i->channels == 4 ? p[3] : 255;
        int light = (299 * p[0] + 587 * p[1] + 114 * p[2] + 500) / 1000;
        mask[n] = (uint8_t)(source == MASK_FROM_ALPHA ? 255 - alpha : (light * alpha + 127) / 255);
    }
    *out = mask;
    return true;
}
