/* Webhooks when memory runs out: settings, signatures, messages of an earlier process, and a task that starts, gets on and ends; each
 * allocation fails in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "fault.h"
#include "server/tasks/webhooks.h"
#include "server/webhooks/webhook_guard.h"
#include "server/webhooks/webhook_signature.h"

static bool settings_work(void *context, error *e) {
    const char *path = context;
    webhook_guard *g = NULL;
    webhook_secrets s;
    char signature[WEBHOOK_SIGNATURE_BYTES];
    bool made;
    unlink(path);
    bool ok = webhook_guard_new("hooks.lan, 10.0.0.0/8", &g, e) && webhook_secrets_keep(path, &s, &made, e) &&
              webhook_sign(&s, "id", 1, "{}", 2, signature, e);
    webhook_guard_free(g);
    return ok;
}

static task_request request(void) {
    return (task_request){.model = "demo", .prompt = "a fox", .precision = "auto", .width = 64, .height = 64, .steps = 4, .count = 1,
                          .webhook = "https://a.example/", .webhook_events = WEBHOOK_START | WEBHOOK_PROGRESS | WEBHOOK_COMPLETED};
}

/* Nothing is sent, as there is no keeper yet; an end that found no memory is made up for when it is told. */
static bool life_work(void *context, error *e) {
    const char *folder = context;
    const queue_limits limits = {.max_queued = 10, .max_active = 2, .keep_finished = 2};
    queue_manager *q = NULL;
    loop *l = NULL;
    webhooks *w = NULL;
    task *t = NULL;
    const task_request r = request();
    bool ok = loop_new(&l, e) && queue_manager_new(&limits, &q, e) && queue_manager_submit_task(q, &r, PRIORITY_NORMAL, 1, &t, e);
    const webhooks_options options = {.loop = l, .queue = q, .state_folder = folder, .secret = "", .allowed = "", .authorities = ""};
    ok = ok && webhooks_new(&options, &w, e);
    if (ok) {
        const stored_webhook kept = {"m-1", t->id, "https://a.example/", "{}", 3, clock_unix_ms()};
        webhooks_restore(w, &kept);
        webhooks_restore_gone(w, "https://b.example/");
        webhooks_changed(w, t, CHANGE_PROGRESS);
        queue_manager_close(q, t, TASK_COMPLETED, NULL, 5);
        const stored_webhook *end = webhooks_ending(w, t);
        if (end != NULL) {
            assert_string_equal(end->task, t->id);
            assert_non_null(strstr(end->body, "\"completed\""));
            assert_ptr_equal(webhooks_ending(w, t), end); /* asked again, it is the same */
        }
        assert_true(webhooks_get_stats(w).pending <= 2 && webhooks_sending(w) == 0);
    }
    webhooks_free(w);
    queue_manager_free(q);
    loop_free(l);
    return ok;
}

static void each_allocation(void **state) {
    (void)state;
    char folder[] = "/tmp/imagined-fault-XXXXXX", path[64], command[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/secret", folder);
    assert_true(fault_fail_each(settings_work, path) >= 4);
    assert_true(fault_survive_each(life_work, folder) >= 8);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
