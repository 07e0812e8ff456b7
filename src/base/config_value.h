/* Of base/config: one option's value, from text and back; and lines of a config file. Not for other rooms. */
#ifndef IMAGINED_BASE_CONFIG_VALUE_H
#define IMAGINED_BASE_CONFIG_VALUE_H

#include "base/arena.h"
#include "base/config.h"

typedef struct config_value {
    config_origin origin;
    const char *text; /* CONFIG_TEXT, CONFIG_CHOICE */
    int64_t integer;
    double real;
    bool boolean;
} config_value;

enum { CONFIG_SHOWN_BYTES = 72 };
/* What was typed, fit for a complaint: cut after some 60 bytes, bytes that are no UTF-8 and control characters replaced. Returns out. */
const char *config_shown(const char *text, size_t size, char out[CONFIG_SHOWN_BYTES]);

/* Parses `text` as the option's type demands; a text is copied to `memory`. On failure e->text says what the value must be, without a
 * place: "is 'x': it must be a whole number from 0 to 9" (ERROR_INVALID). */
bool config_value_parse(const config_option *option, const char *text, arena *memory, config_value *out, error *e);

/* One `key = value` of a file. */
typedef struct config_line {
    size_t number;          /* from 1 */
    const char *key, *value; /* in the text given, changed in place */
} config_line;

/* Where a reading stands; start with {text, text + size, 0}. */
typedef struct config_reader {
    char *at, *end; /* text[size] must be writable: it becomes NUL */
    size_t number;
} config_reader;

/* The next line that says something; *more is false when there is none. False for a malformed line: e->text without a place, reader->number
 * its line. */
bool config_read_line(config_reader *reader, config_line *out, bool *more, error *e);

#endif
