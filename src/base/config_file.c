#include <string.h>

#include "base/config_value.h"

static const char blanks[] = " \t";
static const char key_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

static bool bad(error *e, const char *what) { return error_set(e, ERROR_BAD_FILE, "%s", what); }

/* Cuts the next line out of the text, without its line end; NULL after the last. */
static char *next_line(config_reader *r) {
    if (r->at >= r->end) return NULL;
    char *line = r->at, *newline = memchr(line, '\n', (size_t)(r->end - line));
    char *last = newline != NULL ? newline : r->end;
    r->at = newline != NULL ? newline + 1 : r->end;
    r->number++;
    if (last > line && last[-1] == '\r') last--;
    *last = '\0';
    return line;
}

/* What may follow a quoted value. */
static bool only_comment_follows(const char *at) {
    at += strspn(at, blanks);
    return *at == '\0' || *at == '#';
}

/* `at` stands behind the opening quote. The text is undone of its escapes in place. */
static bool read_quoted(char *at, char quote, const char **out, error *e) {
    char *to = at;
    *out = at;
    for (; *at != quote; at++) {
        if (*at == '\0') return bad(e, "the closing quote is missing");
        if (*at != '\\' || quote == '\'') {
            *to++ = *at;
            continue;
        }
        at++;
        switch (*at) {
        case '"':
        case '\\': *to++ = *at; break;
        case 'n': *to++ = '\n'; break;
        case 't': *to++ = '\t'; break;
        default: return bad(e, "after a backslash only \" \\ n t may stand (or use 'single quotes')");
        }
    }
    bool ok = only_comment_follows(at + 1);
    *to = '\0';
    return ok || bad(e, "something follows the closing quote");
}

static bool read_bare(char *at, const char **out, error *e) {
    char *end = at;
    while (*end != '\0' && !(*end == '#' && (end == at || strchr(blanks, end[-1]) != NULL))) end++;
    while (end > at && strchr(blanks, end[-1]) != NULL) end--;
    *end = '\0';
    *out = at;
    return end > at || bad(e, "there is no value (an empty text is written \"\")");
}

static bool read_assignment(char *at, config_line *out, error *e) {
    if (*at == '[') return bad(e, "sections are not known here: write key = value");
    char *key = at;
    at += strspn(at, key_characters);
    char *key_end = at;
    at += strspn(at, blanks);
    if (key_end == key || *at != '=') return bad(e, "this is not of the form key = value");
    at++;
    at += strspn(at, blanks);
    *key_end = '\0';
    out->key = key;
    if (*at == '"' || *at == '\'') return read_quoted(at + 1, *at, &out->value, e);
    return read_bare(at, &out->value, e);
}

bool config_read_line(config_reader *reader, config_line *out, bool *more, error *e) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    char *line;
    *more = false;
    while ((line = next_line(reader)) != NULL) {
        if (reader->number == 1 && strncmp(line, byte_order_mark, 3) == 0) line += 3;
        line += strspn(line, blanks);
        if (*line == '\0' || *line == '#') continue;
        *more = true;
        out->number = reader->number;
        return read_assignment(line, out, e);
    }
    return true;
}
