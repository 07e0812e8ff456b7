/* What running tasks look like by now: of each, the newest preview that its engine sent, small and rough.
 *
 * One thread: the loop's. Nothing here outlives the process. */
#ifndef IMAGINED_SERVER_PICTURES_PREVIEWS_H
#define IMAGINED_SERVER_PICTURES_PREVIEWS_H

#include "base/buffer.h"
#include "image/image.h"
#include "queue/task.h"

enum { PREVIEW_MAX_SIDE = 1024 }; /* an engine sends none that is larger */

typedef struct preview {
    char task[TASK_ID_BYTES];
    int image, step; /* the task's image, and the steps that it has had */
    int width, height;
    const uint8_t *rgb; /* width × height × 3 bytes: a pixel for each cell of the latent, or fewer */
} preview;

typedef struct previews previews;

bool previews_new(previews **out, error *e);
void previews_free(previews *p); /* NULL is fine */
/* Takes a copy, in place of the task's last one. Sides beyond PREVIEW_MAX_SIDE are refused. */
bool previews_put(previews *p, const preview *newest, error *e);
void previews_drop(previews *p, const char *id); /* the task is over, or has begun again */
/* NULL: none so far. Borrowed until the next change. */
const preview *previews_find(const previews *p, const char *id);
/* Its size where its longer side has `side` pixels; never smaller than it is. */
void preview_size(const preview *v, int side, int *width, int *height);
/* Appends the preview as a file, enlarged (never made smaller) so that its longer side has `side` pixels; 0: as it is. Small enough for the
 * loop's thread as JPEG up to some hundred pixels a side. */
bool preview_encode(const preview *v, int side, image_format format, int quality, buffer *out, error *e);

#endif
