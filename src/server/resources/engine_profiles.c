#include "server/resources/engine_profiles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct engine_profiles {
    engine_profile list[ENGINE_PROFILES_MAX]; /* the one measured last is the last */
    size_t count;
    size_t told; /* of the list, to the engine of now */
    void (*keep)(void *context, const stored_profile *measured);
    void *context;
};

bool engine_profiles_new(engine_profiles **out, error *e) {
    engine_profiles *p = calloc(1, sizeof *p);
    if (p == NULL) return error_no_memory(e, "what tasks took", sizeof *p);
    *out = p;
    return true;
}

void engine_profiles_free(engine_profiles *p) { free(p); }

static bool same_key(const engine_profile *a, const engine_profile *b) {
    return strcmp(a->model, b->model) == 0 && strcmp(a->precision, b->precision) == 0 && a->width == b->width && a->height == b->height &&
           a->text_tokens == b->text_tokens && a->guidance_pair == b->guidance_pair && a->batch == b->batch;
}

static void drop(engine_profiles *p, size_t i) {
    p->count--;
    memmove(&p->list[i], &p->list[i + 1], (p->count - i) * sizeof *p->list);
    if (p->told > i) p->told--;
}

static size_t index_of(const engine_profiles *p, const engine_profile *key) {
    size_t i = 0;
    while (i < p->count && !same_key(&p->list[i], key)) i++;
    return i;
}

static void fill_unknown(engine_profile *to, const engine_profile *known) {
    if (to->peak_bytes == 0) to->peak_bytes = known->peak_bytes;
    if (to->reserve_bytes == 0) to->reserve_bytes = known->reserve_bytes;
    if (to->step_seconds == 0) to->step_seconds = known->step_seconds;
    if (to->load_seconds == 0) to->load_seconds = known->load_seconds;
    if (to->encode_seconds == 0) to->encode_seconds = known->encode_seconds;
    if (to->decode_seconds == 0) to->decode_seconds = known->decode_seconds;
}

static void put(engine_profiles *p, const engine_profile *measured) {
    size_t i = index_of(p, measured);
    if (i < p->count) drop(p, i);
    else if (p->count == ENGINE_PROFILES_MAX) drop(p, 0);
    p->list[p->count] = *measured;
    /* The engine of now has measured it; unless others wait to be told before it. */
    if (p->told == p->count) p->told++;
    p->count++;
}

/* --- on disk --- */

static const char plain_shape[] = "%dx%d, %d tokens", pair_shape[] = "%dx%d, %d tokens, guidance pair";

static void store(const engine_profile *from, stored_profile *to) {
    *to = (stored_profile){.batch = from->batch,
                           .peak_bytes = from->peak_bytes,
                           .reserve_bytes = from->reserve_bytes,
                           .step_seconds = from->step_seconds,
                           .load_seconds = from->load_seconds,
                           .encode_seconds = from->encode_seconds,
                           .decode_seconds = from->decode_seconds,
                           .measured_ms = clock_unix_ms()};
    snprintf(to->model, sizeof to->model, "%s", from->model);
    snprintf(to->precision, sizeof to->precision, "%s", from->precision);
    snprintf(to->shape, sizeof to->shape, from->guidance_pair ? pair_shape : plain_shape, from->width, from->height, from->text_tokens);
}

static bool is_duration(double seconds) { return seconds >= 0 && seconds < 1e9; }

/* The reverse of store; the text of the shape must be the very one that store would write. */
static bool load(const stored_profile *from, engine_profile *to) {
    char shape[sizeof from->shape];
    *to = (engine_profile){.batch = from->batch,
                           .peak_bytes = from->peak_bytes,
                           .reserve_bytes = from->reserve_bytes,
                           .step_seconds = from->step_seconds,
                           .load_seconds = from->load_seconds,
                           .encode_seconds = from->encode_seconds,
                           .decode_seconds = from->decode_seconds};
    if (strlen(from->model) >= sizeof to->model || strlen(from->precision) >= sizeof to->precision) return false;
    strcpy(to->model, from->model);
    strcpy(to->precision, from->precision);
    if (sscanf(from->shape, plain_shape, &to->width, &to->height, &to->text_tokens) != 3) return false;
    to->guidance_pair = strstr(from->shape, "guidance pair") != NULL;
    snprintf(shape, sizeof shape, to->guidance_pair ? pair_shape : plain_shape, to->width, to->height, to->text_tokens);
    return strcmp(shape, from->shape) == 0 && to->width >= 1 && to->width <= MODEL_MAX_SIDE && to->height >= 1 &&
           to->height <= MODEL_MAX_SIDE && to->text_tokens >= 1 && to->batch >= 1 && is_duration(to->step_seconds) &&
           is_duration(to->load_seconds) && is_duration(to->encode_seconds) && is_duration(to->decode_seconds);
}

void engine_profiles_add(engine_profiles *p, const engine_profile *measured) {
    stored_profile kept;
    engine_profile whole = *measured;
    size_t i = index_of(p, measured);
    if (i < p->count) fill_unknown(&whole, &p->list[i]);
    put(p, &whole);
    if (p->keep == NULL) return;
    store(&whole, &kept);
    p->keep(p->context, &kept);
}

void engine_profiles_listen(engine_profiles *p, void (*keep)(void *context, const stored_profile *measured), void *context) {
    p->keep = keep;
    p->context = context;
}

bool engine_profiles_restore(engine_profiles *p, const stored_profile *kept, engine_profile *out) {
    engine_profile measured;
    if (!load(kept, &measured)) return false;
    put(p, &measured);
    if (out != NULL) *out = measured;
    return true;
}

void engine_profiles_begin_telling(engine_profiles *p) { p->told = 0; }

bool engine_profiles_tell(engine_profiles *p, engine_client *c) {
    while (p->told < p->count && engine_client_tell_profile(c, &p->list[p->told], NULL)) p->told++;
    return p->told < p->count;
}

size_t engine_profiles_count(const engine_profiles *p) { return p->count; }
const engine_profile *engine_profiles_at(const engine_profiles *p, size_t index) { return &p->list[index]; }
