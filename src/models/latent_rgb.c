#include "models/latent_rgb.h"

enum { FLUX_CHANNELS = 16 };

static const latent_rgb flux_map = {
    .channels = FLUX_CHANNELS,
    .factors = {{-0.0346f, 0.0244f, 0.0681f}, {0.0034f, 0.0210f, 0.0687f}, {0.0275f, -0.0668f, -0.0433f}, {-0.0174f, 0.0160f, 0.0617f},
                {0.0859f, 0.0721f, 0.0329f}, {0.0004f, 0.0383f, 0.0115f}, {0.0405f, 0.0861f, 0.0915f}, {-0.0236f, -0.0185f, -0.0259f},
                {-0.0245f, 0.0250f, 0.1180f}, {0.1008f, 0.0755f, -0.0421f}, {-0.0515f, 0.0201f, 0.0011f}, {0.0428f, -0.0012f, -0.0036f},
                {0.0817f, 0.0765f, 0.0749f}, {-0.1264f, -0.0522f, -0.1103f}, {-0.0280f, -0.0881f, -0.0499f}, {-0.1262f, -0.0982f, -0.0778f}},
    .bias = {-0.0329f, -0.0718f, -0.0851f},
};

latent_rgb latent_rgb_known(int channels) { return channels == FLUX_CHANNELS ? flux_map : (latent_rgb){0}; }

/* ── reading ── */

static const double largest_factor = 1000;

static bool read_color(yyjson_val *v, float out[3]) {
    if (!yyjson_is_arr(v) || yyjson_arr_size(v) != 3) return false;
    for (size_t i = 0; i < 3; i++) {
        yyjson_val *number = yyjson_arr_get(v, i);
        double n = yyjson_is_num(number) ? yyjson_get_num(number) : largest_factor + 1;
        if (!(n >= -largest_factor && n <= largest_factor)) return false;
        out[i] = (float)n;
    }
    return true;
}

static bool read_factors(json map, int channels, latent_rgb *out, error *e) {
    json list = {0};
    if (!json_require(map, "factors", e) || !json_array(map, "factors", &list, e)) return false;
    size_t count = yyjson_arr_size(list.value);
    bool ok = channels >= 1 && channels <= LATENT_RGB_CHANNELS && count == (size_t)channels;
    for (size_t i = 0; ok && i < count; i++) ok = read_color(yyjson_arr_get(list.value, i), out->factors[i]);
    if (ok) return true;
    return json_complain(map, "factors", e,
                         "must list 3 numbers (of at most %g) for each of the autoencoder's %d channels, of which there may be %d",
                         largest_factor, channels, LATENT_RGB_CHANNELS);
}

bool latent_rgb_read(json root, int channels, latent_rgb *out, error *e) {
    json map = {0};
    latent_rgb read = {.channels = channels};
    if (!json_object(root, "latent_rgb", &map, e)) return false;
    if (map.value == NULL) return true;
    if (!read_factors(map, channels, &read, e) || !json_require(map, "bias", e)) return false;
    if (!read_color(json_get(map, "bias").value, read.bias))
        return json_complain(map, "bias", e, "must list 3 numbers of at most %g", largest_factor);
    *out = read;
    return true;
}

/* ── painting ── */

/* Cells a side of the square that becomes one pixel: 1, 2, 4, … */
static int square(int rows, int columns) {
    int longer = 2 * (rows > columns ? rows : columns), side = 1;
    while ((longer + side - 1) / side > LATENT_RGB_MAX_SIDE) side *= 2;
    return side;
}

static int divided(int cells, int side) { return (cells + side - 1) / side; }

void latent_rgb_size(int rows, int columns, int *width, int *height) {
    int side = square(rows, columns);
    *width = divided(2 * columns, side);
    *height = divided(2 * rows, side);
}

/* The colours of a token's cells (0,0) (0,1) (1,0) (1,1). */
static void token_colors(const latent_rgb *map, const float *latent, const float *velocity, float sigma, float colors[3][4]) {
    for (int c = 0; c < 3; c++)
        for (int cell = 0; cell < 4; cell++) colors[c][cell] = map->bias[c];
    for (int k = 0; k < map->channels; k++) {
        float clean[4];
        for (int cell = 0; cell < 4; cell++) clean[cell] = latent[4 * k + cell] - sigma * velocity[4 * k + cell];
        for (int c = 0; c < 3; c++)
            for (int cell = 0; cell < 4; cell++) colors[c][cell] += map->factors[k][c] * clean[cell];
    }
}

/* From −1 … 1; what is not a number is black. */
static uint8_t shade(float color) {
    float value = (color + 1.0f) * 127.5f + 0.5f;
    return value >= 255.0f ? 255 : value > 0.0f ? (uint8_t)value : 0;
}

typedef struct painting {
    const latent_rgb *map;
    const float *latent, *velocity;
    float sigma;
    int rows, columns;
} painting;

static void colors_at(const painting *p, int row, int column, float colors[3][4]) {
    size_t at = ((size_t)row * (size_t)p->columns + (size_t)column) * 4 * (size_t)p->map->channels;
    token_colors(p->map, p->latent + at, p->velocity + at, p->sigma, colors);
}

static void paint_cells(const painting *p, uint8_t *rgb) {
    size_t line = (size_t)p->columns * 2 * 3;
    for (int r = 0; r < p->rows; r++)
        for (int c = 0; c < p->columns; c++) {
            float colors[3][4];
            colors_at(p, r, c, colors);
            uint8_t *upper = rgb + (size_t)r * 2 * line + (size_t)c * 6, *lower = upper + line;
            for (int i = 0; i < 3; i++) {
                upper[i] = shade(colors[i][0]);
                upper[3 + i] = shade(colors[i][1]);
                lower[i] = shade(colors[i][2]);
                lower[3 + i] = shade(colors[i][3]);
            }
        }
}

/* Squares of `tokens` a side; those at the right and lower edge may be cut. */
static void paint_squares(const painting *p, int tokens, uint8_t *rgb) {
    for (int top = 0; top < p->rows; top += tokens)
        for (int left = 0; left < p->columns; left += tokens, rgb += 3) {
            float sum[3] = {0};
            int count = 0;
            for (int r = top; r < top + tokens && r < p->rows; r++)
                for (int c = left; c < left + tokens && c < p->columns; c++, count += 4) {
                    float colors[3][4];
                    colors_at(p, r, c, colors);
                    for (int i = 0; i < 3; i++) sum[i] += colors[i][0] + colors[i][1] + colors[i][2] + colors[i][3];
                }
            for (int i = 0; i < 3; i++) rgb[i] = shade(sum[i] / (float)count);
        }
}

void latent_rgb_paint(const latent_rgb *map, const float *latent, const float *velocity, float sigma, int rows, int columns, uint8_t *rgb) {
    const painting p = {map, latent, velocity, sigma, rows, columns};
    int side = square(rows, columns);
    if (side == 1) paint_cells(&p, rgb);
    else paint_squares(&p, side / 2, rgb);
}
