#include "server/api/a1111_infotext.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "image/image.h"
#include "server/api/a1111_body.h"
#include "server/api/a1111_errors.h"
#include "server/http/answer.h"
#include "server/requests/intake.h"
#include "server/requests/services.h"

static const char negative_mark[] = "Negative prompt:";

static void trim(const char **from, size_t *size) {
    while (*size > 0 && strchr(" \t\r\n", **from) != NULL) (*from)++, (*size)--;
    while (*size > 0 && strchr(" \t\r\n", (*from)[*size - 1]) != NULL) (*size)--;
}

static void add(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, size_t key_size, const char *value, size_t size) {
    trim(&key, &key_size);
    yyjson_mut_obj_add(o, yyjson_mut_strncpy(doc, key, key_size), yyjson_mut_strncpy(doc, value, size));
}

/* --- the line of settings --- */

/* A value in quotes, from behind the first one; the quotes within are escaped as in JSON. Appends it and returns where it ends: behind the
 * closing quote. */
static const char *unquote(const char *at, const char *end, buffer *out) {
    for (; at < end && *at != '"'; at++) {
        if (*at == '\\' && at + 1 < end) at++;
        else {
            buffer_append_byte(out, *at);
            continue;
        }
        buffer_append_byte(out, *at == 'n' ? '\n' : *at == 'r' ? '\r' : *at == 't' ? '\t' : *at);
    }
    return at < end ? at + 1 : end;
}

static void add_setting(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, size_t key_size, const char *value, size_t size) {
    const char *by = memchr(value, 'x', size);
    trim(&key, &key_size);
    if (key_size == 4 && memcmp(key, "Size", 4) == 0 && by != NULL && strspn(value, "0123456789x") >= size) {
        add(doc, o, "Size-1", 6, value, (size_t)(by - value));
        add(doc, o, "Size-2", 6, by + 1, size - (size_t)(by + 1 - value));
    } else {
        add(doc, o, key, key_size, value, size);
    }
}

/* "Steps: 8, Sampler: Euler, …"; false without memory. */
static bool add_settings(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *at, const char *end) {
    while (at < end) {
        const char *colon = memchr(at, ':', (size_t)(end - at)), *value = colon;
        if (colon == NULL) return true;
        for (value++; value < end && *value == ' ';) value++;
        buffer quoted = {0};
        const char *stop;
        if (value < end && *value == '"') {
            stop = unquote(value + 1, end, &quoted);
            add(doc, o, at, (size_t)(colon - at), buffer_text(&quoted), quoted.size);
            stop = memchr(stop, ',', (size_t)(end - stop));
        } else {
            stop = memchr(value, ',', (size_t)(end - value));
            size_t size = (size_t)((stop != NULL ? stop : end) - value);
            add_setting(doc, o, at, (size_t)(colon - at), value, size);
        }
        bool ok = buffer_ok(&quoted);
        buffer_free(&quoted);
        if (!ok) return false;
        at = stop != NULL ? stop + 1 : end;
    }
    return true;
}

/* --- the whole --- */

/* The last line, where it is one of settings: A1111 asks for three of them. NULL: it is not. */
static const char *settings_line(const char *text) {
    const char *line = strrchr(text, '\n');
    line = line != NULL ? line + 1 : text;
    int pairs = 0;
    for (const char *at = line; (at = strstr(at, ": ")) != NULL; at += 2) pairs++;
    return pairs >= 3 || strncmp(line, "Steps: ", 7) == 0 ? line : NULL;
}

/* The line that begins the negative prompt; NULL: there is none. */
static const char *negative_line(const char *text) {
    for (const char *at = text; (at = strstr(at, negative_mark)) != NULL; at++)
        if (at == text || at[-1] == '\n') return at;
    return NULL;
}

static void add_prompt(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, const char *from, const char *end) {
    size_t size = (size_t)(end - from);
    trim(&from, &size);
    add(doc, o, key, strlen(key), from, size);
}

yyjson_mut_val *a1111_infotext_document(yyjson_mut_doc *doc, const char *text) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    const char *all = text + strlen(text);
    while (all > text && strchr(" \t\r\n", all[-1]) != NULL) all--;
    buffer trimmed = {0};
    buffer_append(&trimmed, text, (size_t)(all - text));
    bool ok = buffer_ok(&trimmed);
    if (ok) {
        const char *begin = buffer_text(&trimmed), *end = begin + trimmed.size, *settings = settings_line(begin),
                   *negative = negative_line(begin);
        const char *prompts_end = settings != NULL ? settings : end;
        if (negative != NULL && negative >= prompts_end) negative = NULL;
        add_prompt(doc, o, "Prompt", begin, negative != NULL ? negative : prompts_end);
        if (negative != NULL) add_prompt(doc, o, "Negative prompt", negative + sizeof negative_mark - 1, prompts_end);
        else add_prompt(doc, o, "Negative prompt", end, end);
        ok = settings == NULL || add_settings(doc, o, settings, end);
    }
    buffer_free(&trimmed);
    return ok ? o : NULL;
}

/* --- POST png-info --- */

static void answer_settings(http_exchange *x, const char *text) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, root, "info", text);
    yyjson_mut_val *items = yyjson_mut_obj_add_obj(doc, root, "items");
    if (text[0] != '\0') yyjson_mut_obj_add_strcpy(doc, items, "parameters", text);
    yyjson_mut_obj_add_val(doc, root, "parameters", text[0] != '\0' ? a1111_infotext_document(doc, text) : yyjson_mut_obj(doc));
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

/* For the uploads' worker: from base 64 to the settings text. */
static bool find_settings(buffer *bytes, error *e) {
    buffer text = {0};
    bool ok = intake_from_base64(bytes, e) && image_metadata_read(bytes->data, bytes->size, &text, e);
    buffer_free(ok ? bytes : &text);
    if (ok) *bytes = text;
    return ok;
}

static void looked(struct services *s, http_exchange *x, const buffer *found, const error *why) {
    (void)s;
    if (x == NULL) return;
    if (why == NULL) answer_settings(x, buffer_text(found));
    else a1111_answer_error(x, 0, why);
}

void a1111_png_info(struct services *s, http_exchange *x, const char *id) {
    (void)id;
    json_document body;
    buffer picture = {0};
    error why = {0};
    if (!a1111_read_body(x, &body)) return;
    yyjson_val *v = json_get(json_root(&body), "image").value;
    bool ok = yyjson_is_str(v) || json_complain(json_root(&body), "image", &why, "must be a picture in base 64");
    if (ok) buffer_append(&picture, yyjson_get_str(v), yyjson_get_len(v));
    json_document_free(&body);
    ok = ok && (buffer_ok(&picture) || error_no_memory(&why, "a picture", picture.size));
    if (ok && uploads_look(s->uploads, x, &picture, find_settings, looked, &why)) return;
    a1111_answer_error(x, why.code == ERROR_BUSY ? 503 : 0, &why);
    buffer_free(&picture);
}
