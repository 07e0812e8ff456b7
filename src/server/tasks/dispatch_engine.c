/* What the engine says, put into the tasks, the queue's knowledge and the front's view of it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/pictures/previews.h"
#include "server/tasks/dispatch_internal.h"
#include "server/tasks/task_parameters.h"

static void on_ready(void *context, const engine_message *m) {
    dispatch *d = context;
    snprintf(d->device, sizeof d->device, "%s: %s", m->hello.device_kind, m->hello.device_name);
    d->trouble[0] = '\0';
    d->orphan_count = 0;
    engine_view_ready(d->view, m);
    engine_care_engine_ready(d->care);
    engine_profiles_begin_telling(d->options.profiles);
    log_line(LOG_INFO, "the engine (process %ld) is ready on %s, threads: %d", (long)engine_client_pid(d->engine), d->device,
             m->hello.threads);
}

static void on_progress(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = dispatch_slot_of(d, m->id);
    if (s == NULL) return;
    task *t = s->task;
    if (m->progress.phase != PHASE_LOAD) queue_manager_run(d->options.queue, t);
    snprintf(t->phase, sizeof t->phase, "%s", engine_phase_name(m->progress.phase));
    t->step = m->progress.step;
    t->steps = m->progress.steps;
    t->image = s->first + m->progress.image;
    t->bytes_done = m->progress.bytes_done;
    t->bytes_total = m->progress.bytes_total;
    dispatch_tell(d, t, CHANGE_PROGRESS);
}

static void on_plan(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = dispatch_slot_of(d, m->id);
    if (s == NULL) return;
    if (s->task->plan == NULL) s->task->plan = arena_alloc(&s->task->memory, sizeof *s->task->plan);
    task_plan *plan = s->task->plan;
    if (plan == NULL) return;
    plan->count = m->plan.step_count < TASK_PLAN_STEPS ? m->plan.step_count : TASK_PLAN_STEPS;
    for (int i = 0; i < plan->count; i++) snprintf(plan->steps[i], sizeof plan->steps[i], "%s", m->plan.steps[i]);
    dispatch_tell(d, s->task, CHANGE_PLAN);
}

static void tell_loaded_models(dispatch *d) {
    const engine_snapshot *told = engine_view_snapshot(d->view);
    const char *names[ENGINE_MODEL_ROWS];
    size_t count = 0;
    for (int i = 0; i < told->model_count; i++)
        if (told->models[i].state != MODEL_LOADING) names[count++] = told->models[i].name;
    queue_manager_set_loaded(d->options.queue, names, count);
}

static void on_snapshot(void *context, const engine_snapshot *s) {
    dispatch *d = context;
    engine_view_snapshot_came(d->view, s);
    tell_loaded_models(d);
}

static void shape_of_profile(const engine_profile *p, char shape[TASK_SHAPE_BYTES]) {
    const task_request r = {.model = p->model,
                            .precision = p->precision,
                            .width = p->width,
                            .height = p->height,
                            .negative_prompt = p->guidance_pair ? "" : NULL,
                            .true_cfg_scale = p->guidance_pair ? 2 : 1};
    task_shape(&r, p->batch, shape);
}

/* What it says of memory is for the next admission; seconds are learnt from the tasks themselves. */
static void on_profile(void *context, const engine_profile *p) {
    dispatch *d = context;
    char shape[TASK_SHAPE_BYTES];
    shape_of_profile(p, shape);
    profile_table_learn(queue_manager_profiles(d->options.queue), shape, &(profile){.peak_bytes = p->peak_bytes});
    engine_profiles_add(d->options.profiles, p);
}

void dispatch_teach_known_profiles(dispatch *d) {
    for (size_t i = 0; i < engine_profiles_count(d->options.profiles); i++) {
        const engine_profile *p = engine_profiles_at(d->options.profiles, i);
        const profile known = {p->step_seconds, p->load_seconds, p->encode_seconds, p->decode_seconds, p->peak_bytes};
        char shape[TASK_SHAPE_BYTES];
        shape_of_profile(p, shape);
        profile_table_restore(queue_manager_profiles(d->options.queue), shape, &known);
    }
}

static void on_answer(void *context, const char *command, const engine_answer *a) {
    engine_view_answer_came(((dispatch *)context)->view, command, a);
}

static char *parameters_text(const task *t, int index) {
    buffer text = {0};
    task_parameters_write(t, index, &text);
    if (buffer_ok(&text) && text.data != NULL) return text.data;
    buffer_free(&text);
    return NULL;
}

static void on_image(void *context, const engine_message *m, int memfd) {
    dispatch *d = context;
    slot *s = dispatch_slot_of(d, m->id);
    int index = s != NULL ? s->first + m->image.index : -1;
    bool known = s != NULL && m->image.index >= 0 && index < s->task->request.count;
    if (!known || s->task->images[index].stored) {
        if (known) s->received[index] = true;
        close(memfd);
        return;
    }
    error fault = {0};
    if (m->image.width != s->task->request.width || m->image.height != s->task->request.height ||
        m->image.seed != s->task->images[index].seed) {
        close(memfd);
        error_set(&fault, ERROR_INTERNAL, "the engine sent another image than was asked for");
        dispatch_fail(d, s, &fault);
        return;
    }
    encoder_job job = {.index = index,
                       .run = s->run,
                       .memfd = memfd,
                       .width = m->image.width,
                       .height = m->image.height,
                       .parameters = parameters_text(s->task, index)};
    memcpy(job.task, s->task->id, sizeof job.task);
    if (d->options.picture_texts != NULL) d->options.picture_texts(s->task, &job);
    s->received[index] = true;
    if (!encoder_submit(d->encoder, &job, &fault)) dispatch_fail(d, s, &fault);
}

/* Without memory, or for a task that is no longer here, it is left out. */
static void on_preview(void *context, const engine_message *m, int memfd) {
    dispatch *d = context;
    slot *s = dispatch_slot_of(d, m->id);
    preview newest = {.step = m->preview.step, .width = m->preview.width, .height = m->preview.height};
    size_t bytes = (size_t)newest.width * (size_t)newest.height * 3;
    bool meant = s != NULL && s->first + m->preview.index < s->task->request.count && newest.step <= s->task->request.steps;
    uint8_t *rgb = meant ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, memfd, 0) : MAP_FAILED;
    close(memfd);
    if (rgb == MAP_FAILED) return;
    memcpy(newest.task, s->task->id, sizeof newest.task);
    newest.image = s->first + m->preview.index;
    newest.rgb = rgb;
    bool kept = previews_put(d->options.previews, &newest, NULL);
    munmap(rgb, bytes);
    if (kept) dispatch_tell(d, s->task, CHANGE_PREVIEW);
}

/* What the task took, as if it had had the engine to itself: a step that images of others shared counts by its images. */
static void learn(dispatch *d, const task *t, const engine_metrics *m) {
    char shape[TASK_SHAPE_BYTES];
    if (m->steps_run <= 0) return;
    int steps = task_steps_run(&t->request), images = m->steps_run / steps > 0 ? m->steps_run / steps : 1;
    double batch = m->mean_batch > 1 ? m->mean_batch : 1, own = batch < images ? batch : images;
    const profile measured = {.load_seconds = m->load_seconds,
                              .encode_seconds = t->request.image == NULL ? m->encode_seconds : 0, /* a picture's would be among them */
                              .step_seconds = m->denoise_seconds * own / (m->steps_run * batch),
                              .decode_seconds = m->decode_seconds / images};
    task_shape(&t->request, 1, shape);
    profile_table_learn(queue_manager_profiles(d->options.queue), shape, &measured);
}

static void on_done(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = dispatch_slot_of(d, m->id);
    if (s == NULL) return;
    task *t = s->task;
    t->metrics.load_seconds = m->metrics.load_seconds;
    t->metrics.encode_seconds = m->metrics.encode_seconds;
    t->metrics.denoise_seconds = m->metrics.denoise_seconds;
    t->metrics.decode_seconds = m->metrics.decode_seconds;
    t->metrics.memory_before = m->metrics.memory_before;
    t->metrics.memory_after = m->metrics.memory_after;
    t->metrics.memory_peak = m->metrics.memory_peak;
    t->metrics.device_peak = m->metrics.device_peak;
    t->metrics.largest_batch = (uint64_t)m->metrics.largest_batch;
    t->metrics.mean_batch = m->metrics.mean_batch;
    t->metrics.encode_cached = m->metrics.encode_cached;
    s->done = true;
    queue_manager_through(d->options.queue, t);
    learn(d, t, &m->metrics);
    for (int i = s->first; i < t->request.count; i++) {
        if (s->received[i]) continue;
        error fault = {0};
        error_set(&fault, ERROR_INTERNAL, "the engine ended the task without its image %d", i);
        dispatch_fail(d, s, &fault);
        return;
    }
    dispatch_complete_if_stored(d, s);
}

static void on_failed(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = dispatch_slot_of(d, m->id);
    if (s == NULL) return;
    task *t = s->task;
    s->done = true;
    if (m->fault.code == ERROR_CANCELLED && t->cancel_requested) {
        *s = (slot){0};
        queue_manager_close(d->options.queue, t, TASK_CANCELLED, NULL, clock_unix_ms());
    } else {
        dispatch_fail(d, s, &m->fault);
    }
}

/* Once for each death, with whatever helps to find the cause. */
static void log_death(const engine_death *death) {
    const char *whom = death->owed[0] != '\0' ? death->owed : death->running;
    const char *doing = whom[0] == '\0' ? "" : whom == death->owed ? "; it was to work on task " : "; it was running task ";
    if (!death->hung) {
        log_line(LOG_WARNING, "the engine died: %s%s%s", death->reason, doing, whom);
        return;
    }
    log_line(LOG_ERROR,
             "the engine (number %" PRIu64
             ", process %ld) died: %s%s%s. Where such work does take so long, raise IMAGINED_ENGINE_TIMEOUT_SECONDS "
             "(0: never); else the kernel's log may tell of the device's driver or of a disk",
             death->engine, (long)death->pid, death->reason, doing, whom);
}

static void on_died(void *context, const engine_death *death) {
    dispatch *d = context;
    d->deaths++;
    d->device[0] = '\0';
    snprintf(d->trouble, sizeof d->trouble, "%s", death->reason);
    engine_view_gone(d->view, death->reason);
    if (engine_client_stuck(d->engine)) engine_view_refuse(d->view, death->reason);
    tell_loaded_models(d);
    log_death(death);
    for (int i = 0; i < d->options.max_held; i++) {
        slot *s = &d->slots[i];
        if (s->task == NULL || s->done) continue; /* one that is done only waits for the disk */
        task *t = s->task;
        bool charged = engine_death_charges(death, t->id);
        *s = (slot){0};
        queue_manager_put_back(d->options.queue, t, charged, death->reason, clock_unix_ms());
        if (t->closing) continue;
        log_line(LOG_INFO, "task %s waits again in its old place%s", t->id, charged ? ", charged with the engine's death" : "");
        dispatch_tell(d, t, CHANGE_QUEUED);
    }
}

engine_events dispatch_engine_events(dispatch *d) {
    return (engine_events){d,       on_ready,    on_progress, on_image,   on_done,   on_failed,
                           on_died, on_snapshot, on_plan,     on_profile, on_answer, on_preview};
}
