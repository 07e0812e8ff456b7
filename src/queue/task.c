#include "queue/task.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const status_names[] = {"queued", "loading", "running", "completed", "failed", "cancelled"};
static const char *const priority_names[] = {"urgent", "high", "normal", "low"};

const char *task_status_name(task_status s) { return status_names[s]; }
const char *task_priority_name(task_priority p) { return priority_names[p]; }

bool task_status_parse(const char *text, task_status *out) {
    for (int i = 0; i < (int)(sizeof status_names / sizeof status_names[0]); i++) {
        if (strcmp(text, status_names[i]) != 0) continue;
        *out = (task_status)i;
        return true;
    }
    return false;
}

bool task_priority_parse(const char *text, task_priority *out) {
    for (int i = 0; i < (int)(sizeof priority_names / sizeof priority_names[0]); i++) {
        const char digit[2] = {(char)('0' + i), '\0'};
        if (strcasecmp(text, priority_names[i]) != 0 && strcmp(text, digit) != 0) continue;
        *out = (task_priority)i;
        return true;
    }
    return false;
}

bool task_status_is_final(task_status s) { return s >= TASK_COMPLETED; }
bool task_status_holds_slot(task_status s) { return s == TASK_LOADING || s == TASK_RUNNING; }

bool task_has_guidance_pair(const task_request *r) { return r->negative_prompt != NULL && r->true_cfg_scale > 1; }

void task_shape(const task_request *r, int batch, char out[TASK_SHAPE_BYTES]) {
    snprintf(out, TASK_SHAPE_BYTES, "%s|%s|%dx%d|%s|%d", r->model, r->precision, r->width, r->height,
             task_has_guidance_pair(r) ? "pair" : "single", batch);
}

/* As the engine counts them (flux_original_first_step): the number that is left out is rounded down. */
int task_steps_run(const task_request *r) {
    double wanted = r->image != NULL ? r->steps * r->strength : r->steps;
    return wanted < r->steps ? r->steps - (int)(r->steps - wanted) : r->steps;
}

double task_step_pixels(const task_request *r) {
    return (double)r->width * r->height * task_steps_run(r) * r->count * (task_has_guidance_pair(r) ? 2 : 1);
}

double task_done_fraction(const task *t) {
    int steps = task_steps_run(&t->request);
    double all = (double)steps * t->request.count, done = (double)t->image * steps + (t->step - (t->request.steps - steps));
    return all <= 0 || done <= 0 ? 0 : done < all ? done / all : 1;
}

uint64_t task_batch_key(const task_request *r) {
    char shape[TASK_SHAPE_BYTES];
    task_shape(r, r->max_sequence_length, shape); /* text of another length is another shape as well */
    uint64_t hash = 14695981039346656037u;        /* FNV-1a */
    for (const char *c = shape; *c != '\0'; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return hash != 0 ? hash : 1;
}

bool task_id_valid(const char *text) {
    static const char digits[] = TASK_ID_DIGITS;
    return strlen(text) == TASK_ID_BYTES - 1 && strspn(text, digits) == TASK_ID_BYTES - 1;
}

void task_id_format(int64_t unix_ms, const uint8_t random[10], char out[TASK_ID_BYTES]) {
    static const char digits[] = TASK_ID_DIGITS;
    uint64_t ms = (uint64_t)unix_ms;
    for (int i = 9; i >= 0; i--, ms >>= 5) out[i] = digits[ms & 31];
    /* Two groups of five bytes make two times eight digits. */
    for (int group = 0; group < 2; group++) {
        uint64_t bits = 0;
        for (int i = 0; i < 5; i++) bits = bits << 8 | random[group * 5 + i];
        for (int i = 7; i >= 0; i--, bits >>= 5) out[10 + group * 8 + i] = digits[bits & 31];
    }
    out[TASK_ID_BYTES - 1] = '\0';
}

static bool keep_text(task *t, const char **text) {
    if (*text == NULL) return true;
    *text = arena_text(&t->memory, *text, strlen(*text));
    return *text != NULL;
}

bool task_keep_texts(task *t) {
    task_request *r = &t->request;
    return keep_text(t, &r->model) && keep_text(t, &r->prompt) && keep_text(t, &r->negative_prompt) && keep_text(t, &r->precision) &&
           keep_text(t, &r->owner) && keep_text(t, &r->idempotency_key) && keep_text(t, &r->image) && keep_text(t, &r->mask) &&
           keep_text(t, &r->webhook) && keep_text(t, &r->adapter) && keep_text(t, &r->adapter_data);
}

bool task_copy(const task *from, task *to, error *e) {
    *to = *from;
    to->memory = (arena){0};
    to->next = NULL;
    to->place = (task_place){.head = SIZE_MAX, .deadline = SIZE_MAX};
    if (from->plan != NULL) to->plan = arena_alloc(&to->memory, sizeof *to->plan);
    if (to->plan != NULL) *to->plan = *from->plan;
    if ((from->plan == NULL || to->plan != NULL) && task_keep_texts(to)) return true;
    arena_free(&to->memory);
    *to = (task){0};
    return error_no_memory(e, "a task's copy", sizeof *to + strlen(from->request.prompt));
}
