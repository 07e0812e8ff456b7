#include "base/config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/config_value.h"
#include "base/file.h"

struct config {
    const config_table *table;
    const config_command *command;
    config_value *values; /* one an option */
    size_t *lines;        /* where the file sets the option; 0: nowhere */
    const char **arguments;
    size_t argument_count;
    bool help_wanted;
    arena memory; /* of all the above and of the texts */
};

/* --- one value --- */

/* Checks the value and takes it if nothing of higher precedence stands there. `place` goes before the complaint. */
static bool set_value(config *c, size_t i, config_origin origin, const char *text, const char *place, error *e) {
    const config_option *o = &c->table->options[i];
    config_value v = {.origin = origin};
    error fault = {0};
    if (!config_value_parse(o, text, &c->memory, &v, &fault)) {
        error_code code = origin == CONFIG_FROM_FILE && fault.code == ERROR_INVALID ? ERROR_BAD_FILE : fault.code;
        return error_field(e, code, o->flag != NULL ? o->flag : o->key != NULL ? o->key : "", "%s %s", place, fault.text);
    }
    if (origin >= c->values[i].origin) c->values[i] = v;
    return true;
}

static bool set_defaults(config *c, error *e) {
    for (size_t i = 0; i < c->table->count; i++) {
        const config_option *o = &c->table->options[i];
        const char *text = o->fallback;
        char first[256];
        if (text == NULL && o->type == CONFIG_CHOICE) {
            size_t n = strcspn(o->choices, "|");
            assert(n < sizeof first);
            memcpy(first, o->choices, n);
            first[n] = '\0';
            text = first;
        }
        if (text == NULL) text = o->type == CONFIG_TEXT ? "" : "0";
        config_value v = {.origin = CONFIG_FROM_DEFAULT};
        config_option free_range = *o; /* a default may lie outside what a user may write, to mean "not given" */
        free_range.low = free_range.high = 0;
        if (!config_value_parse(&free_range, text, &c->memory, &v, e))
            return error_prefix(e, "the default of --%s ", o->flag != NULL ? o->flag : o->key != NULL ? o->key : "?");
        c->values[i] = v;
    }
    return true;
}

static bool belongs(const config *c, const config_option *o) { return (o->commands & c->command->bit) != 0; }

/* --- flags --- */

/* The words left to read. */
typedef struct words {
    int count, at;
    char **words;
} words;

static bool add_argument(config *c, const char *text, error *e) {
    const char *copy = arena_text(&c->memory, text, strlen(text));
    if (copy == NULL) return error_no_memory(e, "the arguments", strlen(text));
    c->arguments[c->argument_count++] = copy;
    return true;
}

static bool unknown_flag(const config *c, const char *word, size_t length, error *e) {
    char typed[CONFIG_SHOWN_BYTES];
    config_shown(word, length, typed);
    const char *nearest = NULL, **flags = calloc(c->table->count, sizeof *flags);
    if (flags != NULL && strncmp(typed, "--", 2) == 0) {
        for (size_t i = 0; i < c->table->count; i++)
            if (belongs(c, &c->table->options[i]) && c->table->options[i].help != NULL) flags[i] = c->table->options[i].flag;
        nearest = config_nearest(typed + 2, flags, c->table->count);
    }
    free(flags);
    const char *of = c->command->name[0] != '\0' ? c->command->name : c->table->program;
    if (nearest != NULL) return error_set(e, ERROR_INVALID, "%s has no option %s: did you mean --%s?", of, typed, nearest);
    return error_set(e, ERROR_INVALID, "%s has no option %s", of, typed);
}

/* The option of this command with the flag name[0 … length), or by letter where name is NULL; table->count when there is none. */
static size_t find_flag(const config *c, const char *name, size_t length, char letter) {
    for (size_t i = 0; i < c->table->count; i++) {
        const config_option *o = &c->table->options[i];
        if (!belongs(c, o)) continue;
        if (name == NULL ? o->letter == letter : o->flag != NULL && strlen(o->flag) == length && memcmp(o->flag, name, length) == 0)
            return i;
    }
    return c->table->count;
}

/* The value of the flag `place`: what stands in its own word (`own`, may be NULL) or the next word. */
static bool take_value(config *c, size_t i, const char *own, const char *place, words *w, error *e) {
    const config_option *o = &c->table->options[i];
    const char *field = o->flag != NULL ? o->flag : "", *next = w->at < w->count ? w->words[w->at] : NULL;
    if (own != NULL) return set_value(c, i, CONFIG_FROM_FLAG, own, place, e);
    if (next == NULL) return error_field(e, ERROR_INVALID, field, "%s needs a value", place);
    if (strncmp(next, "--", 2) == 0) {
        char typed[CONFIG_SHOWN_BYTES];
        config_shown(next, strlen(next), typed);
        return error_field(e, ERROR_INVALID, field, "%s needs a value (if it is %s, write %s=%s)", place, typed, place, typed);
    }
    w->at++;
    return set_value(c, i, CONFIG_FROM_FLAG, next, place, e);
}

static bool take_long(config *c, const char *word, words *w, error *e) {
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    if (equals == NULL && strcmp(name, "help") == 0) return c->help_wanted = true;
    char place[80];
    snprintf(place, sizeof place, "%.*s", length > 70 ? 70 : (int)length + 2, word);
    size_t i = find_flag(c, name, length, 0);
    if (i < c->table->count) {
        const char *own = equals != NULL ? equals + 1 : NULL;
        if (c->table->options[i].type == CONFIG_BOOLEAN && own == NULL) own = "true";
        return take_value(c, i, own, place, w, e);
    }
    if (strncmp(name, "no-", 3) == 0 && equals == NULL) {
        i = find_flag(c, name + 3, length - 3, 0);
        if (i < c->table->count && c->table->options[i].type == CONFIG_BOOLEAN) return set_value(c, i, CONFIG_FROM_FLAG, "false", place, e);
    }
    return unknown_flag(c, word, length + 2, e);
}

static bool take_short(config *c, const char *word, words *w, error *e) {
    if (strcmp(word, "-h") == 0) return c->help_wanted = true;
    size_t i = find_flag(c, NULL, 0, word[1]);
    char place[3] = {'-', word[1], '\0'};
    bool known = i < c->table->count;
    bool boolean = known && c->table->options[i].type == CONFIG_BOOLEAN;
    if (!known || (boolean && word[2] != '\0')) return unknown_flag(c, word, strlen(word), e);
    return take_value(c, i, boolean ? "true" : word[2] != '\0' ? word + 2 : NULL, place, w, e);
}

static bool count_arguments(const config *c, error *e) {
    const config_command *command = c->command;
    int count = (int)c->argument_count;
    if (count < command->min_arguments)
        return error_set(e, ERROR_INVALID, "%s is missing", command->arguments != NULL ? command->arguments : "an argument");
    if (count <= command->max_arguments) return true;
    const char *first = c->arguments[command->max_arguments];
    char typed[CONFIG_SHOWN_BYTES];
    return error_set(e, ERROR_INVALID, "there is an argument too many: '%s' (put words that belong together in quotes)",
                     config_shown(first, strlen(first), typed));
}

static bool read_flags(config *c, const config_sources *sources, error *e) {
    words w = {.count = sources->argc, .words = sources->argv};
    c->arguments = arena_array(&c->memory, (size_t)(w.count > 0 ? w.count : 1), sizeof *c->arguments);
    if (c->arguments == NULL) return error_no_memory(e, "the arguments", (unsigned long long)w.count * sizeof *c->arguments);
    bool flags = true;
    while (w.at < w.count && !c->help_wanted) {
        const char *word = w.words[w.at++];
        bool ok;
        if (!flags || word[0] != '-' || word[1] == '\0') ok = add_argument(c, word, e);
        else if (strcmp(word, "--") == 0) ok = !(flags = false);
        else if (word[1] == '-') ok = take_long(c, word, &w, e);
        else ok = take_short(c, word, &w, e);
        if (!ok) return false;
    }
    return c->help_wanted || count_arguments(c, e);
}

/* --- environment --- */

static const char *look_up(char **environment, const char *name) {
    size_t n = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++)
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=') return *environment + n + 1;
    return NULL;
}

static bool read_environment(config *c, char **environment, error *e) {
    for (size_t i = 0; i < c->table->count; i++) {
        const config_option *o = &c->table->options[i];
        if (o->environment == NULL || !belongs(c, o)) continue;
        const char *text = look_up(environment, o->environment);
        if (text != NULL && text[0] != '\0' && !set_value(c, i, CONFIG_FROM_ENVIRONMENT, text, o->environment, e)) return false;
    }
    return true;
}

static bool is_variable(const config_table *table, const char *const *others, const char *name) {
    for (size_t i = 0; i < table->count; i++)
        if (table->options[i].environment != NULL && strcmp(table->options[i].environment, name) == 0) return true;
    for (; *others != NULL; others++)
        if (strcmp(*others, name) == 0) return true;
    return false;
}

/* Compared without the prefix, which all have in common. */
static const char *nearest_variable(const config_table *table, const char *name, size_t prefix_size) {
    const char **rests = calloc(table->count, sizeof *rests), *nearest = NULL;
    for (size_t i = 0; rests != NULL && i < table->count; i++) {
        const char *known = table->options[i].environment;
        if (known != NULL) rests[i] = strncmp(known, name, prefix_size) == 0 ? known + prefix_size : known;
    }
    if (rests != NULL) nearest = config_nearest(name + prefix_size, rests, table->count);
    for (size_t i = 0; nearest != NULL && i < table->count; i++)
        if (rests[i] == nearest) nearest = table->options[i].environment;
    free(rests);
    return nearest;
}

void config_unknown_variables(const config_table *table, char *const *environment, const char *prefix, const char *const *others,
                              void (*tell)(void *context, const char *name, const char *nearest), void *context) {
    size_t prefix_size = strlen(prefix);
    for (; environment != NULL && *environment != NULL; environment++) {
        char name[CONFIG_SHOWN_BYTES];
        size_t size = strcspn(*environment, "=");
        if (strncmp(*environment, prefix, prefix_size) != 0 || size < prefix_size) continue;
        config_shown(*environment, size, name);
        if (!is_variable(table, others, name)) tell(context, name, nearest_variable(table, name, prefix_size));
    }
}

/* --- config file --- */

static bool unknown_key(const config *c, const char *path, const config_line *line, error *e) {
    const char **keys = calloc(c->table->count, sizeof *keys);
    for (size_t i = 0; keys != NULL && i < c->table->count; i++) keys[i] = c->table->options[i].key;
    const char *nearest = keys == NULL ? NULL : config_nearest(line->key, keys, c->table->count);
    for (size_t i = 0; i < c->table->count; i++) { /* the variable's name, in a file */
        const config_option *o = &c->table->options[i];
        if (o->key != NULL && o->environment != NULL && strcmp(o->environment, line->key) == 0) nearest = o->key;
    }
    free(keys);
    const char *mean = nearest != NULL ? ": did you mean '" : "", *end = nearest != NULL ? "'?" : "";
    return error_set(e, ERROR_BAD_FILE, "%s:%zu: there is no option '%.64s'%s%s%s", path, line->number, line->key, mean,
                     nearest != NULL ? nearest : "", end);
}

/* Several entries of the table may share a key (with other defaults for other commands): each gets the value. */
static bool take_line(config *c, const char *path, const config_line *line, error *e) {
    bool known = false;
    for (size_t i = 0; i < c->table->count; i++) {
        const char *key = c->table->options[i].key;
        if (key == NULL || strcmp(key, line->key) != 0) continue;
        known = true;
        if (c->lines[i] != 0)
            return error_field(e, ERROR_BAD_FILE, key, "%s:%zu: '%s' was set before, in line %zu", path, line->number, key, c->lines[i]);
        c->lines[i] = line->number;
        char place[512];
        snprintf(place, sizeof place, "%.400s:%zu: '%s'", path, line->number, key);
        if (!set_value(c, i, CONFIG_FROM_FILE, line->value, place, e)) return false;
    }
    return known || unknown_key(c, path, line, e);
}

static bool read_lines(config *c, const char *path, buffer *text, error *e) {
    if (text->size == 0) return true;
    if (memchr(text->data, '\0', text->size) != NULL) return error_set(e, ERROR_BAD_FILE, "%s has a NUL byte: it is no config file", path);
    config_reader reader = {text->data, text->data + text->size, 0};
    config_line line;
    bool more;
    for (;;) {
        if (!config_read_line(&reader, &line, &more, e)) return error_prefix(e, "%s:%zu: ", path, reader.number);
        if (!more) return true;
        if (!take_line(c, path, &line, e)) return false;
    }
}

static bool read_file(config *c, const char *path, bool may_be_missing, error *e) {
    buffer text = {0};
    error fault = {0};
    bool ok = file_read(path, CONFIG_MAX_FILE_BYTES, &text, &fault);
    if (ok) ok = read_lines(c, path, &text, &fault);
    else if (may_be_missing && fault.code == ERROR_NOT_FOUND) ok = true;
    else error_prefix(&fault, "the config file: ");
    buffer_free(&text);
    if (!ok && e != NULL) *e = fault;
    return ok;
}

static bool read_named_file(config *c, const char *default_file, error *e) {
    int option = c->table->file_option;
    const char *named = option < 0 ? "" : c->values[option].text;
    if (option >= 0 && c->values[option].origin != CONFIG_FROM_DEFAULT) return named[0] == '\0' || read_file(c, named, false, e);
    if (default_file == NULL) default_file = named;
    return default_file[0] == '\0' || read_file(c, default_file, true, e);
}

/* --- all of it --- */

bool config_load(const config_table *table, const config_command *command, const config_sources *sources, config **out, error *e) {
    config *c = calloc(1, sizeof *c);
    if (c == NULL) return error_no_memory(e, "the configuration", sizeof *c);
    c->table = table;
    c->command = command;
    c->values = arena_array(&c->memory, table->count, sizeof *c->values);
    c->lines = arena_array(&c->memory, table->count, sizeof *c->lines);
    bool ok = c->values != NULL && c->lines != NULL;
    if (!ok) error_no_memory(e, "the configuration", table->count * sizeof *c->values);
    /* Flags first, as they may ask for help or name the file; precedence is set_value's affair and not the order's. */
    ok = ok && set_defaults(c, e) && read_flags(c, sources, e) &&
         (c->help_wanted || (read_environment(c, sources->environment, e) && read_named_file(c, sources->default_file, e)));
    if (!ok) {
        config_free(c);
        return false;
    }
    *out = c;
    return true;
}

void config_free(config *c) {
    if (c == NULL) return;
    arena_free(&c->memory);
    free(c);
}

bool config_help_wanted(const config *c) { return c->help_wanted; }

static const config_value *value_of(const config *c, size_t option, config_type type) {
    assert(option < c->table->count);
    config_type is = c->table->options[option].type;
    assert(is == type || (is == CONFIG_CHOICE && type == CONFIG_TEXT));
    return &c->values[option];
}

const char *config_text(const config *c, size_t option) { return value_of(c, option, CONFIG_TEXT)->text; }
int64_t config_integer(const config *c, size_t option) { return value_of(c, option, CONFIG_INTEGER)->integer; }
double config_real(const config *c, size_t option) { return value_of(c, option, CONFIG_REAL)->real; }
bool config_boolean(const config *c, size_t option) { return value_of(c, option, CONFIG_BOOLEAN)->boolean; }

config_origin config_origin_of(const config *c, size_t option) {
    assert(option < c->table->count);
    return c->values[option].origin;
}

size_t config_argument_count(const config *c) { return c->argument_count; }
const char *config_argument(const config *c, size_t i) { return i < c->argument_count ? c->arguments[i] : NULL; }
