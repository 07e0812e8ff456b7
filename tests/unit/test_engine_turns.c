/* The engine's loop over a stand-in for the model: tasks and the loading of models take turns slice by slice, share steps where that pays,
 * and a cancel, a priority or a suspension takes effect within a slice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "engine/held_tasks.h"
#include "engine/load_commands.h"
#include "engine_front.h"

static void tasks_take_turns(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 5, 1);
    front_admit(&f, "b", "slow", 5, 1);
    front_admit(&f, "c", "slow", 1, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    buffer order = {0};
    int done = 0;
    while (done < 3) {
        assert_true(front_next(&f, NULL));
        if (f.last.kind == MESSAGE_PROGRESS) buffer_printf(&order, "%s", f.last.id);
        done += f.last.kind == MESSAGE_DONE;
        if (f.last.kind == MESSAGE_DONE) buffer_printf(&order, ".");
    }
    /* a's second slice may come before the others were read; from then on, strictly in turn. c is through after four of its own. */
    const char *rest = strstr(buffer_text(&order), "bc");
    assert_non_null(rest);
    assert_string_equal(rest, "bcabcabcabc.abababa.b.");
    buffer_free(&order);
    assert_int_equal(front_end(&f), 0);
}

static void a_cancel_takes_effect_within_a_slice(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 1000, 1);
    front_admit(&f, "b", "slow", 1000, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    front_send(&f, MESSAGE_CANCEL, "a", NULL);
    front_send(&f, MESSAGE_CANCEL, "unknown", NULL);
    int slices = 0;
    do {
        assert_true(front_next(&f, NULL));
        slices += f.last.kind == MESSAGE_PROGRESS;
    } while (f.last.kind == MESSAGE_PROGRESS);
    assert_true(slices <= 2);
    assert_int_equal(f.last.kind, MESSAGE_FAILED);
    assert_string_equal(f.last.id, "a");
    assert_int_equal(f.last.fault.code, ERROR_CANCELLED);
    for (int i = 0; i < 5; i++) front_expect(&f, MESSAGE_PROGRESS, "b"); /* and goes on with the other */
    assert_int_equal(front_end(&f), 0);
}

static void more_tasks_than_it_holds_are_refused(void **state) {
    (void)state;
    front f = front_start();
    char id[8];
    for (int i = 0; i <= HELD_TASKS_MAX; i++) {
        snprintf(id, sizeof id, "t%d", i);
        front_admit(&f, id, "slow", 100, 1);
    }
    front_admit(&f, "t3", "slow", 100, 1); /* twice: nothing comes of it */
    front_expect(&f, MESSAGE_FAILED, id);
    assert_int_equal(f.last.fault.code, ERROR_BUSY);
    for (int i = HELD_TASKS_MAX - 1; i >= 0; i--) {
        snprintf(id, sizeof id, "t%d", i);
        front_send(&f, MESSAGE_CANCEL, id, NULL);
        front_expect(&f, MESSAGE_FAILED, id);
        assert_int_equal(f.last.fault.code, ERROR_CANCELLED);
    }
    front_admit(&f, "last", "fine", 1, 1);
    front_expect(&f, MESSAGE_IMAGE, "last");
    assert_int_equal(front_end(&f), 0);
}

/* Reads on until every task of `ids`, one letter each, is done or failed. The letters of those who shared a slice, largest party seen, into
 * `most`; how many were done. */
static int follow(front *f, const char *ids, size_t *most) {
    uint64_t slice = 0;
    size_t left = strlen(ids), party = 0;
    int done = 0;
    while (left > 0) {
        assert_true(front_next(f, NULL));
        const engine_message *m = &f->last;
        if (m->kind == MESSAGE_PROGRESS) {
            bool joined = m->progress.slice != 0 && m->progress.slice == slice;
            party = joined ? party + 1 : 1;
            slice = m->progress.slice;
            if (party > *most) *most = party;
        }
        done += m->kind == MESSAGE_DONE;
        left -= m->kind == MESSAGE_DONE || m->kind == MESSAGE_FAILED;
    }
    return done;
}

static void tasks_share_steps_where_that_pays(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "share slow", 60, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    front_admit(&f, "b", "share slow", 40, 1);
    front_admit(&f, "c", "share slow", 40, 1);
    front_admit(&f, "d", "not with others", 40, 1);
    front_admit_as(&f, "e", "share, but it was there when an engine died", 40, 1, 2, true);
    size_t most = 0;
    assert_int_equal(follow(&f, "abcde", &most), 5);
    assert_int_equal(most, 3);
    assert_int_equal(front_end(&f), 0);
}

static void without_memory_fewer_share(void **state) {
    (void)state;
    front f = front_start();
    for (int i = 0; i < 4; i++) front_admit(&f, (char[]){(char)('a' + i), 0}, "share few slow", 40, 1);
    size_t most = 0;
    assert_int_equal(follow(&f, "abcd", &most), 4);
    assert_int_equal(most, 3); /* tried once */
    assert_int_equal(front_end(&f), 0);
}

static void who_spoils_a_shared_step_fails_alone(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "share slow", 40, 1);
    front_admit(&f, "b", "share slow", 40, 1);
    size_t most = 0;
    while (most < 2) { /* until they share */
        uint64_t before = f.last.kind == MESSAGE_PROGRESS ? f.last.progress.slice : 0;
        assert_true(front_next(&f, NULL));
        if (f.last.kind == MESSAGE_PROGRESS && f.last.progress.slice != 0 && f.last.progress.slice == before) most = 2;
    }
    front_admit(&f, "c", "share spoils", 40, 1);
    int failed = 0;
    for (int ended = 0; ended < 3;) {
        assert_true(front_next(&f, NULL));
        ended += f.last.kind == MESSAGE_DONE || f.last.kind == MESSAGE_FAILED;
        if (f.last.kind != MESSAGE_FAILED) continue;
        failed++;
        assert_string_equal(f.last.id, "c");
        assert_string_equal(f.last.fault.text, "it spoils");
    }
    assert_int_equal(failed, 1);
    assert_int_equal(front_end(&f), 0);
}

/* From the slice after its coming on, only the urgent one's slices are told until it is done. */
static void urgent_overtakes_at_the_next_slice(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 1000, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    front_admit_as(&f, "b", "slow", 1000, 1, 1, false);
    front_admit_as(&f, "u", "fine", 20, 1, 0, false);
    while (f.last.kind != MESSAGE_PROGRESS || f.last.id[0] != 'u') assert_true(front_next(&f, NULL));
    for (;;) {
        assert_true(front_next(&f, NULL));
        assert_string_equal(f.last.id, "u");
        if (f.last.kind == MESSAGE_DONE) break;
    }
    for (int seen = 0; seen != 3;) { /* then the others go on */
        assert_true(front_next(&f, NULL));
        assert_int_equal(f.last.kind, MESSAGE_PROGRESS);
        seen |= f.last.id[0] == 'a' ? 1 : f.last.id[0] == 'b' ? 2 : 4;
    }
    assert_int_equal(front_end(&f), 0);
}

static void set_priority(front *f, const char *id, int priority) {
    static engine_message m;
    m = (engine_message){.kind = MESSAGE_PRIORITY, .engine = ENGINE_NUMBER, .priority = priority};
    snprintf(m.id, sizeof m.id, "%s", id);
    assert_true(engine_message_send(f->socket, &m, -1, NULL));
}

/* Both run; the later one, raised, is through before the first has got on. */
static void a_running_task_that_is_raised_finishes_first(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 40, 1);
    front_admit(&f, "b", "slow", 40, 1);
    while (f.last.kind != MESSAGE_PROGRESS || f.last.id[0] != 'b') assert_true(front_next(&f, NULL));
    set_priority(&f, "b", 0);
    set_priority(&f, "unknown", 0);
    int slices = 0; /* of a, until b is done: those that were under way */
    do {
        assert_true(front_next(&f, NULL));
        slices += f.last.kind == MESSAGE_PROGRESS && f.last.id[0] == 'a';
    } while (f.last.kind != MESSAGE_DONE);
    assert_string_equal(f.last.id, "b");
    assert_true(slices < 20);
    assert_int_equal(front_end(&f), 0);
}

static void a_suspended_task_keeps_its_place(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 30, 1);
    do front_expect(&f, MESSAGE_PROGRESS, "a");
    while (f.last.progress.step < 3);
    front_send(&f, MESSAGE_SUSPEND, "a", NULL);
    front_send(&f, MESSAGE_SUSPEND, "unknown", NULL);
    front_admit(&f, "b", "slow", 3, 1);
    int step = f.last.progress.step;
    for (bool done = false; !done;) { /* a's slices that were under way come first, then b's alone */
        assert_true(front_next(&f, NULL));
        if (f.last.id[0] == 'a') step = f.last.progress.step;
        done = f.last.kind == MESSAGE_DONE;
    }
    assert_string_equal(f.last.id, "b");
    assert_in_range(step, 3, 8);
    assert_int_equal(f.latent_bytes, 10); /* a's; b's went before its end was told */
    front_send(&f, MESSAGE_RESUME, "a", NULL);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    assert_int_equal(f.last.progress.step, step + 1);
    front_send(&f, MESSAGE_SUSPEND, "a", NULL); /* and can be cancelled while it is */
    front_send(&f, MESSAGE_CANCEL, "a", NULL);
    front_expect(&f, MESSAGE_FAILED, "a");
    assert_int_equal(f.last.fault.code, ERROR_CANCELLED);
    assert_int_equal(front_end(&f), 0);
}

static void command(front *f, engine_message_kind kind, const char *id, const char *model, bool only_if_free) {
    static engine_message m;
    m = (engine_message){.kind = kind, .engine = ENGINE_NUMBER};
    snprintf(m.id, sizeof m.id, "%s", id);
    if (model != NULL) {
        m.model = (engine_model_name){.precision = "auto", .folder = "/models/x", .only_if_free = only_if_free};
        snprintf(m.model.model, sizeof m.model.model, "%s", model);
    }
    assert_true(engine_message_send(f->socket, &m, -1, NULL));
}

static void commands_are_answered(void **state) {
    (void)state;
    front f = front_start();
    command(&f, MESSAGE_LOAD, "1", "x", false);
    front_expect(&f, MESSAGE_ANSWER, "1");
    assert_true(f.last.answer.ok && f.last.answer.seconds > 0.005);
    command(&f, MESSAGE_PRELOAD, "2", "full", false);
    front_expect(&f, MESSAGE_ANSWER, "2");
    assert_true(f.last.answer.ok);
    command(&f, MESSAGE_PRELOAD, "3", "full", true);
    front_expect(&f, MESSAGE_ANSWER, "3");
    assert_false(f.last.answer.ok);
    assert_int_equal(f.last.answer.fault.code, ERROR_BUSY);
    command(&f, MESSAGE_UNLOAD, "4", "gone", false);
    front_expect(&f, MESSAGE_ANSWER, "4");
    assert_int_equal(f.last.answer.fault.code, ERROR_NOT_FOUND);
    command(&f, MESSAGE_CLEANUP, "5", NULL, false);
    front_expect(&f, MESSAGE_ANSWER, "5");
    assert_true(f.last.answer.ok);
    assert_int_equal(f.last.answer.ram_bytes, 5);
    /* More than it takes: the last are refused, the others done in order. */
    char id[8];
    for (int i = 0; i < LOAD_COMMANDS_MAX; i++) {
        snprintf(id, sizeof id, "p%d", i);
        command(&f, MESSAGE_PRELOAD, id, "x", false);
    }
    for (int i = 0; i < LOAD_COMMANDS_MAX; i++) {
        snprintf(id, sizeof id, "p%d", i);
        front_expect(&f, MESSAGE_ANSWER, id);
    }
    command(&f, MESSAGE_LOAD, "unfinished", "x", false);
    assert_int_equal(front_end(&f), 0);
}

/* Slices of the task that pass from the command to its answer. */
static int slices_until_answered(front *f, engine_message_kind kind, const char *id) {
    int slices = 0;
    command(f, kind, id, "x", false);
    do {
        assert_true(front_next(f, NULL));
        slices += f->last.kind == MESSAGE_PROGRESS && strcmp(f->last.id, id) != 0;
    } while (f->last.kind == MESSAGE_PROGRESS);
    assert_int_equal(f->last.kind, MESSAGE_ANSWER);
    assert_string_equal(f->last.id, id);
    return slices;
}

/* A model of five parts: one that is waited for goes turn about with the task, one for later takes a slice now and then. */
static void models_load_between_the_slices_of_tasks(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 1000, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    assert_in_range(slices_until_answered(&f, MESSAGE_LOAD, "now"), 4, 7);
    assert_in_range(slices_until_answered(&f, MESSAGE_PRELOAD, "later"), 16, 23);
    command(&f, MESSAGE_PRELOAD, "last", "x", false);
    front_send(&f, MESSAGE_SUSPEND, "a", NULL); /* now there is a gap */
    front_expect(&f, MESSAGE_ANSWER, "last");
    assert_int_equal(front_end(&f), 0);
}

/* Or the task that ran before it would be charged with what the load did. */
static void a_part_of_a_model_is_a_slice_of_its_command(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 1000, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    command(&f, MESSAGE_PRELOAD, "command", "deadly", false);
    char last[ENGINE_ID_BYTES] = "";
    while (front_next(&f, NULL)) memcpy(last, f.last.id, sizeof last);
    assert_string_equal(last, "command");
    int status = front_end(&f);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void memory_that_runs_out_is_planned_anew_once(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "thirsty", 3, 1);
    front_admit(&f, "b", "dry", 3, 1);
    int planned = 0, done = 0, failed = 0;
    while (done + failed < 2) {
        assert_true(front_next(&f, NULL));
        if (f.last.kind == MESSAGE_PLAN) {
            assert_string_equal(f.last.id, "a");
            assert_string_equal(f.last.plan.steps[0], "decode in tiles");
            planned++;
        }
        if (f.last.kind == MESSAGE_DONE) {
            assert_string_equal(f.last.id, "a");
            assert_int_equal(planned, 1);
            assert_int_equal(f.last.metrics.steps_run, 3);
            done++;
        }
        if (f.last.kind == MESSAGE_FAILED) {
            assert_string_equal(f.last.id, "b");
            assert_int_equal(f.last.fault.code, ERROR_OUT_OF_MEMORY);
            failed++;
        }
    }
    assert_int_equal(done, 1);
    assert_int_equal(front_end(&f), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_take_turns),
        cmocka_unit_test(a_cancel_takes_effect_within_a_slice),
        cmocka_unit_test(more_tasks_than_it_holds_are_refused),
        cmocka_unit_test(tasks_share_steps_where_that_pays),
        cmocka_unit_test(without_memory_fewer_share),
        cmocka_unit_test(who_spoils_a_shared_step_fails_alone),
        cmocka_unit_test(urgent_overtakes_at_the_next_slice),
        cmocka_unit_test(a_running_task_that_is_raised_finishes_first),
        cmocka_unit_test(a_suspended_task_keeps_its_place),
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(models_load_between_the_slices_of_tasks),
        cmocka_unit_test(a_part_of_a_model_is_a_slice_of_its_command),
        cmocka_unit_test(memory_that_runs_out_is_planned_anew_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
