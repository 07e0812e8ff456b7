#include "server/engine_profiles.h"

#include <stdlib.h>
#include <string.h>

struct engine_profiles {
    engine_profile list[ENGINE_PROFILES_MAX]; /* the one measured last is the last */
    size_t count;
    size_t told; /* of the list, to the engine of now */
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

void engine_profiles_add(engine_profiles *p, const engine_profile *measured) {
    size_t i = 0;
    while (i < p->count && !same_key(&p->list[i], measured)) i++;
    if (i < p->count) drop(p, i);
    else if (p->count == ENGINE_PROFILES_MAX) drop(p, 0);
    p->list[p->count] = *measured;
    /* The engine of now has measured it; unless others wait to be told before it. */
    if (p->told == p->count) p->told++;
    p->count++;
}

void engine_profiles_begin_telling(engine_profiles *p) { p->told = 0; }

bool engine_profiles_tell(engine_profiles *p, engine_client *c) {
    while (p->told < p->count && engine_client_tell_profile(c, &p->list[p->told], NULL)) p->told++;
    return p->told < p->count;
}

size_t engine_profiles_count(const engine_profiles *p) { return p->count; }
const engine_profile *engine_profiles_at(const engine_profiles *p, size_t index) { return &p->list[index]; }
