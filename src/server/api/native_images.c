#include "server/api/native_images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/file.h"
#include "server/access/owner.h"
#include "server/api/native_body.h"
#include "server/api/native_tagged.h"
#include "server/http/answer.h"
#include "server/http/multipart.h"
#include "server/http/problem.h"
#include "server/requests/services.h"
#include "server/tasks/input_holds.h"
#include "server/tasks/task_document.h"

enum { LIST_DEFAULT = 100, LIST_MAX = 1000, IMAGE_URL_BYTES = 96 };

static const char *url_of(const char *id, char out[IMAGE_URL_BYTES]) {
    snprintf(out, IMAGE_URL_BYTES, "/api/images/%s", id);
    return out;
}

static void answer_no_image(http_exchange *x, const char *id) {
    error why;
    error_set(&why, ERROR_NOT_FOUND, "there is no image '%.64s'", id);
    problem_answer(x, 0, &why);
}

static void add_image(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *kind, const char *id, int width, int height, image_format format,
                      uint64_t bytes, int64_t created_ms) {
    char url[IMAGE_URL_BYTES], time[CLOCK_TEXT_BYTES];
    url_of(id, url);
    yyjson_mut_obj_add_strcpy(doc, o, "id", id);
    yyjson_mut_obj_add_strcpy(doc, o, "url", url);
    yyjson_mut_obj_add_str(doc, o, "kind", kind);
    yyjson_mut_obj_add_int(doc, o, "width", width);
    yyjson_mut_obj_add_int(doc, o, "height", height);
    yyjson_mut_obj_add_str(doc, o, "format", image_format_name(format));
    yyjson_mut_obj_add_uint(doc, o, "bytes", bytes);
    yyjson_mut_obj_add_strcpy(doc, o, "created_at", clock_format(created_ms, time));
}

static void add_input(yyjson_mut_doc *doc, yyjson_mut_val *o, const input *i) {
    add_image(doc, o, "input", i->id, i->info.width, i->info.height, i->info.format, i->bytes, i->created_ms);
}

/* --- POST /api/images --- */

static void answer_uploaded(services *s, http_exchange *x, const input *i, const error *why, void *context) {
    (void)s, (void)context;
    if (x == NULL) return;
    if (i == NULL) {
        problem_answer(x, why->code == ERROR_NOT_FOUND ? 409 : 0, why);
        return;
    }
    char url[IMAGE_URL_BYTES];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    add_input(doc, root, i);
    http_add_header(x, "location", url_of(i->id, url));
    answer_json(x, 201, NULL, doc);
}

/* The one file of a form: the field `image`, else the first file. */
static bool find_file(const char *content_type, const buffer *body, size_t *offset, size_t *size, error *e) {
    multipart m;
    multipart_part part;
    bool found = false, named = false;
    if (!multipart_open(content_type, buffer_text(body), body->size, &m, e)) return false;
    while (multipart_next(&m, &part)) {
        bool is_image = strcmp(part.name, "image") == 0;
        if (named || (!is_image && (found || !part.is_file))) continue;
        named = is_image;
        found = true;
        *offset = (size_t)(part.bytes - body->data);
        *size = part.size;
    }
    return multipart_complete(&m, e) &&
           (found || error_field(e, ERROR_INVALID, "image", "the form has no file: the picture must be in the field 'image'"));
}

void native_post_image(services *s, http_exchange *x, const char *id) {
    (void)id;
    const char *type = http_header(x, "content-type");
    const buffer *body = http_request_body(x);
    size_t offset = 0, size = body->size;
    error why = {0};
    bool ok = !multipart_is(type) || find_file(type, body, &offset, &size, &why);
    if (ok && size == 0)
        ok = error_set(&why, ERROR_INVALID, "the picture is empty: its bytes must be the request's body, or a form's field 'image'");
    if (ok && size > NATIVE_UPLOAD_BYTES)
        ok = error_set(&why, ERROR_TOO_LARGE, "the picture's file has %zu bytes: at most %d are taken", size, NATIVE_UPLOAD_BYTES);
    int status = why.code == ERROR_TOO_LARGE ? 413 : 0;
    /* What is none is refused before it waits for its turn. */
    image_info info;
    ok = ok && image_probe(body->data + offset, size, &info, &why);
    if (ok) {
        buffer taken;
        http_take_request_body(x, &taken);
        ok = uploads_add(s->uploads, x, &taken, offset, size, answer_uploaded, NULL, &why);
    }
    if (!ok) problem_answer(x, status, &why);
}

/* --- GET /api/images --- */

/* Where an image stands in the list, which falls by time and then by name: what a cursor is made of. */
typedef struct place {
    int64_t ms;
    char name[INPUT_ID_BYTES];
} place;

static place picture_place(const task *t, int index) {
    place p = {.ms = t->created_ms};
    snprintf(p.name, sizeof p.name, "%s-%02d", t->id, index);
    return p;
}

static place input_place(const input *i) {
    place p = {.ms = i->created_ms};
    memcpy(p.name, i->id, sizeof p.name);
    return p;
}

static bool is_before(const place *a, const place *b) { return a->ms != b->ms ? a->ms > b->ms : strcmp(a->name, b->name) > 0; }

typedef struct listing {
    services *services;
    const http_exchange *exchange; /* who asks */
    task *task; /* the next picture is its number `index` */
    int index;
    size_t input; /* the next input */
    bool pictures, inputs; /* which kinds are wanted */
    int left;
    place last, from; /* the last that was listed; only what stands behind `from` is */
} listing;

static bool picture_there(const listing *l, const task *t, int index, char id[PICTURE_ID_BYTES]) {
    char path[PATH_MAX];
    if (!t->images[index].stored) return false;
    picture_id_format(t->id, index, id);
    return picture_store_path(l->services->pictures, id, path, NULL) && file_exists(path);
}

/* Moves to the next picture that is to be listed; false: there is none. */
static bool next_picture(listing *l, place *p, char id[PICTURE_ID_BYTES]) {
    while (l->pictures && l->task != NULL) {
        if (!owner_sees(l->exchange, l->task)) l->index = -1;
        for (; l->index >= 0; l->index--) {
            *p = picture_place(l->task, l->index);
            if (is_before(&l->from, p) && picture_there(l, l->task, l->index, id)) return true;
        }
        l->task = queue_manager_after(l->task);
        l->index = l->task != NULL ? l->task->request.count - 1 : -1;
    }
    return false;
}

static const input *next_input(listing *l, place *p) {
    const input_store *store = l->services->inputs;
    for (; l->inputs && l->input < input_store_count(store); l->input++) {
        const input *i = input_store_at(store, l->input);
        *p = input_place(i);
        if (is_before(&l->from, p) && input_is_of(i, http_caller(l->exchange))) return i;
    }
    return NULL;
}

static void add_picture(yyjson_mut_doc *doc, yyjson_mut_val *list, const task *t, int index, const char *id) {
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
    add_image(doc, o, "picture", id, t->request.width, t->request.height, IMAGE_PNG, t->images[index].bytes, t->created_ms);
    yyjson_mut_obj_add_strcpy(doc, o, "task", t->id);
    yyjson_mut_obj_add_strcpy(doc, o, "model", t->request.model);
    yyjson_mut_obj_add_strcpy(doc, o, "prompt", t->request.prompt);
    yyjson_mut_obj_add_val(doc, o, "seed", seed_document(doc, t->images[index].seed));
}

/* Fills the list from the two rows, each of which falls; true when more would follow. */
static bool list_further(listing *l, yyjson_mut_doc *doc, yyjson_mut_val *list) {
    for (;; l->left--) {
        char id[PICTURE_ID_BYTES];
        place of_picture, of_input;
        bool picture = next_picture(l, &of_picture, id);
        const input *i = next_input(l, &of_input);
        if (!picture && i == NULL) return false;
        if (l->left == 0) return true;
        if (picture && (i == NULL || is_before(&of_picture, &of_input))) {
            add_picture(doc, list, l->task, l->index--, id);
            l->last = of_picture;
        } else {
            add_input(doc, yyjson_mut_arr_add_obj(doc, list), i);
            l->input++;
            l->last = of_input;
        }
    }
}

static bool read_list_query(const http_exchange *x, listing *l, error *e) {
    const char *kind = http_query(x, "kind"), *before = http_query(x, "before");
    char *end;
    l->pictures = kind == NULL || strcmp(kind, "picture") == 0;
    l->inputs = kind == NULL || strcmp(kind, "input") == 0;
    if (!l->pictures && !l->inputs) return error_field(e, ERROR_INVALID, "kind", "'%.32s' is no kind: it must be picture or input", kind);
    l->left = LIST_DEFAULT;
    if (!native_read_number(x, "limit", LIST_MAX, &l->left, e)) return false;
    l->from = (place){.ms = INT64_MAX};
    if (before == NULL) return true;
    l->from.ms = strtoll(before, &end, 10);
    static const char of_names[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-";
    if (before[0] < '0' || before[0] > '9' || *end != '.' || end[1] == '\0' || strlen(end + 1) >= sizeof l->from.name ||
        strspn(end + 1, of_names) != strlen(end + 1))
        return error_field(e, ERROR_INVALID, "before", "'%.80s' is no place in the list: it must be `next` of the answer before", before);
    snprintf(l->from.name, sizeof l->from.name, "%s", end + 1);
    return true;
}

void native_list_images(services *s, http_exchange *x, const char *id) {
    (void)id;
    listing l = {.services = s, .exchange = x, .task = queue_manager_first(s->queue)};
    l.index = l.task != NULL ? l.task->request.count - 1 : -1;
    error why = {0};
    if (!read_list_query(x, &l, &why)) {
        problem_answer(x, 0, &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list = yyjson_mut_obj_add_arr(doc, root, "images");
    yyjson_mut_doc_set_root(doc, root);
    char next[INPUT_ID_BYTES + 24];
    if (list_further(&l, doc, list)) {
        snprintf(next, sizeof next, "%lld.%s", (long long)l.last.ms, l.last.name);
        yyjson_mut_obj_add_strcpy(doc, root, "next", next);
    } else {
        yyjson_mut_obj_add_null(doc, root, "next");
    }
    answer_json(x, 200, NULL, doc);
}

/* --- /api/images/{id} --- */

/* The file and its format; ERROR_NOT_FOUND. */
static bool find_path(const services *s, const http_exchange *x, const char *id, char path[PATH_MAX], image_format *format, error *e) {
    const input *i = input_id_valid(id) ? input_store_find(s->inputs, http_caller(x), id) : NULL;
    *format = i != NULL ? i->info.format : IMAGE_PNG;
    return i != NULL ? input_store_path(s->inputs, i, path, e) : picture_store_path(s->pictures, id, path, e);
}

/* What ?format= and ?quality= ask for; *converted: anything. */
static bool read_conversion(const http_exchange *x, image_format stored, bool *converted, transcode *out, error *e) {
    const char *format = http_query(x, "format");
    out->format = stored;
    out->quality = TRANSCODE_QUALITY;
    *converted = format != NULL || http_query(x, "quality") != NULL;
    if (format != NULL && !image_format_parse(format, &out->format))
        return error_field(e, ERROR_INVALID, "format", "'%.32s' is no format: it must be png, jpeg or webp", format);
    return native_read_number(x, "quality", 100, &out->quality, e);
}

static void answer_converted(services *s, http_exchange *x, const char *id, const transcode *job) {
    native_tag tag = {.lasts = true};
    snprintf(tag.text, sizeof tag.text, "\"%s.%s-%d\"", id, image_format_name(job->format), job->quality);
    if (!native_tag_answer_had(x, &tag)) native_tag_answer_made(s, x, job, &tag);
}

static void answer_stored(http_exchange *x, const char *id, const char *path, image_format format) {
    native_tag tag = {.lasts = true};
    error why = {0};
    http_body body = {0};
    snprintf(tag.text, sizeof tag.text, "\"%s\"", id);
    if (!http_body_add_file(&body, path, false, &why)) {
        if (why.code == ERROR_NOT_FOUND) answer_no_image(x, id);
        else problem_answer(x, 0, &why);
    } else if (native_tag_answer_had(x, &tag)) {
        http_body_free(&body);
    } else {
        native_tag_add(x, &tag);
        http_respond(x, 200, image_format_type(format), &body);
    }
}

void native_get_image(services *s, http_exchange *x, const char *id) {
    char path[PATH_MAX];
    image_format format;
    error why = {0};
    bool converted;
    transcode job = {.path = path};
    bool seen = input_id_valid(id) || owner_sees_picture(x, s->queue, id);
    if (!seen || !find_path(s, x, id, path, &format, &why) || !file_exists(path)) {
        if (!seen || why.code == ERROR_NONE || why.code == ERROR_NOT_FOUND) answer_no_image(x, id);
        else problem_answer(x, 0, &why);
    } else if (!read_conversion(x, format, &converted, &job, &why)) {
        problem_answer(x, 0, &why);
    } else if (converted) {
        answer_converted(s, x, id, &job);
    } else {
        answer_stored(x, id, path, format);
    }
}

/* The task that made this picture, and its number; NULL: none. */
static task *find_picture(const services *s, const char *id, int *index) {
    char task_id[TASK_ID_BYTES], again[PICTURE_ID_BYTES];
    if (strlen(id) <= TASK_ID_BYTES) return NULL;
    memcpy(task_id, id, TASK_ID_BYTES - 1);
    task_id[TASK_ID_BYTES - 1] = '\0';
    task *t = task_id_valid(task_id) ? queue_manager_find(s->queue, task_id) : NULL;
    *index = atoi(id + TASK_ID_BYTES);
    if (t == NULL || *index < 0 || *index >= t->request.count || !t->images[*index].stored) return NULL;
    picture_id_format(task_id, *index, again);
    return strcmp(id, again) == 0 ? t : NULL;
}

void native_delete_image(services *s, http_exchange *x, const char *id) {
    int index;
    error why = {0};
    if (input_id_valid(id)) {
        if (input_store_find(s->inputs, http_caller(x), id) == NULL) {
            answer_no_image(x, id);
        } else if (input_is_held(s->keeper, id)) {
            error_set(&why, ERROR_INVALID, "a task that is not over names image '%s': cancel it first", id);
            problem_answer(x, 409, &why);
        } else {
            input_store_remove(s->inputs, http_caller(x), id);
            answer_empty(x, 204);
        }
        return;
    }
    task *t = find_picture(s, id, &index);
    if (t == NULL || !owner_sees(x, t)) {
        answer_no_image(x, id);
    } else if (!task_status_is_final(t->status)) {
        /* It would be made again. */
        error_set(&why, ERROR_INVALID, "the task of image '%s' is not over: cancel it first", id);
        problem_answer(x, 409, &why);
    } else {
        task_keeper_picture_removed(s->keeper, t, index);
        answer_empty(x, 204);
    }
}
