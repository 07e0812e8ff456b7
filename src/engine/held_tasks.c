#include "engine/held_tasks.h"

#include <stdio.h>
#include <string.h>

bool held_tasks_add(held_tasks *h, const char *id, generation *work, const engine_request *request, held_task **out, error *e) {
    if (h->count == HELD_TASKS_MAX) return error_set(e, ERROR_BUSY, "the engine holds %d tasks already", HELD_TASKS_MAX);
    held_task *t = &h->tasks[h->count++];
    *t = (held_task){.claim = {.priority = request->priority, .since = h->slice - (h->slice > 0)}, .work = work, .alone = request->alone};
    snprintf(t->id, sizeof t->id, "%s", id);
    *out = t;
    return true;
}

held_task *held_tasks_find(held_tasks *h, const char *id) {
    for (int i = 0; i < h->count; i++)
        if (strcmp(h->tasks[i].id, id) == 0) return &h->tasks[i];
    return NULL;
}

void held_tasks_drop(held_tasks *h, held_task *t) {
    generation_free(t->work);
    h->count--;
    memmove(t, t + 1, (size_t)(&h->tasks[h->count] - t) * sizeof *t);
}

size_t held_tasks_bytes(const held_tasks *h) {
    size_t bytes = 0;
    for (int i = 0; i < h->count; i++) bytes += generation_bytes(h->tasks[i].work);
    return bytes;
}

bool held_tasks_runnable(const held_tasks *h) {
    for (int i = 0; i < h->count; i++)
        if (!h->tasks[i].claim.suspended) return true;
    return false;
}

/* Who could take part in the lead's denoising step, the lead first, the others by how long they waited. */
static int candidates(held_tasks *h, held_task *lead, held_task **out) {
    int count = 0;
    out[count++] = lead;
    for (int i = 0; i < h->count && !lead->alone; i++) {
        held_task *t = &h->tasks[i];
        if (t == lead || t->alone || !slice_may_join(&lead->claim, &t->claim) || !generation_can_share(lead->work, t->work)) continue;
        int at = count++;
        for (; at > 1 && out[at - 1]->claim.since > t->claim.since; at--) out[at] = out[at - 1];
        out[at] = t;
    }
    return count;
}

/* Deals the places in the batch out in rounds, one image a task, so that no task's many images keep the others' single ones out. */
static void deal(slice_party *p, held_task *const *tasks, int count, int places) {
    while (places > 0) {
        int before = places;
        for (int i = 0; i < count && places > 0; i++) {
            if (i == p->count && p->count < ENGINE_MAX_SLICE_TASKS) {
                p->members[p->count] = tasks[i];
                p->shares[p->count++] = (generation_share){.task = tasks[i]->work};
            }
            if (i >= p->count || p->shares[i].images == generation_images_to_step(tasks[i]->work)) continue;
            p->shares[i].images++;
            p->images++;
            places--;
        }
        if (places == before) return;
    }
}

slice_party held_tasks_next(held_tasks *h) {
    slice_party p = {.slice = ++h->slice};
    int next = slice_next(&h->tasks[0].claim, sizeof h->tasks[0], h->count, h->slice);
    if (next < 0) return p;
    held_task *lead = &h->tasks[next], *tasks[HELD_TASKS_MAX];
    if (generation_get_state(lead->work).phase != PHASE_DENOISE) {
        p.members[p.count++] = lead;
    } else {
        int count = candidates(h, lead, tasks), images = 0;
        for (int i = 0; i < count; i++) images += generation_images_to_step(tasks[i]->work);
        batch_key key = generation_batch_key(lead->work);
        deal(&p, tasks, count, lead->alone ? 1 : batcher_choose(&h->batcher, &key, images));
    }
    for (int i = 0; i < p.count; i++) p.members[i]->claim.since = p.slice;
    return p;
}

void held_tasks_stepped(held_tasks *h, const slice_party *p, double seconds) {
    batch_key key = generation_batch_key(p->shares[0].task);
    batcher_note(&h->batcher, &key, p->images, seconds);
    h->steps++;
    h->shared_steps += p->images > 1;
    h->shared_images += p->images > 1 ? (uint64_t)p->images : 0;
}

bool held_tasks_try_otherwise(held_tasks *h, const slice_party *p, const error *fault) {
    if (p->images == 1) return fault->code == ERROR_OUT_OF_MEMORY && generation_go_lower(p->shares[0].task);
    batch_key key = generation_batch_key(p->shares[0].task);
    if (fault->code == ERROR_OUT_OF_MEMORY) batcher_no_memory(&h->batcher, &key, p->images);
    else /* whoever is to blame shows when each runs by itself */
        for (int i = 0; i < p->count; i++) p->members[i]->alone = true;
    return true;
}
