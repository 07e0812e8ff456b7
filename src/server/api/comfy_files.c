/* /view, /upload/image and /upload/mask: pictures by the names that ComfyUI's clients know. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/access/owner.h"
#include "server/api/comfy.h"
#include "server/http/answer.h"
#include "server/http/multipart.h"
#include "server/http/problem.h"
#include "server/requests/renditions.h"
#include "server/requests/services.h"

/* --- GET /view --- */

static const char *query_or(const http_exchange *x, const char *name, const char *otherwise) {
    const char *value = http_query(x, name);
    return value != NULL ? value : otherwise;
}

/* The path of the picture that is named, and its format. ERROR_INVALID, ERROR_NOT_FOUND. */
static bool find_picture(services *s, const http_exchange *x, char path[PATH_MAX], image_format *format, error *e) {
    const char *name = http_query(x, "filename"), *folder = query_or(x, "subfolder", ""), *type = query_or(x, "type", "output");
    char whole[2 * COMFY_NAME_BYTES], id[PICTURE_ID_BYTES];
    int index;
    if (name == NULL) return error_field(e, ERROR_INVALID, "filename", "the picture's 'filename' is missing");
    bool temporary = strcmp(type, "temp") == 0, brought = strcmp(type, "input") == 0;
    if (!temporary && !brought && strcmp(type, "output") != 0)
        return error_field(e, ERROR_INVALID, "type", "'%.32s' is no type: it must be output, temp or input", type);
    if (!comfy_input_join(folder, name, whole, e)) return false;
    const task *t = brought ? NULL : comfy_prompts_picture(s->comfy->prompts, folder, name, temporary, &index);
    if (t != NULL && owner_sees(x, t)) {
        *format = IMAGE_PNG;
        picture_id_format(t->id, index, id);
        return picture_store_path(s->pictures, id, path, e);
    }
    const comfy_input_name *one = brought || temporary ? comfy_inputs_find(s->comfy->inputs, comfy_owner(x), whole) : NULL;
    const input *i = one != NULL ? input_store_find(s->inputs, comfy_owner(x), one->image) : NULL;
    if (i == NULL) return error_set(e, ERROR_NOT_FOUND, "there is no picture '%.160s'", whole);
    *format = i->info.format;
    return input_store_path(s->inputs, i, path, e);
}

/* "webp;90": the picture smaller, as those want it who show many. Only webp and jpeg; what else is named becomes the former, as with
 * ComfyUI. */
static void read_preview(const char *text, transcode *job) {
    const char *last = strrchr(text, ';');
    job->format = strncmp(text, "jpeg", 4) == 0 && (text[4] == '\0' || text[4] == ';') ? IMAGE_JPEG : IMAGE_WEBP;
    last = last != NULL ? last + 1 : text;
    bool digits = last[0] != '\0' && strlen(last) <= 3 && strspn(last, "0123456789") == strlen(last);
    int quality = digits ? atoi(last) : TRANSCODE_QUALITY;
    job->quality = quality < 1 ? 1 : quality > 100 ? 100 : quality;
}

static void answer_preview(services *s, http_exchange *x, buffer *files, int count, const error *why, void *context) {
    http_body body = {0};
    image_info info;
    error lost = {0};
    (void)s, (void)count, (void)context;
    if (x == NULL) return;
    if (files == NULL) {
        comfy_answer_error(x, why->code == ERROR_BUSY ? 503 : 0, why);
    } else if (!image_probe(files[0].data, files[0].size, &info, &lost) || !http_body_add(&body, &files[0], &lost)) {
        comfy_answer_error(x, 0, &lost);
    } else {
        http_respond(x, 200, image_format_type(info.format), &body);
    }
}

static void convert(services *s, http_exchange *x, const char *path, const char *asked) {
    transcode job = {.path = path};
    error why = {0};
    read_preview(asked, &job);
    if (!renditions_add(s, x, &job, 1, answer_preview, NULL, &why)) comfy_answer_error(x, why.code == ERROR_BUSY ? 503 : 0, &why);
}

void comfy_get_view(services *s, http_exchange *x, const char *id) {
    char path[PATH_MAX];
    image_format format = IMAGE_PNG;
    error why = {0};
    http_body body = {0};
    (void)id;
    const char *preview_as = http_query(x, "preview");
    bool found = find_picture(s, x, path, &format, &why);
    if (found && preview_as != NULL) {
        convert(s, x, path, preview_as);
        return;
    }
    if (!found || !http_body_add_file(&body, path, false, &why)) {
        comfy_answer_error(x, why.code == ERROR_INVALID ? 400 : 0, &why);
        return;
    }
    char disposition[COMFY_NAME_BYTES + 16];
    const char *name = query_or(x, "filename", "");
    snprintf(disposition, sizeof disposition, "filename=\"%s\"", name);
    if (strchr(name, '"') == NULL) http_add_header(x, "content-disposition", disposition);
    http_add_header(x, "x-content-type-options", "nosniff"); /* strangers' bytes: a picture, and never a page */
    http_respond(x, 200, image_format_type(format), &body);
}

/* --- POST /upload/… --- */

typedef struct upload {
    comfy_input_name wanted;
    bool overwrite, is_mask;
    char type[8];
} upload;

/* The fields of the form, but for the picture's bytes, which are told by place. */
typedef struct form {
    size_t offset, size;
    char file_name[MULTIPART_NAME_BYTES], folder[COMFY_NAME_BYTES], type[8];
    bool overwrite, has_image;
    char original[2 * COMFY_NAME_BYTES]; /* of a mask: whose it is */
} form;

static bool copy_part(const multipart_part *part, char *out, size_t capacity, error *e) {
    if (part->size >= capacity) return error_field(e, ERROR_INVALID, part->name, "the form's '%.32s' is too long", part->name);
    memcpy(out, part->bytes, part->size);
    out[part->size] = '\0';
    return true;
}

/* {"filename", "subfolder", "type"} */
static bool read_original(const multipart_part *part, form *f, error *e) {
    yyjson_doc *doc = yyjson_read(part->bytes, part->size, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *name = yyjson_get_str(yyjson_obj_get(root, "filename")), *folder = yyjson_get_str(yyjson_obj_get(root, "subfolder"));
    bool ok = name != NULL ? comfy_input_join(folder != NULL ? folder : "", name, f->original, e)
                           : error_field(e, ERROR_INVALID, "original_ref", "'original_ref' must be an object with a 'filename'");
    yyjson_doc_free(doc);
    return ok;
}

static bool read_part(const buffer *body, const multipart_part *part, form *f, error *e) {
    char text[8];
    if (strcmp(part->name, "image") == 0 && part->is_file) {
        const char *slash = strrchr(part->file_name, '/');
        f->has_image = true;
        f->offset = (size_t)(part->bytes - body->data);
        f->size = part->size;
        snprintf(f->file_name, sizeof f->file_name, "%s", slash != NULL ? slash + 1 : part->file_name);
    } else if (strcmp(part->name, "subfolder") == 0) {
        return copy_part(part, f->folder, sizeof f->folder, e);
    } else if (strcmp(part->name, "type") == 0) {
        return copy_part(part, f->type, sizeof f->type, e);
    } else if (strcmp(part->name, "overwrite") == 0) {
        if (!copy_part(part, text, sizeof text, e)) return false;
        f->overwrite = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    } else if (strcmp(part->name, "original_ref") == 0) {
        return read_original(part, f, e);
    }
    return true;
}

static bool read_form(const http_exchange *x, form *f, error *e) {
    const buffer *body = http_request_body(x);
    const char *type = http_header(x, "content-type");
    multipart m;
    multipart_part part;
    bool ok = true;
    *f = (form){.type = "input"};
    if (!multipart_is(type))
        return error_set(e, ERROR_INVALID, "the picture must come as a form (multipart/form-data), in the field 'image'");
    if (!multipart_open(type, buffer_text(body), body->size, &m, e)) return false;
    while (ok && multipart_next(&m, &part)) ok = read_part(body, &part, f, e);
    if (!ok || !multipart_complete(&m, e)) return false;
    if (!f->has_image || f->size == 0) return error_field(e, ERROR_INVALID, "image", "the form has no picture in its field 'image'");
    if (f->size > COMFY_UPLOAD_BYTES)
        return error_field(e, ERROR_TOO_LARGE, "image", "the picture's file has %zu bytes: at most %d are taken", f->size,
                           COMFY_UPLOAD_BYTES);
    if (strcmp(f->type, "input") == 0 || strcmp(f->type, "temp") == 0) return true;
    return error_field(e, ERROR_INVALID, "type", "'%s' is no type that takes pictures: it must be input or temp", f->type);
}

static void answer_named(http_exchange *x, const comfy_input_name *one, const char *type) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    const char *slash = strrchr(one->name, '/');
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "name", slash != NULL ? slash + 1 : one->name);
    yyjson_mut_obj_add_strncpy(doc, root, "subfolder", one->name, slash != NULL ? (size_t)(slash - one->name) : 0);
    yyjson_mut_obj_add_strcpy(doc, root, "type", type);
    answer_json(x, 200, NULL, doc);
}

static void stored(services *s, http_exchange *x, const input *i, const error *why, void *context) {
    upload u = *(upload *)context;
    error lost;
    free(context);
    if (i == NULL) {
        if (x != NULL) comfy_answer_error(x, why->code == ERROR_INVALID || why->code == ERROR_UNSUPPORTED ? 400 : 0, why);
        return;
    }
    /* Of a mask, the picture stays what it was: only the transparency is the new one's. */
    memcpy(u.is_mask ? u.wanted.mask : u.wanted.image, i->id, sizeof u.wanted.image);
    if (!u.is_mask) memcpy(u.wanted.mask, i->id, sizeof u.wanted.mask);
    const comfy_input_name *one = comfy_inputs_add(s->comfy->inputs, &u.wanted, u.overwrite);
    if (x == NULL) return;
    if (one != NULL) {
        answer_named(x, one, u.type);
    } else {
        error_no_memory(&lost, "a picture's name", sizeof u);
        comfy_answer_error(x, 0, &lost);
    }
}

static bool begin(services *s, http_exchange *x, const form *f, upload *u, error *e) {
    const buffer *body = http_request_body(x);
    image_info info;
    buffer taken;
    snprintf(u->wanted.owner, sizeof u->wanted.owner, "%s", comfy_owner(x));
    snprintf(u->type, sizeof u->type, "%s", f->type);
    u->overwrite = f->overwrite;
    if (!comfy_input_join(f->folder, f->file_name, u->wanted.name, e)) return false;
    if (u->is_mask) {
        const comfy_input_name *original = comfy_inputs_find(s->comfy->inputs, u->wanted.owner, f->original);
        if (original == NULL)
            return error_field(e, ERROR_NOT_FOUND, "original_ref", "there is no picture '%.160s' that the mask could be for", f->original);
        memcpy(u->wanted.image, original->image, sizeof u->wanted.image);
    }
    /* What is none is refused before it waits for its turn. */
    if (!image_probe(body->data + f->offset, f->size, &info, e)) return false;
    http_take_request_body(x, &taken);
    return uploads_add(s->uploads, x, &taken, f->offset, f->size, stored, u, e);
}

static void take(services *s, http_exchange *x, bool is_mask) {
    form f;
    error why = {0};
    upload *u = NULL;
    bool ok = read_form(x, &f, &why);
    if (ok) {
        u = calloc(1, sizeof *u);
        ok = u != NULL || error_no_memory(&why, "an upload", sizeof *u);
    }
    if (ok) {
        u->is_mask = is_mask;
        ok = begin(s, x, &f, u, &why);
    }
    if (ok) return;
    free(u);
    bool bad = why.code == ERROR_INVALID || why.code == ERROR_UNSUPPORTED;
    comfy_answer_error(x, why.code == ERROR_TOO_LARGE ? 413 : bad ? 400 : 0, &why);
}

void comfy_post_image(services *s, http_exchange *x, const char *id) {
    (void)id;
    take(s, x, false);
}

void comfy_post_mask(services *s, http_exchange *x, const char *id) {
    (void)id;
    take(s, x, true);
}
