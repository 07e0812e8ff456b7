#include "server/api/a1111_generate.h"

#include <stdlib.h>
#include <string.h>

#include "server/access/owner.h"
#include "server/api/a1111_body.h"
#include "server/api/a1111_errors.h"
#include "server/api/a1111_info.h"
#include "server/api/a1111_mask.h"
#include "server/api/a1111_request.h"
#include "server/http/answer.h"
#include "server/requests/intake.h"
#include "server/requests/services.h"

/* --- the answer --- */

static void answer_failure(http_exchange *x, const task *t) {
    error why = t->failure;
    if (t->status != TASK_FAILED) error_set(&why, ERROR_BUSY, "the server is about to stop and starts no further tasks");
    why.field[0] = '\0';
    a1111_answer_error(x, t->status != TASK_FAILED ? 503 : 0, &why);
}

/* Read from disk only when they are sent. */
static bool add_pictures(services *s, http_body *body, buffer *text, const task *t, error *e) {
    bool first = true;
    for (int i = 0; i < t->request.count; i++) {
        char id[PICTURE_ID_BYTES], path[PATH_MAX];
        if (!t->images[i].stored) continue;
        picture_id_format(t->id, i, id);
        buffer_append_text(text, first ? "\"" : ",\"");
        first = false;
        if (!picture_store_path(s->pictures, id, path, e) || !http_body_add(body, text, e) || !http_body_add_file(body, path, true, e))
            return false;
        buffer_append_text(text, "\"");
    }
    return true;
}

/* "parameters" and "info", with the bracket that closes the whole. */
static bool add_words(buffer *text, const task *t, const a1111_data *data, error *e) {
    buffer info = {0};
    size_t size = 0;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_val(doc, root, "parameters",
                           data->parameters != NULL ? yyjson_val_mut_copy(doc, data->parameters) : yyjson_mut_obj(doc));
    bool ok = a1111_info_write(t, data, &info) && yyjson_mut_obj_add_strn(doc, root, "info", buffer_text(&info), info.size);
    char *words = ok ? yyjson_mut_val_write(root, 0, &size) : NULL;
    if (words != NULL) buffer_append(text, words + 1, size - 1); /* the object is open already */
    ok = words != NULL && buffer_ok(text);
    free(words);
    yyjson_mut_doc_free(doc);
    buffer_free(&info);
    return ok || error_no_memory(e, "an answer", size);
}

/* An interrupted task answers as one that is done, with the pictures that it had made. */
static void answer(services *s, http_exchange *x, task *t) {
    if (t->status != TASK_COMPLETED && t->status != TASK_CANCELLED) {
        answer_failure(x, t);
        return;
    }
    a1111_data data;
    http_body body = {0};
    buffer text = {0};
    error why = {0};
    a1111_data_read(t, &data);
    buffer_append_text(&text, "{\"images\":[");
    bool ok = !data.send_images || add_pictures(s, &body, &text, t, &why);
    buffer_append_text(&text, "],");
    ok = ok && add_words(&text, t, &data, &why) && http_body_add(&body, &text, &why);
    buffer_free(&text);
    a1111_data_free(&data);
    if (ok) {
        http_respond(x, 200, "application/json", &body);
    } else {
        http_body_free(&body);
        a1111_answer_error(x, why.code == ERROR_OUT_OF_MEMORY ? 0 : 500, &why);
    }
}

static void await_end(services *s, http_exchange *x, task *t, const error *why) {
    error fault;
    if (t == NULL) {
        int seconds, status = submission_refusal(s, why, &seconds);
        if (status == 429) a1111_answer_busy(x, why, seconds);
        else a1111_answer_error(x, status, why);
    } else if (!waits_add(s->waits, x, t, -1, true, answer, &fault)) {
        bool at_once;
        if (!task_status_is_final(t->status)) dispatch_cancel(s->dispatch, t, &at_once, NULL);
        a1111_answer_error(x, 0, &fault);
    }
}

/* --- pictures on their way in --- */

/* A request whose pictures are being stored. */
typedef struct pending {
    a1111_request asked;
    char owner[OWNER_BYTES];
} pending;

static void pending_free(pending *p) {
    a1111_request_free(&p->asked);
    free(p);
}

static void submit(services *s, http_exchange *x, pending *p) {
    submissions_add(s->submissions, x, &p->asked.task, PRIORITY_NORMAL, true, await_end);
    pending_free(p);
}

/* The model may have gone meanwhile: then the task will say so. */
static void take_size(services *s, const input *picture, task_request *io) {
    const model_info *model;
    if (catalog_find(s->catalog, io->model, &model, NULL))
        model_size_for_picture(model, picture->info.width, picture->info.height, &io->width, &io->height);
}

static void stored(services *s, http_exchange *x, const input *pictures, int count, const error *why, void *context) {
    pending *p = context;
    if (x != NULL && pictures != NULL) {
        if (!p->asked.has_size) take_size(s, &pictures[0], &p->asked.task);
        p->asked.task.image = pictures[0].id;
        p->asked.task.mask = count > 1 ? pictures[1].id : NULL;
        submit(s, x, p);
        return;
    }
    if (x != NULL) a1111_answer_error(x, why->code == ERROR_BUSY ? 503 : 0, why);
    pending_free(p);
}

/* The texts are copied, as they are decoded and stored elsewhere. */
static void take_in(services *s, http_exchange *x, pending *p) {
    const a1111_request *r = &p->asked;
    buffer pictures[2] = {{0}};
    upload_prepare prepare[2] = {intake_from_base64, r->mask_inverted ? a1111_mask_inverted : a1111_mask_as_it_is};
    int count = r->mask.text != NULL ? 2 : 1;
    error why = {0};
    buffer_append(&pictures[0], r->picture.text, r->picture.size);
    if (count == 2) buffer_append(&pictures[1], r->mask.text, r->mask.size);
    if (!buffer_ok(&pictures[0]) || !buffer_ok(&pictures[1])) {
        error_no_memory(&why, "a request's pictures", r->picture.size + r->mask.size);
        buffer_free(&pictures[0]);
        buffer_free(&pictures[1]);
    } else if (intake_add_prepared(s, x, pictures, prepare, count, stored, p, &why)) {
        return;
    }
    a1111_answer_error(x, why.code == ERROR_BUSY ? 503 : 0, &why);
    pending_free(p);
}

/* --- POST --- */

static void generate(services *s, http_exchange *x, bool img2img) {
    json_document body;
    error why = {0};
    buffer raw;
    if (!a1111_read_body(x, &body)) return;
    http_take_request_body(x, &raw); /* read, and perhaps many megabytes: not kept until the picture is there */
    buffer_free(&raw);
    pending *p = calloc(1, sizeof *p);
    bool ok = p != NULL ? a1111_request_read(s, json_root(&body), img2img, &p->asked, &why) : error_no_memory(&why, "a request", sizeof *p);
    if (ok) {
        p->asked.task.owner = owner_of(x, p->owner);
        if (img2img) take_in(s, x, p);
        else submit(s, x, p);
    } else {
        free(p);
        a1111_answer_error(x, 0, &why);
    }
    json_document_free(&body);
}

void a1111_txt2img(services *s, http_exchange *x, const char *id) {
    (void)id;
    generate(s, x, false);
}

void a1111_img2img(services *s, http_exchange *x, const char *id) {
    (void)id;
    generate(s, x, true);
}
