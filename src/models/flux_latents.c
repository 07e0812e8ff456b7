#include "models/flux_latents.h"

#include <stddef.h>

/* Where cell (dy, dx) of token (row, column) lies in the planes. */
static size_t cell(int channel, int row, int column, int patch, int rows, int columns) {
    size_t y = (size_t)(2 * row + patch / 2), x = (size_t)(2 * column + patch % 2);
    return ((size_t)channel * 2 * (size_t)rows + y) * 2 * (size_t)columns + x;
}

void flux_latents_pack(const float *planes, int channels, int rows, int columns, float *tokens) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            for (int k = 0; k < channels; k++)
                for (int patch = 0; patch < 4; patch++) *tokens++ = planes[cell(k, r, c, patch, rows, columns)];
}

void flux_latents_unpack(const float *tokens, int channels, int rows, int columns, float *planes) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            for (int k = 0; k < channels; k++)
                for (int patch = 0; patch < 4; patch++) planes[cell(k, r, c, patch, rows, columns)] = *tokens++;
}
