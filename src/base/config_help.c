#include <stdlib.h>
#include <string.h>

#include "base/config.h"

enum { LINE_WIDTH = 80, TEXT_COLUMN = 28 };

/* --- words common to help and manual --- */

static const char *section_of(const config_option *o) { return o->section != NULL ? o->section : "Options"; }

static const char *placeholder(const config_option *o) {
    if (o->value != NULL) return o->value;
    switch (o->type) {
    case CONFIG_TEXT: return "TEXT";
    case CONFIG_CHOICE: return o->choices;
    case CONFIG_INTEGER: return "N";
    case CONFIG_REAL: return "X";
    case CONFIG_BOOLEAN: break;
    }
    return "";
}

/* A switch that is on is shown as what turns it off. */
static bool is_on(const config_option *o) {
    return o->type == CONFIG_BOOLEAN && o->fallback != NULL && strchr("tTyYoO1", o->fallback[0]) != NULL && strcmp(o->fallback, "off") != 0;
}

/* The default as a user would understand it; "" where there is nothing to tell. */
static void describe_default(const config_option *o, char *out, size_t capacity) {
    const char *text = o->shown != NULL ? o->shown : o->fallback;
    if (o->type == CONFIG_BOOLEAN && o->shown == NULL) text = is_on(o) ? "on" : NULL;
    if (text == NULL && o->type == CONFIG_CHOICE) snprintf(out, capacity, "%.*s", (int)strcspn(o->choices, "|"), o->choices);
    else snprintf(out, capacity, "%s", text != NULL ? text : "");
}

/* "-o, --output FILE"; an option without a flag is shown by its variable or key. */
static void describe_flag(const config_option *o, char *out, size_t capacity) {
    if (o->flag == NULL) {
        if (o->environment != NULL) snprintf(out, capacity, "%s=%s", o->environment, placeholder(o));
        else snprintf(out, capacity, "%s = %s", o->key != NULL ? o->key : "", placeholder(o));
        return;
    }
    char letter[8] = "";
    if (o->letter != 0) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    const char *value = placeholder(o);
    snprintf(out, capacity, "%s--%s%s%s%s", letter, is_on(o) ? "no-" : "", o->flag, value[0] != '\0' ? " " : "", value);
}

/* --- lines of 80 columns --- */

/* Characters, not bytes. (Wide and combining ones do not occur in help.) */
static int columns(const char *text, size_t bytes) {
    int n = 0;
    for (size_t i = 0; i < bytes; i++) n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

/* Prints words from column `at`, new lines beginning at `indent`. Returns the column reached. */
static int print_words(FILE *out, const char *text, int at, int indent) {
    bool first = true;
    while (*text != '\0') {
        if (*text == '\n') {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
            first = true;
            text++;
            continue;
        }
        text += strspn(text, " ");
        size_t bytes = strcspn(text, " \n");
        if (bytes == 0) continue;
        int width = columns(text, bytes);
        if (!first && at + 1 + width > LINE_WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
        } else if (!first) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, bytes, out);
        at += width;
        text += bytes;
        first = false;
    }
    return at;
}

/* "  --flag VALUE", then the text in its column. */
static void print_entry(FILE *out, const char *left, const char *text, const char *more) {
    fprintf(out, "  %s", left);
    int at = 2 + columns(left, strlen(left));
    if (at > TEXT_COLUMN - 2) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", TEXT_COLUMN - at, "");
    at = print_words(out, text, TEXT_COLUMN, TEXT_COLUMN);
    if (more[0] != '\0') {
        bool fits = at + 1 + columns(more, strlen(more)) <= LINE_WIDTH; /* the bracket stays in one piece where it can */
        if (fits) fputc(' ', out);
        else fprintf(out, "\n%*s", TEXT_COLUMN, "");
        print_words(out, more, fits ? at + 1 : TEXT_COLUMN, TEXT_COLUMN);
    }
    fputc('\n', out);
}

/* --- help --- */

static void print_option(FILE *out, const config_option *o) {
    char left[160], value[160], more[320] = "";
    describe_flag(o, left, sizeof left);
    describe_default(o, value, sizeof value);
    const char *variable = o->flag != NULL && o->environment != NULL ? o->environment : "";
    if (value[0] != '\0' && variable[0] != '\0') snprintf(more, sizeof more, "[%s; %s]", value, variable);
    else if (value[0] != '\0' || variable[0] != '\0') snprintf(more, sizeof more, "[%s%s]", value, variable);
    print_entry(out, left, o->help, more);
}

/* Whether an earlier option, shown as well, opened this one's section already. */
static bool section_is_open(const config_table *t, size_t i, uint32_t commands) {
    for (size_t k = 0; k < i; k++) {
        const config_option *o = &t->options[k];
        if (o->help != NULL && (o->commands & commands) != 0 && strcmp(section_of(o), section_of(&t->options[i])) == 0) return true;
    }
    return false;
}

void config_print_help(const config_table *table, const config_command *command, FILE *out) {
    fprintf(out, "Usage: %s%s%s [OPTIONS]%s%s\n", table->program, command->name[0] != '\0' ? " " : "", command->name,
            command->arguments != NULL ? " " : "", command->arguments != NULL ? command->arguments : "");
    const char *about = command->details != NULL ? command->details : command->summary;
    if (about != NULL) {
        fputc('\n', out);
        print_words(out, about, 0, 0);
        fputc('\n', out);
    }
    bool variables = false;
    for (size_t i = 0; i < table->count; i++) {
        const config_option *first = &table->options[i];
        if (first->help == NULL || (first->commands & command->bit) == 0 || section_is_open(table, i, command->bit)) continue;
        fprintf(out, "\n%s:\n", section_of(first));
        for (size_t k = i; k < table->count; k++) {
            const config_option *o = &table->options[k];
            if (o->help == NULL || (o->commands & command->bit) == 0 || strcmp(section_of(o), section_of(first)) != 0) continue;
            print_option(out, o);
            variables = variables || o->environment != NULL;
        }
    }
    fputc('\n', out);
    print_entry(out, "-h, --help", "Show this.", "");
    if (variables) {
        fputc('\n', out);
        print_words(out, "In brackets: the default, and the environment variable that sets the same. Flags win over variables, those over the config file.", 0, 0);
        fputc('\n', out);
    }
}

/* --- manual --- */

static void print_cell(FILE *out, const char *text, bool as_code) {
    fputs(as_code && text[0] != '\0' ? " `" : " ", out);
    for (; *text != '\0'; text++) {
        if (*text == '|') fputc('\\', out);
        fputc(*text == '\n' ? ' ' : *text, out);
        if (as_code && text[1] == '\0') fputc('`', out);
    }
    fputs(" |", out);
}

static void print_row(FILE *out, const config_option *o, const config_command *const *commands, size_t count) {
    char flag[160], value[160], users[256] = "";
    if (o->flag != NULL) describe_flag(o, flag, sizeof flag);
    else flag[0] = '\0';
    describe_default(o, value, sizeof value);
    for (size_t i = 0, n = 0; i < count; i++)
        if ((o->commands & commands[i]->bit) != 0 && n < sizeof users)
            n += (size_t)snprintf(users + n, sizeof users - n, "%s%s", n > 0 ? ", " : "", commands[i]->name);
    fputc('|', out);
    print_cell(out, flag, true);
    print_cell(out, o->environment != NULL ? o->environment : "", true);
    print_cell(out, o->key != NULL ? o->key : "", true);
    print_cell(out, value, o->shown == NULL);
    print_cell(out, users, false);
    print_cell(out, o->help, false);
    fputc('\n', out);
}

void config_print_manual(const config_table *table, const config_command *const *commands, size_t count, FILE *out) {
    uint32_t all = 0;
    for (size_t i = 0; i < count; i++) all |= commands[i]->bit;
    for (size_t i = 0; i < table->count; i++) {
        const config_option *first = &table->options[i];
        if (first->help == NULL || (first->commands & all) == 0 || section_is_open(table, i, all)) continue;
        fprintf(out, "%s### %s\n\n| flag | variable | key | default | commands | |\n|---|---|---|---|---|---|\n", i > 0 ? "\n" : "",
                section_of(first));
        for (size_t k = i; k < table->count; k++) {
            const config_option *o = &table->options[k];
            if (o->help != NULL && (o->commands & all) != 0 && strcmp(section_of(o), section_of(first)) == 0)
                print_row(out, o, commands, count);
        }
    }
}
