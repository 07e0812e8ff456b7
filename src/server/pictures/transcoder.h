/* Pictures in another format or size than they are kept in: a worker decodes, resizes and encodes, so that none of it holds the event loop.
 *
 *     transcode job = {.path = path, .format = IMAGE_WEBP, .quality = 85};
 *     if (!transcoder_add(s->transcoder, &job, done, mine, &mine->job, &why)) …        done(mine, file, why) follows, later
 *     …
 *     transcoder_drop(s->transcoder, mine->job);     the client has left before: nothing follows
 *
 * For the pictures of one answer there is server/requests/renditions.h, which also cares for clients that leave.
 *
 * Its jobs go through a worker of its own (server/http/worker.h). All functions are called from the loop's thread. */
#ifndef IMAGINED_SERVER_PICTURES_TRANSCODER_H
#define IMAGINED_SERVER_PICTURES_TRANSCODER_H

#include "base/buffer.h"
#include "image/image.h"
#include "server/http/loop.h"
#include "server/pictures/previews.h"

enum {
    TRANSCODER_MAX_JOBS = 4096,         /* that wait; beyond: ERROR_BUSY */
    TRANSCODER_MAX_BYTES = 64 << 20,    /* of pixels that wait; beyond: ERROR_BUSY */
    TRANSCODER_FILE_BYTES = 512 << 20,  /* of a stored picture */
};

typedef struct transcoder transcoder;
typedef struct transcoding transcoding; /* one job on its way */

typedef struct transcode {
    const char *path; /* of a stored picture, PNG, JPEG or WebP, which the worker opens; copied. NULL: `pixels` */
    image pixels;     /* taken, whatever happens */
    image_format format;
    int quality;       /* 1–100, as image_encode takes it; 0: TRANSCODE_QUALITY */
    int width, height; /* of the result; both 0: as it is */
} transcode;

enum { TRANSCODE_QUALITY = 90 };

/* The file (why NULL), whose memory the callee may take (then *file = (buffer){0}), or what went wrong (file NULL). The transcoding is
 * gone. */
typedef void (*transcode_done)(void *context, buffer *file, const error *why);

bool transcoder_new(loop *l, transcoder **out, error *e);
/* Waits for the job at hand. What was neither done nor dropped is dropped. NULL is fine. */
void transcoder_free(transcoder *t);
/* A stored picture's settings text goes over into the new file (but for one over 30,000 bytes, which a JPEG cannot hold); a PNG that is
 * asked for as PNG and in its own size comes as it is, with all that it carries. For JPEG, what is transparent is laid over white. *out
 * (may be NULL) is borrowed until `done`, which is called once, and never before this returns. False: it will not be called. */
bool transcoder_add(transcoder *t, const transcode *job, transcode_done done, void *context, transcoding **out, error *e);
/* `done` will not be called. NULL is fine. */
void transcoder_drop(transcoder *t, transcoding *job);

bool transcoder_idle(const transcoder *t); /* nothing is on its way that was not dropped */

/* A copy of a preview's pixels for a job. */
bool transcode_copy_preview(const preview *v, image *out, error *e);

#endif
