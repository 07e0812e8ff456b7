/* Where `imagined generate` puts its picture: a file, which is replaced as a whole; a device or pipe, which is written to; the standard
 * output, by "-", another name of it, or the name of the file that it is. */
#ifndef IMAGINED_CLI_OUTPUT_H
#define IMAGINED_CLI_OUTPUT_H

#include <limits.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "image/image.h"

typedef struct output {
    const char *path;      /* borrowed */
    bool standard;         /* it is the standard output */
    bool through;          /* it is there and no regular file: what is written goes through it */
    image_format format;   /* by the path's ending; PNG where that says nothing */
    char target[PATH_MAX]; /* neither of these: the file, at the end of the links where the path is one */
} output;

/* Chooses, and asks before the work whether it will do: nobody wants to wait for a picture that cannot be written. */
bool output_choose(const char *path, output *out, error *e);
bool output_write(const output *o, const buffer *bytes, error *e);

/* Whether there is a standard output to write to: not where it was closed, or only reads. */
bool output_standard_is_open(void);

#endif
