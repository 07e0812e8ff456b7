/* How functions say what went wrong.
 *
 * A function that can fail returns bool and takes an `error *` last. On failure it fills the error once, where the fault is
 * found, with a code (what kind of fault: one table in the server maps it to an HTTP status) and a sentence that names the
 * thing and the remedy. Callers may put context in front (error_prefix) and pass it on; libraries never log it. */
#ifndef IMAGINED_BASE_ERROR_H
#define IMAGINED_BASE_ERROR_H

#include <stdbool.h>

typedef enum error_code {
    ERROR_NONE = 0,
    ERROR_INVALID,       /* a request or command line asks for something impossible */
    ERROR_NOT_FOUND,     /* the named thing does not exist */
    ERROR_BAD_FILE,      /* a file is truncated, lies about itself or lacks something */
    ERROR_UNSUPPORTED,   /* well-formed, but not something this program does */
    ERROR_TOO_LARGE,     /* over a stated cap */
    ERROR_OUT_OF_MEMORY, /* main or device memory */
    ERROR_DEVICE,        /* a compute device failed */
    ERROR_IO,            /* the operating system refused a file or socket operation */
    ERROR_DISK_FULL,
    ERROR_BUSY,          /* full or taken at the moment; may work later */
    ERROR_CANCELLED,
    ERROR_TIMEOUT,
    ERROR_UNAUTHORIZED,  /* it needs a key, and came with none or a wrong one */
    ERROR_FORBIDDEN,     /* whoever asks, it is not to be done for this page or under this name */
    ERROR_INTERNAL,      /* a fault of this program */
} error_code;

enum { ERROR_TEXT_BYTES = 512, ERROR_FIELD_BYTES = 64 };

typedef struct error {
    error_code code;
    char field[ERROR_FIELD_BYTES]; /* the request field at fault, or "" */
    char text[ERROR_TEXT_BYTES];   /* valid UTF-8, one sentence or more, no newline */
} error;

/* Fills *e (NULL is allowed: nobody wants to know) and returns false, so that a check is one line. Over-long text is cut at a
 * character boundary; a byte that is not UTF-8, or a control character, becomes '?'. */
bool error_set(error *e, error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, for a fault in the request field `field`. */
bool error_field(error *e, error_code code, const char *field, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Puts context before the text of an error that is set: "loading demo: " + text. Returns false. */
bool error_prefix(error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ERROR_OUT_OF_MEMORY for `bytes` of main memory wanted for `what`. Returns false. */
bool error_no_memory(error *e, const char *what, unsigned long long bytes);

/* ERROR_DISK_FULL for ENOSPC and EDQUOT, else ERROR_IO, with the system's words for errno: "cannot open PATH: …". */
bool error_system(error *e, const char *action, const char *path);

/* A short lower-case name for logs and problem documents: "invalid", "bad_file", … */
const char *error_code_name(error_code code);

#endif
