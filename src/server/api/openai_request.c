#include "server/api/openai_request.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "server/requests/request_fields.h"
#include "server/requests/services.h"

/* How much of a picture changes unless told. What a mask frees is painted wholly anew, as its place is all that is to stay of it; and where
 * nothing is said of what is to become of a picture, little of it is lost. */
static const double strength_of_edit = 0.75, strength_of_masked = 1.0, strength_without_prompt = 0.3;

static const char dall_e[] = "dall-e-";

static bool begins(const char *name, const char *with) { return strncmp(name, with, strlen(with)) == 0; }

static bool is_alias(const char *name) { return begins(name, "gpt-image-") || begins(name, dall_e) || begins(name, "chatgpt-image-"); }

bool openai_find_model(services *s, const char *name, const model_info **out, error *e) {
    bool exists = name != NULL && model_list_find(catalog_list(s->catalog), name) != NULL;
    if (catalog_find(s->catalog, name == NULL || (!exists && is_alias(name)) ? NULL : name, out, e)) return true;
    e->code = ERROR_NOT_FOUND;
    return false;
}

/* --- how the answer is to be --- */

/* A word that is empty says nothing, as in a form: clients send their settings that nobody has filled in so. */
static bool read_text(json body, const char *key, size_t cap, const char **out, error *e) {
    if (!json_text(body, key, cap, out, e)) return false;
    if (*out != NULL && (*out)[0] == '\0') *out = NULL;
    return true;
}

static bool says(json body, const char *key) {
    yyjson_val *v = json_get(body, key).value;
    return v != NULL && !(yyjson_is_str(v) && yyjson_get_len(v) == 0);
}

/* One of these words into *io, which is then the word in the table. */
static bool read_word(json body, const char *key, const char *const *words, const char **io, error *e) {
    const char *text = NULL;
    if (!read_text(body, key, 64, &text, e)) return false;
    for (; text != NULL && *words != NULL; words++)
        if (strcmp(text, *words) == 0) *io = *words;
    return true;
}

static bool read_int(json body, const char *key, int high, int *io, error *e) {
    int64_t n = *io;
    if (!json_int(body, key, 0, high, &n, e)) return false;
    *io = (int)n;
    return true;
}

bool openai_read_choices(json body, openai_choices *out, error *e) {
    static const char *const qualities[] = {"low", "medium", "high", NULL};
    const char *response = NULL, *format = NULL;
    *out = (openai_choices){.format = IMAGE_PNG, .compression = 100, .quality = "high"};
    if (!read_text(body, "response_format", 16, &response, e) || !read_text(body, "output_format", 16, &format, e) ||
        !json_bool(body, "stream", &out->stream, e) || !read_int(body, "output_compression", 100, &out->compression, e) ||
        !read_int(body, "partial_images", OPENAI_MAX_PARTIALS, &out->partial_images, e) ||
        !read_word(body, "quality", qualities, &out->quality, e))
        return false;
    if (format != NULL && !image_format_parse(format, &out->format))
        return json_complain(body, "output_format", e, "must be png, jpeg or webp");
    out->as_url = response != NULL && strcmp(response, "url") == 0;
    if (response != NULL && !out->as_url && strcmp(response, "b64_json") != 0)
        return json_complain(body, "response_format", e, "must be b64_json or url");
    return true;
}

int openai_quality(const openai_choices *c) { return c->compression > 0 ? c->compression : 1; }

/* The same names as in a request, so that they are read as one. */
static void write_choices(const openai_choices *c, char out[OPENAI_CHOICES_BYTES]) {
    snprintf(out, OPENAI_CHOICES_BYTES,
             "{\"output_format\":\"%s\",\"output_compression\":%d,\"quality\":\"%s\",\"response_format\":\"%s\",\"stream\":%s,"
             "\"partial_images\":%d,\"edit\":%s}",
             image_format_name(c->format), c->compression, c->quality, c->as_url ? "url" : "b64_json", c->stream ? "true" : "false",
             c->partial_images, c->edit ? "true" : "false");
}

bool openai_choices_of(const task *t, openai_choices *out, error *e) {
    const char *text = t->request.adapter_data != NULL ? t->request.adapter_data : "{}";
    json_document doc;
    if (!json_parse(text, strlen(text), "what was kept with the task", &doc, e)) return false;
    bool ok = openai_read_choices(json_root(&doc), out, e) && json_bool(json_root(&doc), "edit", &out->edit, e);
    json_document_free(&doc);
    return ok;
}

/* --- the picture --- */

static int rounded_side(double side, int multiple) {
    double times = floor(side / multiple + 0.5);
    if (times < 1) times = 1;
    if (times > MODEL_MAX_SIDE / multiple) times = MODEL_MAX_SIDE / multiple;
    return (int)times * multiple;
}

/* As many pixels as the model makes by itself, in the shape of the picture that is edited. */
static void fit_size(const model_info *model, const image_info *from, task_request *io) {
    double grow = sqrt((double)model->width * model->height / ((double)from->width * from->height));
    io->width = rounded_side(from->width * grow, model->size_multiple);
    io->height = rounded_side(from->height * grow, model->size_multiple);
}

/* "auto" is the model's size. */
static bool read_size(json body, const model_info *model, const image_info *from, task_request *io, error *e) {
    const char *text = NULL;
    if (!read_text(body, "size", 32, &text, e)) return false;
    if (text == NULL || strcmp(text, "auto") == 0) {
        if (from != NULL) fit_size(model, from, io);
        return true;
    }
    int used = 0;
    bool plain = strspn(text, "0123456789x") == strlen(text) && strlen(text) <= 11;
    if (!plain || sscanf(text, "%dx%d%n", &io->width, &io->height, &used) != 2 || text[used] != '\0')
        return json_complain(body, "size", e, "is '%s': it must look like 1024x1024, or be auto", text);
    if (io->width < 1 || io->width > MODEL_MAX_SIDE || io->height < 1 || io->height > MODEL_MAX_SIDE)
        return json_complain(body, "size", e, "is %s: each side must be from 1 to %d", text, MODEL_MAX_SIDE);
    return true;
}

/* OpenAI takes longer prompts than are kept here, and clients send what they like. Models read 512 tokens at most, which stand at the
 * front: the rest is cut off. */
static bool shorten_prompt(json body, error *e) {
    yyjson_val *v = json_get(body, "prompt").value;
    if (!yyjson_is_str(v) || yyjson_get_len(v) <= REQUEST_PROMPT_BYTES) return true;
    const char *text = yyjson_get_str(v);
    size_t at = 0, fits = 0, characters = 0, size = yyjson_get_len(v);
    while (at < size) {
        utf8_next(text, size, &at);
        characters++;
        if (at <= REQUEST_PROMPT_BYTES) fits = at;
    }
    if (characters > OPENAI_PROMPT_CHARACTERS)
        return json_complain(body, "prompt", e, "has %zu characters: at most %d are taken", characters, OPENAI_PROMPT_CHARACTERS);
    ((char *)text)[fits] = '\0'; /* the document's own bytes: getters want the text to end where it says */
    return yyjson_set_strn(v, text, fits);
}

/* A size that came as "size" is complained about under that name. */
static bool read_fields(json body, const model_info *model, const image_info *from, task_request *request, error *e) {
    if (!request_fields_defaults(model, request, e) || !shorten_prompt(body, e) || !read_size(body, model, from, request, e)) return false;
    if (request_fields_read(body, model, OPENAI_MAX_IMAGES, request, e)) return true;
    bool side = strcmp(e->field, "width") == 0 || strcmp(e->field, "height") == 0;
    if (side && json_get(body, e->field).value == NULL) {
        snprintf(e->field, sizeof e->field, "size");
        error_prefix(e, "'size': ");
    }
    return false;
}

bool openai_read_request(services *s, json body, const image_info *from, bool masked, task_request *out, openai_choices *choices,
                         char data[OPENAI_CHOICES_BYTES], error *e) {
    const char *name = NULL;
    const model_info *model;
    if (!read_text(body, "model", MODEL_NAME_BYTES - 1, &name, e) || !openai_find_model(s, name, &model, e) ||
        !openai_read_choices(body, choices, e) || !read_fields(body, model, from, out, e))
        return false;
    choices->edit = from != NULL;
    /* Of these models OpenAI answers addresses unless told, and their clients look for nothing else. */
    if (name != NULL && begins(name, dall_e) && !says(body, "response_format")) choices->as_url = true;
    if (from != NULL) out->strength = masked ? strength_of_masked : out->prompt[0] == '\0' ? strength_without_prompt : strength_of_edit;
    if (from != NULL && !json_number(body, "strength", 0, 1, &out->strength, e)) return false;
    if (from != NULL && out->strength == 0) return json_complain(body, "strength", e, "is 0: it must be above 0, at most 1");
    write_choices(choices, data);
    out->adapter = "openai";
    out->adapter_data = data;
    return true;
}
