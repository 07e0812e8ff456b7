#include "base/config_value.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

const char *config_shown(const char *text, size_t size, char out[CONFIG_SHOWN_BYTES]) {
    static const char dots[] = "…";
    size_t n = 0, at = 0;
    while (at < size) {
        size_t start = at;
        int32_t c = utf8_next(text, size, &at);
        if (n + (at - start) + sizeof dots > CONFIG_SHOWN_BYTES) {
            memcpy(out + n, dots, sizeof dots);
            return out;
        }
        if (c < 0x20 || c == 0x7F) out[n++] = '?';
        else {
            memcpy(out + n, text + start, at - start);
            n += at - start;
        }
    }
    out[n] = '\0';
    return out;
}

static bool has_range(const config_option *o) { return o->low != 0 || o->high != 0; }

static bool parse_boolean(const char *text, bool *out) {
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) != 0 && strcasecmp(text, no[i]) != 0) continue;
        *out = strcasecmp(text, yes[i]) == 0;
        return true;
    }
    return false;
}

/* strtoll and strtod take white space in front, and strtod "inf", "nan" and hexadecimal: none of them is meant. */
static bool is_made_of(const char *text, const char *characters) { return text[0] != '\0' && strspn(text, characters) == strlen(text); }

static bool parse_integer(const config_option *o, const char *text, int64_t *out) {
    if (!is_made_of(text, "+-0123456789")) return false;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*end != '\0' || errno != 0 || (has_range(o) && !((double)n >= o->low && (double)n <= o->high))) return false;
    *out = n;
    return true;
}

static bool parse_real(const config_option *o, const char *text, double *out) {
    if (!is_made_of(text, "+-.eE0123456789")) return false;
    char *end;
    double n = strtod(text, &end);
    if (*end != '\0' || !isfinite(n) || (has_range(o) && !(n >= o->low && n <= o->high))) return false;
    *out = n;
    return true;
}

/* The word of choices that text is, as choices spells it: *length 0 when it is none. */
static const char *find_choice(const char *choices, const char *text, size_t *length) {
    size_t wanted = strlen(text);
    for (const char *at = choices; at != NULL; at = strchr(at, '|')) {
        if (*at == '|') at++;
        *length = strcspn(at, "|");
        if (*length == wanted && strncasecmp(at, text, wanted) == 0) return at;
    }
    *length = 0;
    return NULL;
}

static bool text_is_clean(const char *text, size_t size) {
    if (!utf8_valid(text, size, NULL)) return false;
    for (size_t i = 0; i < size; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\n' && text[i] != '\t') || text[i] == 0x7F) return false;
    return true;
}

/* "is 'x': it must be …" */
static bool complain(const config_option *o, const char *text, error *e) {
    char typed[CONFIG_SHOWN_BYTES];
    config_shown(text, strlen(text), typed);
    const char *what = o->type == CONFIG_INTEGER ? "a whole number" : "a number";
    switch (o->type) {
    case CONFIG_BOOLEAN: return error_set(e, ERROR_INVALID, "is '%s': it must be true or false", typed);
    case CONFIG_CHOICE: return error_set(e, ERROR_INVALID, "is '%s': it must be one of %s", typed, o->choices);
    case CONFIG_INTEGER:
    case CONFIG_REAL:
        if (!has_range(o)) return error_set(e, ERROR_INVALID, "is '%s': it must be %s", typed, what);
        return error_set(e, ERROR_INVALID, "is '%s': it must be %s from %.15g to %.15g", typed, what, o->low, o->high);
    case CONFIG_TEXT: break;
    }
    return error_set(e, ERROR_INTERNAL, "has no type");
}

bool config_value_parse(const config_option *option, const char *text, arena *memory, config_value *out, error *e) {
    size_t size = strlen(text);
    if (size > CONFIG_MAX_VALUE_BYTES)
        return error_set(e, ERROR_INVALID, "has %zu bytes: at most %d are allowed", size, CONFIG_MAX_VALUE_BYTES);
    if (!text_is_clean(text, size)) return error_set(e, ERROR_INVALID, "has a control character or is not valid UTF-8");
    bool ok = true;
    const char *copied = text;
    switch (option->type) {
    case CONFIG_TEXT: break;
    case CONFIG_CHOICE:
        copied = find_choice(option->choices, text, &size);
        ok = copied != NULL;
        break;
    case CONFIG_INTEGER: ok = parse_integer(option, text, &out->integer); break;
    case CONFIG_REAL: ok = parse_real(option, text, &out->real); break;
    case CONFIG_BOOLEAN: ok = parse_boolean(text, &out->boolean); break;
    }
    if (!ok) return complain(option, text, e);
    if (option->type != CONFIG_TEXT && option->type != CONFIG_CHOICE) return true;
    out->text = arena_text(memory, copied, size);
    return out->text != NULL || error_no_memory(e, "an option", size);
}
