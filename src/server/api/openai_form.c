#include "server/api/openai_form.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "server/http/multipart.h"

typedef enum kind { TEXT, WORD, NUMBER, TRUTH } kind; /* WORD: text that cannot be empty */

static const struct {
    const char *name;
    kind kind;
} known[] = {
    {"prompt", TEXT},
    {"negative_prompt", TEXT},
    {"model", WORD},
    {"size", WORD},
    {"quality", WORD},
    {"output_format", WORD},
    {"response_format", WORD},
    {"precision", WORD},
    {"n", NUMBER},
    {"output_compression", NUMBER},
    {"partial_images", NUMBER},
    {"width", NUMBER},
    {"height", NUMBER},
    {"num_inference_steps", NUMBER},
    {"guidance_scale", NUMBER},
    {"true_cfg_scale", NUMBER},
    {"max_sequence_length", NUMBER},
    {"strength", NUMBER},
    {"deadline_seconds", NUMBER},
    {"seed", NUMBER},
    {"stream", TRUTH},
};
enum { KNOWN = sizeof known / sizeof *known };

/* NULL where it is no number. yyjson decides what is one, as it does for a body in JSON. */
static yyjson_mut_val *number(yyjson_mut_doc *doc, const char *text, size_t size) {
    yyjson_doc *read = yyjson_read(text, size, YYJSON_READ_NOFLAG);
    yyjson_val *root = yyjson_doc_get_root(read);
    yyjson_mut_val *made = yyjson_is_num(root) ? yyjson_val_mut_copy(doc, root) : NULL;
    yyjson_doc_free(read);
    return made;
}

static bool is_word(const char *text, size_t size, const char *word) { return strlen(word) == size && strncasecmp(text, word, size) == 0; }

static yyjson_mut_val *value(yyjson_mut_doc *doc, kind k, const char *text, size_t size) {
    yyjson_mut_val *made = NULL;
    if (k != TEXT && (size == 0 || is_word(text, size, "null"))) return yyjson_mut_null(doc);
    if (k == NUMBER) made = number(doc, text, size);
    if (k == TRUTH && (is_word(text, size, "true") || is_word(text, size, "1"))) made = yyjson_mut_true(doc);
    if (k == TRUTH && (is_word(text, size, "false") || is_word(text, size, "0"))) made = yyjson_mut_false(doc);
    return made != NULL ? made : yyjson_mut_strncpy(doc, text, size);
}

static bool add_field(yyjson_mut_doc *doc, const multipart_part *part, error *e) {
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    int i = 0;
    while (i < KNOWN && strcmp(known[i].name, part->name) != 0) i++;
    if (i == KNOWN || yyjson_mut_obj_get(root, part->name) != NULL) return true;
    if (!utf8_valid(part->bytes, part->size, NULL))
        return error_field(e, ERROR_INVALID, known[i].name, "the form's field '%s' is not UTF-8", known[i].name);
    return yyjson_mut_obj_add_val(doc, root, known[i].name, value(doc, known[i].kind, part->bytes, part->size)) ||
           error_no_memory(e, "a form's fields", part->size);
}

/* "image", "image[]", "image[0]". */
static bool is_image(const char *name) { return strncmp(name, "image", 5) == 0 && (name[5] == '\0' || name[5] == '['); }

static bool add_part(openai_form *out, yyjson_mut_doc *doc, const multipart_part *part, error *e) {
    bool image = is_image(part->name);
    if (!image && strcmp(part->name, "mask") != 0) return add_field(doc, part, e);
    buffer *to = &out->pictures[image ? OPENAI_IMAGE : OPENAI_MASK];
    if (part->size == 0) return true; /* as a page's form sends a file that was not chosen */
    out->images += image;
    if (to->size > 0) return true;
    buffer_append(to, part->bytes, part->size);
    return buffer_ok(to) || error_no_memory(e, "a form's picture", part->size);
}

static bool read_parts(multipart *m, openai_form *out, yyjson_mut_doc *doc, error *e) {
    multipart_part part;
    while (multipart_next(m, &part))
        if (!add_part(out, doc, &part, e)) return false;
    return multipart_complete(m, e);
}

bool openai_form_read(const char *content_type, const buffer *body, bool silent, openai_form *out, error *e) {
    multipart m;
    *out = (openai_form){0};
    if (!multipart_open(content_type, buffer_text(body), body->size, &m, e)) return false;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, yyjson_mut_obj(doc));
    bool ok = (doc != NULL && yyjson_mut_doc_get_root(doc) != NULL) || error_no_memory(e, "a form's fields", body->size);
    ok = ok && read_parts(&m, out, doc, e);
    yyjson_mut_val *root = ok ? yyjson_mut_doc_get_root(doc) : NULL;
    if (ok && silent && yyjson_mut_obj_get(root, "prompt") == NULL) yyjson_mut_obj_add_str(doc, root, "prompt", "");
    if (ok) {
        strcpy(out->fields.source, "the form");
        out->fields.doc = yyjson_mut_doc_imut_copy(doc, NULL);
        ok = out->fields.doc != NULL || error_no_memory(e, "a form's fields", body->size);
    }
    yyjson_mut_doc_free(doc);
    if (!ok) openai_form_free(out);
    return ok;
}

void openai_form_free(openai_form *f) {
    json_document_free(&f->fields);
    for (int i = 0; i < OPENAI_PICTURES; i++) buffer_free(&f->pictures[i]);
}
