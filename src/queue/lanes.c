#include "queue/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool lanes_new(size_t spare_heads, lanes *out, error *e) {
    *out = (lanes){.spare_heads = spare_heads, .lingering_first = UINT32_MAX};
    if (names_new(&out->keys, e) && names_new(&out->models, e)) return true;
    lanes_free(out);
    return false;
}

void lanes_free(lanes *l) {
    for (uint32_t key = 0; key < l->key_room; key++)
        for (lane *one = l->key_lanes[key].first, *next; one != NULL; one = next) {
            next = one->next;
            free(one);
        }
    names_free(l->keys);
    names_free(l->models);
    free(l->key_figures);
    free(l->key_lanes);
    free(l->loaded);
    free(l->heads);
    free(l->tasks);
    *l = (lanes){0};
}

/* --- making room --- */

/* The table's new place, zeroed behind `had`; or NULL, and the old one stays. */
static void *grown(void *table, size_t had, size_t room, size_t size) {
    char *larger = realloc(table, room * size);
    if (larger != NULL) memset(larger + had * size, 0, (room - had) * size);
    return larger;
}

static bool reserve_keys(lanes *l, uint32_t number, error *e) {
    if (number < l->key_room) return true;
    uint32_t room = l->key_room > 0 ? l->key_room * 2 : 16;
    policy_key *figures = grown(l->key_figures, l->key_room, room, sizeof *figures);
    if (figures != NULL) l->key_figures = figures;
    lane_key *key_lanes = figures != NULL ? grown(l->key_lanes, l->key_room, room, sizeof *key_lanes) : NULL;
    if (key_lanes == NULL) return error_no_memory(e, "the table of API keys", room * (sizeof *figures + sizeof *key_lanes));
    l->key_lanes = key_lanes;
    l->key_room = room;
    return true;
}

static bool reserve_models(lanes *l, uint32_t number, error *e) {
    if (number < l->model_room) return true;
    uint32_t room = l->model_room > 0 ? l->model_room * 2 : 16;
    bool *loaded = grown(l->loaded, l->model_room, room, sizeof *loaded);
    if (loaded == NULL) return error_no_memory(e, "the table of models", room);
    l->loaded = loaded;
    l->model_room = room;
    return true;
}

/* So that a task may wait again, or be suspended, without memory being asked for. */
static bool reserve_heads(lanes *l, error *e) {
    size_t needed = l->lane_count + 1 + l->spare_heads, room = l->head_room > 0 ? l->head_room : 64;
    if (needed <= l->head_room) return true;
    while (room < needed) room *= 2;
    policy_head *heads = realloc(l->heads, room * sizeof *heads);
    if (heads != NULL) l->heads = heads;
    task **tasks = heads != NULL ? realloc(l->tasks, room * sizeof *tasks) : NULL;
    if (tasks == NULL) return error_no_memory(e, "the queue's heads", room * (sizeof *heads + sizeof *tasks));
    l->tasks = tasks;
    l->head_room = room;
    return true;
}

/* --- keys --- */

/* A key whose last task has left is kept until the virtual clock has passed what it received: or a client that asks for one picture after
 * the other would always be as good as new. */
static void let_linger(lanes *l, uint32_t key, uint32_t *hold) {
    lane_key *k = &l->key_lanes[key];
    if (k->lingers || l->key_figures[key].service <= l->virtual_time) return;
    *k = (lane_key){.lingers = true, .next = UINT32_MAX};
    if (l->lingering_first == UINT32_MAX) l->lingering_first = key;
    else l->key_lanes[l->lingering_last].next = key;
    l->lingering_last = key;
    l->lingering++;
    *hold = UINT32_MAX; /* the lane's hold is the key's now */
}

static void forget_lingering(lanes *l) {
    while (l->lingering_first != UINT32_MAX) {
        uint32_t key = l->lingering_first;
        if (l->key_figures[key].service > l->virtual_time && l->lingering <= LANES_LINGERING) return;
        l->lingering_first = l->key_lanes[key].next;
        l->key_lanes[key].lingers = false;
        l->lingering--;
        names_release(l->keys, key);
    }
}

static bool is_loaded(const lanes *l, const char *model) {
    for (size_t i = 0; i < l->loaded_count; i++)
        if (strcmp(l->loaded_names[i], model) == 0) return true;
    return false;
}

bool lanes_set_loaded(lanes *l, const char *const *loaded, size_t count) {
    if (count > LANES_LOADED) count = LANES_LOADED;
    bool same = count == l->loaded_count;
    for (size_t i = 0; same && i < count; i++) same = strcmp(l->loaded_names[i], loaded[i]) == 0;
    if (same) return false;
    l->loaded_count = count;
    for (size_t i = 0; i < l->loaded_count; i++) snprintf(l->loaded_names[i], LANES_MODEL_BYTES, "%s", loaded[i]);
    for (uint32_t model = 0; model < names_limit(l->models); model++) {
        const char *name = names_text(l->models, model);
        if (name != NULL) l->loaded[model] = is_loaded(l, name);
    }
    return true;
}

/* --- lanes --- */

static lane *find_lane(const lanes *l, uint8_t priority, uint32_t key, uint32_t model, uint64_t batch) {
    for (lane *one = l->key_lanes[key].first; one != NULL; one = one->next)
        if (one->priority == priority && one->model == model && one->batch == batch) return one;
    return NULL;
}

/* The lane, made if there is none: it owns a hold on its key and its model. */
static lane *need_lane(lanes *l, const task *t, task_priority priority, error *e) {
    const char *owner = t->request.owner != NULL ? t->request.owner : "";
    uint32_t key, model;
    bool fresh_key, fresh_model;
    forget_lingering(l);
    if (!names_hold(l->keys, owner, &key, &fresh_key, e)) return NULL;
    if (!names_hold(l->models, t->request.model, &model, &fresh_model, e)) {
        names_release(l->keys, key);
        return NULL;
    }
    lane *one = NULL;
    bool room = reserve_keys(l, key, e) && reserve_models(l, model, e);
    if (room && fresh_key) {
        l->key_figures[key] = (policy_key){.service = l->virtual_time};
        l->key_lanes[key] = (lane_key){.first = NULL};
    }
    if (room && fresh_model) l->loaded[model] = is_loaded(l, t->request.model);
    if (room) one = find_lane(l, (uint8_t)priority, key, model, t->place.batch);
    if (one == NULL && room && reserve_heads(l, e)) {
        lane *made = calloc(1, sizeof *made);
        if (made != NULL) {
            *made = (lane){.key = key,
                           .model = model,
                           .batch = t->place.batch,
                           .priority = (uint8_t)priority,
                           .head = SIZE_MAX,
                           .next = l->key_lanes[key].first};
            l->key_lanes[key].first = made;
            l->lane_count++;
            return made;
        }
        error_no_memory(e, "a lane of the queue", sizeof *made);
    }
    names_release(l->models, model);
    names_release(l->keys, key);
    return one;
}

static void drop_lane_if_unused(lanes *l, lane *one) {
    if (one->tasks > 0) return;
    lane **link = &l->key_lanes[one->key].first;
    while (*link != one) link = &(*link)->next;
    *link = one->next;
    uint32_t hold = one->key;
    if (l->key_lanes[one->key].first == NULL) let_linger(l, one->key, &hold);
    if (hold != UINT32_MAX) names_release(l->keys, hold);
    names_release(l->models, one->model);
    l->lane_count--;
    free(one);
}

bool lanes_enter(lanes *l, task *t, error *e) {
    t->place.head = SIZE_MAX;
    t->place.lane = need_lane(l, t, t->priority, e);
    if (t->place.lane == NULL) return false;
    t->place.lane->tasks++;
    return true;
}

void lanes_leave(lanes *l, task *t) {
    lane *one = t->place.lane;
    t->place.lane = NULL;
    if (one == NULL) return;
    one->tasks--;
    drop_lane_if_unused(l, one);
}

/* --- heads --- */

/* A task while which an engine died runs alone. */
uint64_t lanes_batch(const task *t) { return t->charges > 0 ? 0 : t->place.batch; }

policy_held lanes_held(const task *t) {
    return (policy_held){
        .started = t->started,
        .batch = lanes_batch(t),
        .priority = (uint8_t)t->priority,
        .suspended = t->suspended,
        .fixed = t->closing || t->place.through || t->cancel_requested,
        .cancel_owed = t->place.cancel_owed && !t->place.through && !t->closing,
    };
}

static void put_head(lanes *l, size_t index, const lane *one, task *t) {
    l->heads[index] = (policy_head){
        .sequence = t->sequence,
        .submitted_ms = t->created_ms,
        .passed_ms = t->place.passed_ms,
        .batch = lanes_batch(t),
        .peak_bytes = t->place.peak_bytes,
        .key = one->key,
        .model = one->model,
        .length = t->suspended ? 1 : one->waiting,
        .priority = (uint8_t)t->priority,
        .suspended = t->suspended,
    };
    l->tasks[index] = t;
    t->place.head = index;
}

/* Where the index of a head is kept besides in its task: with its lane, unless it is suspended. */
static void told_index(task *t, size_t index) {
    t->place.head = index;
    if (!t->suspended) t->place.lane->head = index;
}

static void remove_head(lanes *l, size_t index) {
    told_index(l->tasks[index], SIZE_MAX);
    size_t last = --l->head_count;
    if (index == last) return;
    l->heads[index] = l->heads[last];
    l->tasks[index] = l->tasks[last];
    told_index(l->tasks[index], index);
}

/* After a lane's first task or its length has changed. */
static void renew_head(lanes *l, lane *one) {
    if (one->first == NULL) {
        if (one->head != SIZE_MAX) remove_head(l, one->head);
        return;
    }
    if (one->head == SIZE_MAX) one->head = l->head_count++;
    else if (l->tasks[one->head] != one->first) l->tasks[one->head]->place.head = SIZE_MAX;
    put_head(l, one->head, one, one->first);
}

/* From the end that is nearer by its number: new tasks have the largest, those that come back the smallest. */
static task *find_predecessor(const lane *one, uint64_t sequence) {
    if (one->last == NULL || one->last->sequence < sequence) return one->last;
    if (sequence < one->first->sequence) return NULL;
    task *t;
    if (sequence - one->first->sequence < one->last->sequence - sequence) {
        for (t = one->first; t->place.behind != NULL && t->place.behind->sequence < sequence;) t = t->place.behind;
    } else {
        for (t = one->last; t->sequence > sequence;) t = t->place.before;
    }
    return t;
}

void lanes_wait(lanes *l, task *t) {
    lane *one = t->place.lane;
    if (t->suspended) {
        put_head(l, l->head_count++, one, t);
        return;
    }
    task *before = find_predecessor(one, t->sequence), *behind = before != NULL ? before->place.behind : one->first;
    t->place.before = before;
    t->place.behind = behind;
    *(before != NULL ? &before->place.behind : &one->first) = t;
    *(behind != NULL ? &behind->place.before : &one->last) = t;
    one->waiting++;
    renew_head(l, one);
}

void lanes_stop_waiting(lanes *l, task *t) {
    lane *one = t->place.lane;
    if (t->suspended) {
        remove_head(l, t->place.head);
        return;
    }
    task *before = t->place.before, *behind = t->place.behind;
    one->waiting--;
    if (behind == NULL && before == NULL) {
        remove_head(l, one->head); /* while the task is still known by it */
        one->first = one->last = NULL;
        return;
    }
    *(before != NULL ? &before->place.behind : &one->first) = behind;
    *(behind != NULL ? &behind->place.before : &one->last) = before;
    t->place.before = t->place.behind = NULL;
    renew_head(l, one);
}

bool lanes_set_priority(lanes *l, task *t, task_priority p, bool waits, error *e) {
    lane *to = need_lane(l, t, p, e), *from = t->place.lane;
    if (to == NULL) return false;
    if (waits) lanes_stop_waiting(l, t);
    to->tasks++;
    t->place.lane = to;
    t->priority = p;
    from->tasks--;
    drop_lane_if_unused(l, from);
    if (waits) lanes_wait(l, t);
    return true;
}

void lanes_set_passed(lanes *l, size_t head, int64_t now_ms) {
    if (l->heads[head].passed_ms != 0) return;
    l->heads[head].passed_ms = l->tasks[head]->place.passed_ms = now_ms;
}

/* --- service --- */

void lanes_start(lanes *l, task *t, uint64_t turn, bool goes_on) {
    policy_key *k = &l->key_figures[t->place.lane->key];
    k->slots++;
    if (goes_on) return;
    if (t->priority != PRIORITY_URGENT) k->turn = turn;
    /* Start-time fair queueing: the start tag is the later of the key's last finish tag and the time on the virtual clock, which it then
     * shows. */
    if (k->service > l->virtual_time) l->virtual_time = k->service;
    else k->service = l->virtual_time;
    k->service += t->place.cost;
}

void lanes_stop(lanes *l, const task *t) { l->key_figures[t->place.lane->key].slots--; }

void lanes_refund(lanes *l, const task *t, double unused) { l->key_figures[t->place.lane->key].service -= t->place.cost * unused; }
