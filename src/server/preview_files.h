/* Previews as files: a worker enlarges and encodes them, so that neither holds the event loop.
 *
 * One thread of its own, one after another, in order. All functions are called from the loop's thread. */
#ifndef IMAGINED_SERVER_PREVIEW_FILES_H
#define IMAGINED_SERVER_PREVIEW_FILES_H

#include "server/loop.h"
#include "server/previews.h"

enum { PREVIEW_FILES_WAITING = 64 }; /* at most; beyond: ERROR_BUSY */

typedef struct preview_files preview_files;
typedef struct preview_job preview_job;

/* The file is made (why NULL): it may be taken, leaving it empty. Or it is not (file NULL). */
typedef void (*preview_file_done)(void *context, buffer *file, const error *why);

bool preview_files_new(loop *l, preview_files **out, error *e);
/* Waits for the one at hand, and drops those behind it, which nobody is told. NULL is fine. */
void preview_files_free(preview_files *f);
/* As preview_encode, but later: `done` is called from the loop, unless the job is forgotten before. The preview is copied. *job is gone with `done`. */
bool preview_files_make(preview_files *f, const preview *v, int side, image_format format, int quality, preview_file_done done, void *context, preview_job **job,
                        error *e);
/* Nobody waits for it any more. */
void preview_files_forget(preview_job *job);

#endif
