#include "server/pictures/previews.h"

#include <stdlib.h>
#include <string.h>

#include "image/resample.h"

typedef struct kept {
    preview preview; /* rgb: .pixels */
    uint8_t *pixels;
    struct kept *next;
} kept;

struct previews {
    kept *first; /* as many as tasks run: few */
};

bool previews_new(previews **out, error *e) {
    *out = calloc(1, sizeof **out);
    return *out != NULL || error_no_memory(e, "the previews", sizeof **out);
}

void previews_free(previews *p) {
    if (p == NULL) return;
    while (p->first != NULL) previews_drop(p, p->first->preview.task);
    free(p);
}

static kept **place_of(const previews *p, const char *id) {
    kept **at = (kept **)&p->first;
    while (*at != NULL && strcmp((*at)->preview.task, id) != 0) at = &(*at)->next;
    return at;
}

bool previews_put(previews *p, const preview *newest, error *e) {
    if (newest->width < 1 || newest->height < 1 || newest->width > PREVIEW_MAX_SIDE || newest->height > PREVIEW_MAX_SIDE)
        return error_set(e, ERROR_TOO_LARGE, "a preview of %d × %d pixels: at most %d a side are kept", newest->width, newest->height,
                         PREVIEW_MAX_SIDE);
    size_t bytes = (size_t)newest->width * (size_t)newest->height * 3;
    uint8_t *pixels = malloc(bytes);
    if (pixels == NULL) return error_no_memory(e, "a preview", bytes);
    kept **at = place_of(p, newest->task);
    if (*at == NULL) *at = calloc(1, sizeof **at);
    if (*at == NULL) {
        free(pixels);
        return error_no_memory(e, "a preview", sizeof **at);
    }
    memcpy(pixels, newest->rgb, bytes);
    free((*at)->pixels);
    (*at)->pixels = pixels;
    (*at)->preview = *newest;
    (*at)->preview.rgb = pixels;
    return true;
}

void previews_drop(previews *p, const char *id) {
    kept **at = place_of(p, id), *gone = *at;
    if (gone == NULL) return;
    *at = gone->next;
    free(gone->pixels);
    free(gone);
}

const preview *previews_find(const previews *p, const char *id) {
    const kept *k = *place_of(p, id);
    return k != NULL ? &k->preview : NULL;
}

void preview_size(const preview *v, int side, int *width, int *height) {
    int longer = v->width > v->height ? v->width : v->height;
    if (side < longer) side = longer;
    *width = (int)((long long)v->width * side / longer);
    *height = (int)((long long)v->height * side / longer);
    if (*width < 1) *width = 1;
    if (*height < 1) *height = 1;
}

bool preview_encode(const preview *v, int side, image_format format, int quality, buffer *out, error *e) {
    const image small = {.pixels = (uint8_t *)v->rgb, .width = v->width, .height = v->height, .channels = 3};
    int width, height;
    preview_size(v, side, &width, &height);
    if (width == v->width && height == v->height) return image_encode(&small, format, quality, NULL, out, e);
    image large;
    if (!image_resize(&small, width, height, &large, e)) return false;
    bool ok = image_encode(&large, format, quality, NULL, out, e);
    image_free(&large);
    return ok;
}
