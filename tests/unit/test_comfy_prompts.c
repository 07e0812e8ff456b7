/* ComfyUI's prompts beside the queue: made of what tasks keep, found by id and by what they show, their files numbered without doubles, and
 * their memory bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/api/comfy_prompts.h"

static const queue_limits roomy = {.max_queued = 5000, .max_active = 2, .keep_finished = 5000};

typedef struct fixture {
    queue_manager *queue;
    comfy_prompts *prompts;
    size_t limit;
    int64_t now;
} fixture;

static fixture make(size_t limit) {
    fixture f = {.limit = limit, .now = 1000};
    error e;
    assert_true(queue_manager_new(&roomy, &f.queue, &e) && comfy_prompts_new(f.queue, limit, &f.prompts, &e));
    return f;
}

static void drop(fixture *f) {
    comfy_prompts_free(f->prompts);
    queue_manager_free(f->queue);
}

/* As after a restart, with the same queue. */
static void restart(fixture *f) {
    error e;
    comfy_prompts_free(f->prompts);
    assert_true(comfy_prompts_new(f->queue, f->limit, &f->prompts, &e));
}

/* A task whose prompt shows `count` pictures "x_…" from `first` on; `much` bytes of graph. */
static task *submit(fixture *f, const char *id, const char *signature, int64_t first, int count, size_t much) {
    char *data = malloc(much + 1024), *graph = calloc(1, much + 1);
    assert_non_null(data);
    assert_non_null(graph);
    memset(graph, 'g', much);
    sprintf(data,
            "{\"hidden\":false,\"id\":\"%s\",\"client\":\"c\",\"number\":%lld,\"shown_steps\":4,\"sampler\":\"3\",\"signature\":\"%s\",\"nodes\":[[\"3\",\"KSampler\",\"s-%s\",false],"
            "[\"9\",\"SaveImage\",\"o-%s\",false]],\"outputs\":[{\"node\":\"9\",\"subfolder\":\"\",\"prefix\":\"x\",\"temp\":false,\"first\":%lld}],\"graph\":{\"g\":\"%s\"},\"extra\":{}}",
            id, (long long)f->now, signature, id, id, (long long)first, graph);
    const task_request r = {.model = "demo", .prompt = "a", .precision = "auto", .width = 64, .height = 64, .steps = 4, .count = count, .adapter = COMFY_ADAPTER, .adapter_data = data};
    task *t = NULL;
    error e;
    assert_true(queue_manager_submit_task(f->queue, &r, PRIORITY_NORMAL, f->now++, &t, &e));
    free(data);
    free(graph);
    return t;
}

static void complete(fixture *f, task *t) {
    queue_manager_start(f->queue, t, f->now);
    for (int i = 0; i < t->request.count; i++) t->images[i].stored = true;
    queue_manager_complete(f->queue, t, f->now++);
    comfy_prompts_ended(f->prompts, comfy_prompts_of(f->prompts, t), true);
}

static void a_prompt_is_made_of_what_its_task_keeps(void **state) {
    (void)state;
    fixture f = make(1 << 20);
    task *t = submit(&f, "one", "s", 5, 2, 10);
    assert_null(comfy_prompts_find(f.prompts, "one"));
    comfy_prompt *one = comfy_prompts_of(f.prompts, t);
    assert_ptr_equal(comfy_prompts_find(f.prompts, "one"), one);
    assert_ptr_equal(comfy_prompts_of(f.prompts, t), one);
    assert_ptr_equal(comfy_prompts_task(f.prompts, one), t);
    assert_true(one->node_count == 2 && one->sampler == 0 && one->shown_steps == 4 && one->output_count == 1 && !one->cached &&
                !one->hidden);
    assert_true(comfy_prompts_next_number(f.prompts) > one->number);
    restart(&f);
    one = comfy_prompts_find(f.prompts, "one");
    assert_non_null(one);
    assert_int_equal(one->outputs[0].first, 5);
    drop(&f);
}

static void what_is_damaged_is_no_prompt(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"id\":\"a\",\"client\":\"\",\"signature\":\"\",\"nodes\":[[\"3\",\"None\",\"\",false]],\"outputs\":[]}",
        "{\"id\":\"a\",\"client\":\"\",\"signature\":\"\",\"nodes\":[[\"3\",\"KSampler\",\"\",false]],\"outputs\":[]}",
        "{\"id\":7,\"client\":\"\",\"signature\":\"\",\"nodes\":[[\"3\",\"KSampler\",\"\",false]],\"outputs\":[{}]}"};
    fixture f = make(1 << 20);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const task_request r = {.model = "demo", .prompt = "a", .precision = "auto", .width = 64, .height = 64, .steps = 4, .count = 1, .adapter = COMFY_ADAPTER, .adapter_data = wrong[i]};
        task *t = NULL;
        assert_true(queue_manager_submit_task(f.queue, &r, PRIORITY_NORMAL, f.now++, &t, NULL));
        assert_null(comfy_prompts_of(f.prompts, t));
    }
    restart(&f);
    assert_null(comfy_prompts_newest(f.prompts));
    drop(&f);
}

static void files_are_numbered_without_doubles(void **state) {
    (void)state;
    fixture f = make(1 << 20);
    comfy_output x = {.prefix = "x"}, other = {.prefix = "x", .temporary = true};
    int index;
    /* Those that are given out are taken, though their prompts are not known yet. */
    assert_int_equal(comfy_prompts_next_file(f.prompts, &x, 2), 1);
    assert_int_equal(comfy_prompts_next_file(f.prompts, &x, 1), 3);
    assert_int_equal(comfy_prompts_next_file(f.prompts, &other, 1), 1);
    task *t = submit(&f, "one", "s", 7, 3, 10);
    comfy_prompts_of(f.prompts, t);
    assert_null(comfy_prompts_picture(f.prompts, "", "x_00007_.png", false, &index)); /* not made yet */
    complete(&f, t);
    restart(&f);
    assert_int_equal(comfy_prompts_next_file(f.prompts, &x, 1), 10);
    assert_ptr_equal(comfy_prompts_picture(f.prompts, "", "x_00009_.png", false, &index), t);
    assert_int_equal(index, 2);
    static const char *const none[] = {"x_00010_.png", "x_00006_.png", "x_0007_.png", "x_00007_.jpg", "x00007_.png", "_00007_.png", "", "y_00007_.png", "x_000000000000000007_.png1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert_null(comfy_prompts_picture(f.prompts, "", none[i], false, &index));
    assert_null(comfy_prompts_picture(f.prompts, "", "x_00007_.png", true, &index));
    assert_null(comfy_prompts_picture(f.prompts, "a", "x_00007_.png", false, &index));
    drop(&f);
}

static void the_same_is_found_while_its_pictures_are_there(void **state) {
    (void)state;
    fixture f = make(1 << 20);
    task *t = submit(&f, "one", "sig", 1, 2, 10);
    comfy_prompts_of(f.prompts, t);
    assert_null(comfy_prompts_same(f.prompts, "sig", NULL)); /* it runs yet */
    complete(&f, t);
    assert_non_null(comfy_prompts_same(f.prompts, "sig", NULL));
    assert_null(comfy_prompts_same(f.prompts, "other", NULL));
    assert_null(comfy_prompts_same(f.prompts, "", NULL));
    assert_null(comfy_prompts_same(f.prompts, "sig", "somebody else"));
    t->images[1].stored = false;
    assert_null(comfy_prompts_same(f.prompts, "sig", NULL));
    drop(&f);
}

static void what_is_hidden_stays_so(void **state) {
    (void)state;
    fixture f = make(1 << 20);
    task *t = submit(&f, "one", "s", 1, 1, 10);
    comfy_prompts_of(f.prompts, t);
    complete(&f, t);
    comfy_prompts_hide(f.prompts, comfy_prompts_find(f.prompts, "one"));
    restart(&f);
    assert_true(comfy_prompts_find(f.prompts, "one")->hidden);
    assert_string_equal(comfy_prompts_find(f.prompts, "one")->outputs[0].prefix, "x");
    drop(&f);
}

static size_t count_all(const fixture *f) {
    size_t count = 0;
    for (comfy_prompt *one = comfy_prompts_newest(f->prompts); one != NULL; one = comfy_prompts_older(f->prompts, one)) count++;
    return count;
}

/* Of what is over, the oldest goes, with its task; what is not over stays. */
/* Where those that wait take all that may be taken, one that is over goes when the next comes, and not while it is being read. */
static void the_newest_stays(void **state) {
    (void)state;
    fixture f = make(1 << 20);
    comfy_prompts_of(f.prompts, submit(&f, "waits", "s", 1, 1, 10000));
    task *over = submit(&f, "over", "t", 2, 1, 10);
    comfy_prompts_of(f.prompts, over);
    complete(&f, over);
    f.limit = 5000;
    restart(&f);
    assert_non_null(comfy_prompts_find(f.prompts, "over"));
    comfy_prompts_of(f.prompts, submit(&f, "next", "u", 3, 1, 10));
    assert_null(comfy_prompts_find(f.prompts, "over"));
    drop(&f);
}

static void memory_is_bounded(void **state) {
    (void)state;
    fixture f = make(200 * 1000);
    task *waits = submit(&f, "waits", "s", 1, 1, 10000);
    comfy_prompts_of(f.prompts, waits);
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "p%d", i);
        task *t = submit(&f, id, id, i + 2, 1, 10000);
        comfy_prompts_of(f.prompts, t);
        complete(&f, t);
    }
    assert_in_range(count_all(&f), 10, 20);
    assert_non_null(comfy_prompts_find(f.prompts, "waits"));
    assert_non_null(comfy_prompts_find(f.prompts, "p99"));
    assert_null(comfy_prompts_find(f.prompts, "p0"));
    assert_in_range(queue_manager_finished_count(f.queue), 10, 20);
    assert_int_equal(waits->status, TASK_QUEUED);
    /* Those that have no task of their own are bounded by number. */
    comfy_plan plan = {.node_count = 1, .nodes = {{.id = "9", .class = comfy_class_find("SaveImage")}}};
    size_t before = count_all(&f);
    for (int i = 0; i < COMFY_CACHED_MAX + 50; i++) {
        char id[16];
        snprintf(id, sizeof id, "c%d", i);
        assert_non_null(comfy_prompts_repeat(f.prompts, comfy_prompts_find(f.prompts, "p99"), &plan, id, "", i));
    }
    assert_int_equal(count_all(&f), before + COMFY_CACHED_MAX);
    assert_null(comfy_prompts_find(f.prompts, "c0"));
    /* Their pictures' task gone, they are, too. */
    queue_manager_forget_task(f.queue, comfy_prompts_task(f.prompts, comfy_prompts_find(f.prompts, "p99")));
    assert_int_equal(count_all(&f), before - 1);
    drop(&f);
}

/* Of those that wait; what is over makes room. */
static void what_waits_is_bounded(void **state) {
    (void)state;
    fixture f = make(20 * 1000);
    assert_true(comfy_prompts_have_room(f.prompts, 20 * 1000));
    assert_false(comfy_prompts_have_room(f.prompts, 20 * 1000 + 1));
    task *first = submit(&f, "first", "s", 1, 1, 10000), *second = submit(&f, "second", "s", 2, 1, 8000);
    comfy_prompts_of(f.prompts, first);
    comfy_prompts_of(f.prompts, second);
    assert_false(comfy_prompts_have_room(f.prompts, 5000));
    complete(&f, second);
    assert_true(comfy_prompts_have_room(f.prompts, 5000));
    assert_false(comfy_prompts_have_room(f.prompts, 10000));
    complete(&f, first);
    assert_true(comfy_prompts_have_room(f.prompts, 20 * 1000));
    drop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_made_of_what_its_task_keeps), cmocka_unit_test(what_is_damaged_is_no_prompt),
        cmocka_unit_test(files_are_numbered_without_doubles),      cmocka_unit_test(the_same_is_found_while_its_pictures_are_there),
        cmocka_unit_test(what_is_hidden_stays_so),                 cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(the_newest_stays),
        cmocka_unit_test(what_waits_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
