/* Convolution. On the CPU: blocks of output pixels; the input under each is gathered into a matrix in scratch (a column a pixel), and one
 * sgemm with the kernels, as they are stored, writes the channels where they belong. */
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/widen.h"

enum { COLUMN_FLOATS = 1024 * 1024, MIN_PIXELS = 64, MAX_PIXELS = 1024, PANEL_CHANNELS = 64 };

typedef struct conv {
    int stride, padding;
    int64_t depth;  /* C · kh · kw */
    int64_t pixels; /* of a block */
    int64_t blocks; /* of an image */
    bool direct;    /* 1×1 kernels need no gathering */
} conv;

/* One row of the matrix: what kernel position (c, ky, kx) sees from output pixels [first, first + count). */
static void gather(const struct ggml_tensor *x, const float *plane, int64_t ky, int64_t kx, const conv *p, int64_t out_width, int64_t first,
                   int64_t count, float *row) {
    int64_t width = x->ne[0], height = x->ne[1];
    while (count > 0) {
        int64_t oy = first / out_width, ox = first % out_width, run = min_i64(count, out_width - ox);
        int64_t iy = oy * p->stride + ky - p->padding, ix = ox * p->stride + kx - p->padding;
        if (iy < 0 || iy >= height) {
            memset(row, 0, (size_t)run * sizeof *row);
        } else if (p->stride == 1) {
            int64_t left = min_i64(run, max_i64(0, -ix)), valid = max_i64(0, min_i64(run, width - ix) - left);
            memset(row, 0, (size_t)left * sizeof *row);
            if (valid > 0) memcpy(row + left, plane + iy * width + ix + left, (size_t)valid * sizeof *row);
            memset(row + left + valid, 0, (size_t)(run - left - valid) * sizeof *row);
        } else {
            for (int64_t i = 0; i < run; i++, ix += p->stride) row[i] = ix >= 0 && ix < width ? plane[iy * width + ix] : 0.0f;
        }
        row += run;
        first += run;
        count -= run;
    }
}

static const float *columns_of(struct ggml_tensor *dst, const conv *p, int64_t item, int64_t first, int64_t count, float *columns,
                               int64_t *ld) {
    const struct ggml_tensor *x = dst->src[0], *w = dst->src[1];
    int64_t plane = x->ne[0] * x->ne[1];
    const float *image = (const float *)x->data + item * x->ne[2] * plane;
    if (p->direct) {
        *ld = plane;
        return image + first;
    }
    *ld = count;
    float *row = columns;
    for (int64_t c = 0; c < x->ne[2]; c++)
        for (int64_t ky = 0; ky < w->ne[1]; ky++)
            for (int64_t kx = 0; kx < w->ne[0]; kx++, row += count) gather(x, image + c * plane, ky, kx, p, dst->ne[0], first, count, row);
    return columns;
}

static const char *conv_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    const conv *p = parameters;
    const struct ggml_tensor *w = dst->src[1], *bias = dst->src[2];
    int64_t plane = dst->ne[0] * dst->ne[1], channels = dst->ne[2], item = chunk / p->blocks, first = chunk % p->blocks * p->pixels, ld;
    int64_t count = min_i64(p->pixels, plane - first), panel = w->type == GGML_TYPE_F32 ? channels : PANEL_CHANNELS;
    float *columns = scratch, *widened = columns + (p->direct ? 0 : p->depth * p->pixels);
    const float *seen = columns_of(dst, p, item, first, count, columns, &ld);
    for (int64_t c = 0; c < channels; c += panel) {
        int64_t rows = min_i64(panel, channels - c);
        const float *kernels = w->data;
        if (w->type != GGML_TYPE_F32) {
            widen(w->type, (const char *)w->data + (size_t)(c * p->depth) * ggml_type_size(w->type), widened, rows * p->depth);
            kernels = widened;
        }
        float *y = (float *)dst->data + (item * channels + c) * plane + first;
        for (int64_t r = 0; bias != NULL && r < rows; r++)
            for (int64_t i = 0; i < count; i++) y[r * plane + i] = ((const float *)bias->data)[c + r];
        if (dnnl_sgemm('N', 'N', rows, count, p->depth, 1.0f, kernels, p->depth, seen, ld, bias != NULL ? 1.0f : 0.0f, y, plane) !=
            dnnl_success)
            return "oneDNN refused a convolution's product";
    }
    return NULL;
}

static int64_t out_size(int64_t in, int64_t kernel, int stride, int padding_in_all) { return (in + padding_in_all - kernel) / stride + 1; }

static struct ggml_tensor *conv_cpu(graph *g, struct ggml_tensor *x, struct ggml_tensor *w, struct ggml_tensor *b, int stride, int padding,
                                    bool after_only) {
    int sides = after_only ? padding : 2 * padding;
    int64_t width = out_size(x->ne[0], w->ne[0], stride, sides), height = out_size(x->ne[1], w->ne[1], stride, sides);
    conv p = {.stride = stride, .padding = after_only ? 0 : padding, .depth = w->ne[0] * w->ne[1] * w->ne[2]};
    p.direct = w->ne[0] == 1 && w->ne[1] == 1 && stride == 1 && padding == 0;
    /* At least 8 blocks an image where that leaves them worth a call, so that every thread gets some. */
    int64_t fit = min_i64(MAX_PIXELS, COLUMN_FLOATS / p.depth);
    p.pixels = max_i64(MIN_PIXELS, min_i64(fit, chunk_count(width * height, 8)));
    p.blocks = chunk_count(width * height, p.pixels);
    size_t floats = (size_t)(p.direct ? 0 : p.depth * p.pixels) + (size_t)(w->type == GGML_TYPE_F32 ? 0 : p.depth * PANEL_CHANNELS);
    return custom_add(g, &(custom_spec){
        .ne = {width, height, w->ne[3], x->ne[3]},
        .sources = {x, w, b},
        .kernel = conv_kernel,
        .chunks = p.blocks * x->ne[3],
        .scratch_bytes = floats * sizeof(float),
        .parameters = &p,
        .parameter_bytes = sizeof p,
    });
}

struct ggml_tensor *compute_conv2d(graph *g, struct ggml_tensor *x, struct ggml_tensor *w, struct ggml_tensor *b, int stride, int padding,
                                   bool pad_after_only) {
    if (device_is_cpu(graph_device(g))) return conv_cpu(g, x, w, b, stride, padding, pad_after_only);
    struct ggml_context *c = graph_context(g);
    if (pad_after_only) {
        x = ggml_pad(c, x, padding, padding, 0, 0);
        padding = 0;
    }
    struct ggml_tensor *y = ggml_conv_2d_direct(c, w, x, stride, stride, padding, padding, 1, 1);
    if (!device_supports(graph_device(g), y)) y = ggml_conv_2d(c, w, x, stride, stride, padding, padding, 1, 1);
    return b != NULL ? ggml_add(c, y, ggml_reshape_3d(c, b, 1, 1, b->ne[0])) : y;
}
