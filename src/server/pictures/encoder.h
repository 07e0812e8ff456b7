/* The worker that turns pixels into stored PNG files, so that compression and fsync never hold the event loop.
 *
 * While the disk is full it keeps the picture that it has at hand and tries again each second; those behind it wait.
 *
 * One thread of its own, one job after another, in order. All functions are called from the loop's thread. */
#ifndef IMAGINED_SERVER_PICTURES_ENCODER_H
#define IMAGINED_SERVER_PICTURES_ENCODER_H

#include "base/error.h"
#include "server/pictures/picture_store.h"

typedef struct encoder encoder;

enum { ENCODER_TEXTS = 4, ENCODER_TEXT_BYTES = 512 << 10 };

typedef struct encoder_text {
    const char *keyword; /* of png_text_entry; a literal */
    char *text;
} encoder_text;

typedef struct encoder_job {
    char task[TASK_ID_BYTES];
    int index;
    uint64_t run; /* handed through: which admission of the task it came from */
    int memfd;    /* width × height × 3 bytes of RGB */
    int width, height;
    char *parameters; /* the text that goes into the file; malloc'ed */
    encoder_text texts[ENCODER_TEXTS]; /* further ones: encoder_job_add_text */
    int text_count;
} encoder_job;

/* Takes the text, which is malloc'ed UTF-8 (NULL: none); one over ENCODER_TEXT_BYTES, or beyond ENCODER_TEXTS, is left out. */
void encoder_job_add_text(encoder_job *job, const char *keyword, char *text);

typedef struct encoder_result {
    char task[TASK_ID_BYTES];
    int index;
    uint64_t run;
    bool waiting;   /* not its end: the disk is full (`fault`), and the result is still to come */
    uint64_t bytes; /* of the file */
    error fault;    /* code ERROR_NONE: the file is on disk under its id */
} encoder_result;

bool encoder_new(const picture_store *store, encoder **out, error *e);
/* Waits for the job at hand, unless it waits for the disk; drops those behind it. NULL is fine. */
void encoder_free(encoder *enc);
/* Takes the job's memfd and text, whatever happens. */
bool encoder_submit(encoder *enc, encoder_job *job, error *e);
/* Readable while results wait. */
int encoder_fd(const encoder *enc);
bool encoder_next(encoder *enc, encoder_result *out); /* false: none waits */

#endif
