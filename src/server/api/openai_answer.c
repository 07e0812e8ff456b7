#include "server/api/openai_answer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/access/owner.h"
#include "server/api/openai_error.h"
#include "server/api/openai_request.h"
#include "server/api/openai_stream.h"
#include "server/http/answer.h"
#include "server/requests/renditions.h"
#include "server/requests/services.h"

/* What the answer needs of the task, which may be forgotten while its pictures are converted. */
typedef struct result {
    openai_choices choices;
    char task[TASK_ID_BYTES];
    int64_t created_s;
    int width, height, count;
} result;

/* Nothing here is paid by the token: their numbers are 0. */
static void begin_answer(buffer *out, const result *r) {
    buffer_printf(out,
                  "{\"created\":%lld,\"background\":\"opaque\",\"output_format\":\"%s\",\"quality\":\"%s\",\"size\":\"%dx%d\","
                  "\"usage\":" OPENAI_NO_USAGE ",\"data\":[",
                  (long long)r->created_s, image_format_name(r->choices.format), r->choices.quality, r->width, r->height);
}

static void send(http_exchange *x, bool ok, http_body *body, const error *why) {
    if (ok) {
        http_respond(x, 200, "application/json", body);
    } else {
        http_body_free(body);
        openai_answer_error(x, 500, why);
    }
}

/* --- base64 --- */

/* One picture a turn: {"b64_json":"…"}. `file` NULL: the stored one, read from disk only when it is sent. */
static bool add_picture(services *s, http_body *body, buffer *text, const result *r, int index, buffer *file, error *e) {
    char id[PICTURE_ID_BYTES], path[PATH_MAX];
    buffer_append_text(text, index > 0 ? ",{\"b64_json\":\"" : "{\"b64_json\":\"");
    if (!http_body_add(body, text, e)) return false;
    buffer_append_text(text, "\"}");
    if (file != NULL) return http_body_add_base64(body, file, e);
    picture_id_format(r->task, index, id);
    return picture_store_path(s->pictures, id, path, e) && http_body_add_file(body, path, true, e);
}

static void answer_pictures(services *s, http_exchange *x, const result *r, buffer *files) {
    http_body body = {0};
    buffer text = {0};
    error why = {0};
    begin_answer(&text, r);
    bool ok = true;
    for (int i = 0; ok && i < r->count; i++) ok = add_picture(s, &body, &text, r, i, files != NULL ? &files[i] : NULL, &why);
    buffer_append_text(&text, "]}");
    ok = ok && http_body_add(&body, &text, &why);
    buffer_free(&text);
    send(x, ok, &body, &why);
}

static void converted(services *s, http_exchange *x, buffer *files, int count, const error *why, void *context) {
    result *r = context;
    (void)count;
    if (x != NULL && files != NULL) answer_pictures(s, x, r, files);
    else if (x != NULL) openai_answer_error(x, 0, why);
    free(r);
}

static void answer_converted(services *s, http_exchange *x, const result *r) {
    char paths[OPENAI_MAX_IMAGES][PATH_MAX];
    transcode jobs[OPENAI_MAX_IMAGES];
    error why = {0};
    result *kept = malloc(sizeof *kept);
    bool ok = kept != NULL || error_no_memory(&why, "an answer", sizeof *kept);
    for (int i = 0; ok && i < r->count; i++) {
        char id[PICTURE_ID_BYTES];
        picture_id_format(r->task, i, id);
        jobs[i] = (transcode){.path = paths[i], .format = r->choices.format, .quality = openai_quality(&r->choices)};
        ok = picture_store_path(s->pictures, id, paths[i], &why);
    }
    if (ok) *kept = *r;
    if (ok && renditions_add(s, x, jobs, r->count, converted, kept, &why)) return;
    free(kept);
    openai_answer_error(x, 0, &why);
}

/* --- addresses --- */

static void answer_urls(services *s, http_exchange *x, const result *r) {
    const char *host = http_header(x, "host"), *told = http_header(x, "x-forwarded-proto");
    const char *scheme = told != NULL && strcasecmp(told, "https") == 0 ? "https" : "http"; /* of the proxy that the client speaks to */
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:[]";
    if (host == NULL || strspn(host, allowed) != strlen(host)) host = http_server_address(s->http);
    http_body body = {0};
    buffer text = {0};
    error why = {0};
    begin_answer(&text, r);
    for (int i = 0; i < r->count; i++) {
        char id[PICTURE_ID_BYTES];
        picture_id_format(r->task, i, id);
        buffer_printf(&text, "%s{\"url\":\"%s://%s/api/images/%s", i > 0 ? "," : "", scheme, host, id);
        if (r->choices.format != IMAGE_PNG)
            buffer_printf(&text, "?format=%s&quality=%d", image_format_name(r->choices.format), openai_quality(&r->choices));
        buffer_append_text(&text, "\"}");
    }
    buffer_append_text(&text, "]}");
    send(x, http_body_add(&body, &text, &why), &body, &why);
}

/* --- the way there --- */

static void answer_failure(http_exchange *x, const task *t) {
    error why;
    int status = openai_failure(t, &why);
    /* The same request would fail again: the client library must not send it anew. */
    if (t->status == TASK_FAILED) http_add_header(x, "x-should-retry", "false");
    openai_answer_error(x, status, &why);
}

static void answer_end(services *s, http_exchange *x, task *t) {
    error why = {0};
    result r = {.created_s = t->finished_ms / 1000, .width = t->request.width, .height = t->request.height, .count = t->request.count};
    memcpy(r.task, t->id, sizeof r.task);
    if (t->status != TASK_COMPLETED) answer_failure(x, t);
    else if (!openai_choices_of(t, &r.choices, &why)) openai_answer_error(x, 0, &why);
    else if (r.choices.as_url) answer_urls(s, x, &r);
    else if (r.choices.format != IMAGE_PNG) answer_converted(s, x, &r);
    else answer_pictures(s, x, &r, NULL);
}

static void submitted(services *s, http_exchange *x, task *t, const error *why) {
    openai_choices choices;
    error fault = {0};
    if (t == NULL) {
        openai_answer_refusal(s, x, why);
        return;
    }
    bool ok = openai_choices_of(t, &choices, &fault);
    if (ok) ok = choices.stream ? openai_stream_begin(s, x, t, &choices, &fault) : waits_add(s->waits, x, t, -1, true, answer_end, &fault);
    if (ok) return;
    bool at_once;
    if (!task_status_is_final(t->status)) dispatch_cancel(s->dispatch, t, &at_once, NULL);
    openai_answer_error(x, 0, &fault);
}

void openai_submit(services *s, http_exchange *x, const task_request *request) {
    task_request asked = *request;
    char owner[OWNER_BYTES];
    asked.owner = owner_of(x, owner);
    submissions_add(s->submissions, x, &asked, PRIORITY_NORMAL, true, submitted);
}
