/* The front's parts when memory runs out: each allocation of queue, answers, lists, loop and dispatch fails in turn, and nothing is left
 * behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base64.h"
#include "fault.h"
#include "image/png.h"
#include "queue/queue_manager.h"
#include "server/api/a1111_infotext.h"
#include "server/api/a1111_mask.h"
#include "server/api/openai_form.h"
#include "server/http/http.h"
#include "server/http/http_body.h"
#include "server/requests/services.h"
#include "server/requests/submissions.h"
#include "server/requests/waits.h"
#include "server/resources/catalog.h"
#include "server/tasks/dispatch.h"
#include "server/tasks/event_ring.h"
#include "server/tasks/events.h"
#include "server/tasks/idempotency.h"
#include "server/tasks/task_keeper.h"

static const queue_limits limits = {.max_queued = 10, .max_active = 2, .keep_finished = 2};

static task_request request(void) {
    return (task_request){.model = "demo",
                          .prompt = "a fox",
                          .negative_prompt = "blurry",
                          .precision = "auto",
                          .width = 64,
                          .height = 64,
                          .steps = 1,
                          .count = 1};
}

/* Tasks of many keys, models and deadlines, so that every table grows; half of them change their priority. */
static bool queue_work(void *context, error *e) {
    (void)context;
    const queue_limits many = {.max_queued = 40, .max_active = 2, .keep_finished = 2, .max_suspended = 1};
    queue_manager *q = NULL;
    bool ok = queue_manager_new(&many, &q, e);
    for (int i = 0; ok && i < 40; i++) {
        task *t;
        task_request r = request();
        char owner[16], model[16];
        snprintf(owner, sizeof owner, "key-%d", i);
        snprintf(model, sizeof model, "model-%d", i);
        r.owner = owner;
        r.model = model;
        r.deadline_ms = 1000 + i;
        queue_stats before = queue_manager_get_queue_stats(q);
        ok = queue_manager_submit_task(q, &r, PRIORITY_NORMAL, i, &t, e);
        assert_int_equal(queue_manager_get_queue_stats(q).queued, before.queued + ok); /* no half a task */
        if (!ok || i % 2 == 0) continue;
        ok = queue_manager_set_priority(q, t, PRIORITY_LOW, e);
        assert_int_equal(t->priority, ok ? PRIORITY_LOW : PRIORITY_NORMAL);
        assert_ptr_equal(queue_manager_find(q, t->id), t);
    }
    queue_manager_free(q);
    return ok;
}

/* What was accepted starts, is suspended, put back and ended without memory; forecasts and figures may fail to come about. */
static bool queue_life(void *context, error *e) {
    (void)context;
    const queue_limits one = {.max_queued = 10, .max_active = 1, .keep_finished = 2, .max_suspended = 1};
    const queue_situation ready = {.engine_ready = true, .can_suspend = true};
    queue_manager *q = NULL;
    task *t, *urgent;
    task_request r = request();
    queue_decision d;
    bool ok = queue_manager_new(&one, &q, e) && queue_manager_submit_task(q, &r, PRIORITY_NORMAL, 1, &t, e);
    if (ok) {
        profile_table_learn(queue_manager_profiles(q), "demo|auto|64x64|single|1", &(profile){.step_seconds = 1});
        queue_manager_start(q, t, 2);
    }
    ok = ok && queue_manager_submit_task(q, &r, PRIORITY_URGENT, 3, &urgent, e);
    if (ok) {
        double seconds;
        assert_int_equal(queue_manager_position(q, urgent), 1);
        queue_manager_eta(q, urgent, 3, &seconds);
        queue_manager_suspend_task(q, t, 4);
        queue_manager_decide(q, &ready, 5, &d);
        assert_ptr_equal(d.task, urgent);
        queue_manager_start(q, urgent, 5);
        queue_manager_put_back(q, t, false, "killed", 6);
        queue_manager_put_back(q, urgent, false, "killed", 6);
        assert_int_equal(queue_manager_get_queue_stats(q).queued, 2);
        queue_manager_cancelled(q, t, 7);
        queue_manager_decide(q, &ready, 7, &d);
        assert_ptr_equal(d.task, urgent);
    }
    queue_manager_free(q);
    return ok;
}

static void the_queue(void **state) {
    (void)state;
    assert_true(fault_fail_each(queue_work, NULL) >= 100);
    assert_true(fault_survive_each(queue_life, NULL) >= 15);
}

static bool body_work(void *context, error *e) {
    http_body body = {0};
    bool ok = true;
    for (int i = 0; ok && i < 6; i++) ok = http_body_add_text(&body, "some text", e) && http_body_add_file(&body, context, i % 2 == 0, e);
    buffer raw = {0};
    buffer_append(&raw, "bytes", 5);
    ok = http_body_add_base64(&body, &raw, e) && ok;
    assert_true(raw.data == NULL && (!ok || body.count == 13));
    http_body_free(&body);
    return ok;
}

static void an_answer(void **state) {
    (void)state;
    char path[] = "/tmp/imagined-fault-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    close(fd);
    assert_true(fault_fail_each(body_work, path) >= 8);

    /* And what it gives when nothing fails, in pieces of every size. */
    for (size_t piece = 4; piece < 40; piece++) {
        http_body body = {0};
        error e;
        char text[100];
        buffer raw = {0};
        size_t size = 0, n;
        buffer_append(&raw, "\xFF\0", 2);
        assert_true(http_body_add_text(&body, "a", &e) && http_body_add_file(&body, path, true, &e) && http_body_add_text(&body, "", &e) &&
                    http_body_add_file(&body, path, false, &e) && http_body_add_text(&body, "z", &e) &&
                    http_body_add_base64(&body, &raw, &e));
        do {
            assert_true(http_body_read(&body, text + size, piece, &n, &e));
            assert_true(n <= piece);
            size += n;
        } while (n > 0);
        assert_int_equal(size, body.size);
        text[size] = '\0';
        assert_string_equal(text, "aMDEyMzQ1Njc4OQ==0123456789z/wA=");
        http_body_free(&body);
    }
    unlink(path);
}

static bool form_work(void *context, error *e) {
    (void)context;
    static const char text[] = "--x\r\nContent-Disposition: form-data; name=prompt\r\n\r\na fox\r\n"
                               "--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\none\r\n"
                               "--x\r\nContent-Disposition: form-data; name=mask; filename=b\r\n\r\ntwo\r\n--x--";
    const buffer body = {.data = (char *)text, .size = sizeof text - 1, .capacity = sizeof text};
    openai_form f;
    bool ok = openai_form_read("multipart/form-data; boundary=x", &body, false, &f, e);
    assert_true(!ok || (f.images == 1 && f.pictures[OPENAI_IMAGE].size == 3 && f.pictures[OPENAI_MASK].size == 3));
    openai_form_free(&f);
    return ok;
}

static void a_form(void **state) {
    (void)state;
    assert_true(fault_fail_each(form_work, NULL) >= 2);
}

static bool catalog_work(void *context, error *e) {
    (void)context;
    catalog *c = NULL;
    const model_info *m;
    char demo[1024];
    snprintf(demo, sizeof demo, "%s/demo/model", getenv("IMAGINED_SOURCE"));
    bool ok = catalog_new(demo, "/nonexistent", "demo", &c, e);
    if (ok) ok = catalog_find(c, NULL, &m, e);
    catalog_free(c);
    return ok;
}

static void the_models(void **state) {
    (void)state;
    /* A list that cannot be read is an empty one, so the model is not found: a failure, but not one of memory. */
    assert_true(fault_survive_each(catalog_work, NULL) >= 2);
}

static bool ring_work(void *context, error *e) {
    (void)context;
    event_ring *r = NULL;
    bool ok = event_ring_new(10, 4, 1000, &r, e);
    for (int i = 0; ok && i < 6; i++) {
        ok = event_ring_add(r, "t", "queued", false, false, "{}", 2) != NULL || error_no_memory(e, "an event", 1);
        assert_int_equal(event_ring_last(r), 11 + i);
        /* What could not be kept must not look as if it had never been. */
        if (!ok) assert_false(event_ring_reaches(r, 10 + (uint64_t)i));
    }
    event_ring_free(r);
    return ok;
}

static void the_last_events(void **state) {
    (void)state;
    assert_true(fault_fail_each(ring_work, NULL) >= 8);
}

static void nothing(void *context) { (void)context; }
static void no_answer(void *context, http_exchange *x) { (void)context, (void)x; }
static void no_refusal(void *context, http_exchange *x, int status, const error *why) { (void)context, (void)x, (void)status, (void)why; }
static void finished(void *context, task *t) { (void)context, (void)t; }
static void changed(void *context, const task *t, task_change what) { (void)context, (void)t, (void)what; }

/* Two pictures brought, read again, one removed. */
static bool inputs_work(void *context, error *e) {
    const char *folder = context;
    static const uint8_t pixels[2 * 2 * 3] = {1, 2, 3};
    input_store *s = NULL;
    buffer file = {0};
    input i;
    bool ok = png_encode(pixels, 2, 2, NULL, 0, &file, e) && input_store_new(folder, &s, e) &&
              input_store_write(s, NULL, file.data, file.size, &i, e) && input_store_add(s, &i, e);
    input_store_free(s);
    s = NULL;
    ok = ok && input_store_new(folder, &s, e);
    if (ok) assert_true(input_store_count(s) == 1 && input_store_remove(s, NULL, i.id));
    input_store_free(s);
    buffer_free(&file);
    return ok;
}

static void the_inputs(void **state) {
    (void)state;
    char folder[] = "/tmp/imagined-fault-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    assert_true(fault_fail_each(inputs_work, folder) >= 10);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* A mask that comes in base 64, turned around; what comes out is whole or nothing. */
static bool mask_work(void *context, error *e) {
    (void)context;
    static const uint8_t pixels[2 * 2 * 3] = {255, 255, 255};
    buffer file = {0}, text = {0};
    bool ok = png_encode(pixels, 2, 2, NULL, 0, &file, e);
    char *to = ok ? buffer_reserve(&text, BASE64_SIZE(file.size)) : NULL;
    if (to != NULL) base64_encode((const uint8_t *)file.data, file.size, to);
    if (to != NULL) text.size = BASE64_SIZE(file.size);
    ok = ok && (to != NULL || error_no_memory(e, "a text", 0)) && a1111_mask_inverted(&text, e);
    buffer_free(&file);
    buffer_free(&text);
    return ok;
}

static bool infotext_work(void *context, error *e) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = a1111_infotext_document(doc, context);
    if (o != NULL) assert_int_equal(yyjson_mut_obj_size(o), 5);
    yyjson_mut_doc_free(doc);
    return o != NULL || error_no_memory(e, "a text's reading", 0);
}

static void what_a1111s_clients_bring(void **state) {
    (void)state;
    assert_true(fault_fail_each(mask_work, NULL) >= 6);
    assert_true(fault_fail_each(infotext_work, (void *)"a fox\nNegative prompt: red\nSteps: 8, Model: \"a, b\", Hashes: \"c\"") >= 3);
}

typedef struct state_folder {
    char path[64];
    picture_store *pictures;
    input_store *inputs;
} state_folder;

static bool server_work(void *context, error *e) {
    const state_folder *state = context;
    submissions *submitted = NULL;
    uploads *brought = NULL;
    loop *l = NULL;
    loop_timer *timer = NULL;
    http_server *http = NULL;
    queue_manager *q = NULL;
    waits *w = NULL;
    idempotency *keys = NULL;
    events *v = NULL;
    previews *seen = NULL;
    transcoder *converting = NULL;
    watches *watching = NULL;
    engine_profiles *profiles = NULL;
    dispatch *d = NULL;
    task_keeper *keeper = NULL;
    catalog *c = NULL;
    bool ok = loop_new(&l, e) && loop_timer_new(l, nothing, NULL, &timer, e) &&
              http_server_new(l, "127.0.0.1:0", no_answer, no_refusal, NULL, &http, e) && queue_manager_new(&limits, &q, e) &&
              waits_new(l, NULL, &w, e) && submissions_new(NULL, &submitted, e) && previews_new(&seen, e) &&
              transcoder_new(l, &converting, e) && watches_new(q, &watching, e) &&
              events_new(l, q, seen, &v, e) && idempotency_new(&keys, e) && catalog_new("", "/nonexistent", "demo", &c, e);
    ok = ok && uploads_new(l, &(services){.inputs = state->inputs}, &(input_limits){0}, &brought, e) && engine_profiles_new(&profiles, e);
    const task_keeper_options keeping = {
        .loop = l, .queue = q, .idempotency = keys, .pictures = state->pictures, .profiles = profiles, .state_folder = state->path};
    ok = ok && task_keeper_new(&keeping, &keeper, e);
    const dispatch_options options = {.loop = l,
                                      .keeper = keeper,
                                      .queue = q,
                                      .catalog = c,
                                      .pictures = state->pictures,
                                      .previews = seen,
                                      .profiles = profiles,
                                      .engine = {.device = "cpu"},
                                      .preload = "",
                                      .max_held = 2,
                                      .finished = finished,
                                      .changed = changed};
    ok = ok && dispatch_new(&options, &d, e);
    http_server_free(http);
    dispatch_free(d);
    task_keeper_free(keeper);
    engine_profiles_free(profiles);
    uploads_free(brought);
    submissions_free(submitted);
    waits_free(w);
    events_free(v);
    transcoder_free(converting);
    watches_free(watching);
    previews_free(seen);
    idempotency_free(keys);
    queue_manager_free(q);
    catalog_free(c);
    loop_timer_free(timer);
    loop_free(l);
    return ok;
}

static void the_server(void **state) {
    (void)state;
    state_folder where = {.path = "/tmp/imagined-fault-XXXXXX"};
    char command[96];
    assert_non_null(mkdtemp(where.path));
    setenv("IMAGINED_ENGINE_EXECUTABLE", getenv("IMAGINED_FAKE_ENGINE"), 1);
    error e;
    assert_true(picture_store_new(where.path, &where.pictures, &e) && input_store_new(where.path, &where.inputs, &e));
    /* Watching the engine is tried again later: the one allocation whose failure is no failure of the start. */
    assert_true(fault_survive_each(server_work, &where) >= 20);
    picture_store_free(where.pictures);
    input_store_free(where.inputs);
    snprintf(command, sizeof command, "rm -rf %s", where.path);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_queue),
        cmocka_unit_test(an_answer),
        cmocka_unit_test(a_form),
        cmocka_unit_test(the_models),
        cmocka_unit_test(the_last_events),
        cmocka_unit_test(the_inputs),
        cmocka_unit_test(what_a1111s_clients_bring),
        cmocka_unit_test(the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
