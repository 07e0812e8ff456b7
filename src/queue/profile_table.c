#include "queue/profile_table.h"

#include <stdlib.h>
#include <string.h>

#include "queue/names.h"

static const double weight = 0.3; /* of the newest measurement: three of them make up two thirds of a mean */

typedef struct entry {
    char *shape;
    profile figures;
    uint64_t learnt; /* when, counted in measurements */
} entry;

/* Per pixel: what carries over to other shapes. */
typedef struct rate {
    double step, encode, decode, load; /* encode and load: of the whole */
} rate;

/* The names are of shapes, their numbers are indices into `numbers`, which tell the entry; the rates are by the models' numbers. */
struct profile_table {
    entry *entries;
    size_t count, room;
    names *shapes, *models;
    size_t *index_of; /* by shape's number */
    rate *rates;      /* by model's number */
    size_t index_room, rate_room;
    rate any;
    uint64_t measurements;
};

bool profile_table_new(profile_table **out, error *e) {
    profile_table *p = calloc(1, sizeof *p);
    if (p == NULL) return error_no_memory(e, "the table of measured figures", sizeof *p);
    if (!names_new(&p->shapes, e) || !names_new(&p->models, e)) {
        profile_table_free(p);
        return false;
    }
    *out = p;
    return true;
}

void profile_table_free(profile_table *p) {
    if (p == NULL) return;
    for (size_t i = 0; i < p->count; i++) free(p->entries[i].shape);
    free(p->entries);
    names_free(p->shapes);
    names_free(p->models);
    free(p->index_of);
    free(p->rates);
    free(p);
}

static bool reserve(void **table, size_t *room, size_t index, size_t size) {
    if (index < *room) return true;
    size_t larger = *room > 0 ? *room * 2 : 16;
    while (larger <= index) larger *= 2;
    char *grown = realloc(*table, larger * size);
    if (grown == NULL) return false;
    memset(grown + *room * size, 0, (larger - *room) * size);
    *table = grown;
    *room = larger;
    return true;
}

static void forget(profile_table *p, size_t index) {
    uint32_t number;
    if (names_find(p->shapes, p->entries[index].shape, &number)) names_release(p->shapes, number);
    free(p->entries[index].shape);
    if (index != --p->count) {
        p->entries[index] = p->entries[p->count];
        if (names_find(p->shapes, p->entries[index].shape, &number)) p->index_of[number] = index;
    }
}

static void forget_oldest(profile_table *p) {
    size_t oldest = 0;
    for (size_t i = 1; i < p->count; i++)
        if (p->entries[i].learnt < p->entries[oldest].learnt) oldest = i;
    forget(p, oldest);
}

/* The entry, an empty one if the shape is new; NULL without memory. */
static entry *need(profile_table *p, const char *shape) {
    uint32_t number;
    bool fresh;
    if (names_find(p->shapes, shape, &number)) return &p->entries[p->index_of[number]];
    if (p->count == PROFILE_TABLE_MAX) forget_oldest(p);
    if (!reserve((void **)&p->entries, &p->room, p->count, sizeof *p->entries)) return NULL;
    char *copy = strdup(shape);
    if (copy == NULL || !names_hold(p->shapes, shape, &number, &fresh, NULL)) {
        free(copy);
        return NULL;
    }
    if (!reserve((void **)&p->index_of, &p->index_room, number, sizeof *p->index_of)) {
        names_release(p->shapes, number);
        free(copy);
        return NULL;
    }
    p->index_of[number] = p->count;
    p->entries[p->count] = (entry){.shape = copy};
    return &p->entries[p->count++];
}

static void mix(double *mean, double measured) {
    if (!(measured > 0)) return;
    *mean = *mean > 0 ? *mean * (1 - weight) + measured * weight : measured;
}

/* Reads "model|precision|WxH|guidance|batch" back: the pixels of a step, and the length of the model's name. 0: it is none. */
static double read_shape(const char *shape, size_t *model_length, double *pixels) {
    long width, height;
    *model_length = strcspn(shape, "|");
    const char *at = strchr(shape, '|');
    if (at != NULL) at = strchr(at + 1, '|');
    if (at == NULL) return 0;
    char *end;
    width = strtol(at + 1, &end, 10);
    if (*end != 'x') return 0;
    height = strtol(end + 1, &end, 10);
    if (*end != '|' || width <= 0 || height <= 0) return 0;
    *pixels = (double)width * (double)height;
    const char *batch = strchr(end + 1, '|');
    long images = batch != NULL ? strtol(batch + 1, NULL, 10) : 0;
    if (images < 1) return 0;
    return *pixels * (double)images * (strncmp(end + 1, "pair|", 5) == 0 ? 2 : 1);
}

static void mix_rates(rate *r, const profile *measured, double step_pixels, double pixels) {
    mix(&r->step, measured->step_seconds / step_pixels);
    mix(&r->decode, measured->decode_seconds / pixels);
    mix(&r->encode, measured->encode_seconds);
    mix(&r->load, measured->load_seconds);
}

static void learn_rates(profile_table *p, const char *shape, const profile *measured) {
    size_t length;
    double pixels, step_pixels = read_shape(shape, &length, &pixels);
    char model[TASK_SHAPE_BYTES];
    uint32_t number;
    bool fresh;
    if (step_pixels <= 0 || length >= sizeof model) return;
    mix_rates(&p->any, measured, step_pixels, pixels);
    memcpy(model, shape, length);
    model[length] = '\0';
    if (names_limit(p->models) >= PROFILE_TABLE_MAX && !names_find(p->models, model, &number)) return;
    if (!names_hold(p->models, model, &number, &fresh, NULL)) return;
    if (reserve((void **)&p->rates, &p->rate_room, number, sizeof *p->rates)) mix_rates(&p->rates[number], measured, step_pixels, pixels);
    if (!fresh) names_release(p->models, number); /* one hold a model */
}

void profile_table_learn(profile_table *p, const char *shape, const profile *measured) {
    learn_rates(p, shape, measured);
    entry *one = need(p, shape);
    if (one == NULL) return;
    one->learnt = ++p->measurements;
    mix(&one->figures.step_seconds, measured->step_seconds);
    mix(&one->figures.load_seconds, measured->load_seconds);
    mix(&one->figures.encode_seconds, measured->encode_seconds);
    mix(&one->figures.decode_seconds, measured->decode_seconds);
    if (measured->peak_bytes > one->figures.peak_bytes) one->figures.peak_bytes = measured->peak_bytes;
}

void profile_table_restore(profile_table *p, const char *shape, const profile *kept) {
    entry *one = need(p, shape);
    if (one == NULL) return;
    one->figures = *kept;
    one->learnt = ++p->measurements;
    learn_rates(p, shape, kept);
}

const profile *profile_table_find(const profile_table *p, const char *shape) {
    uint32_t number;
    return names_find(p->shapes, shape, &number) ? &p->entries[p->index_of[number]].figures : NULL;
}

size_t profile_table_count(const profile_table *p) { return p->count; }

const profile *profile_table_at(const profile_table *p, size_t index, const char **shape) {
    *shape = p->entries[index].shape;
    return &p->entries[index].figures;
}

static double first_known(double a, double b, double c) { return a > 0 ? a : b > 0 ? b : c; }

bool profile_table_estimate(const profile_table *p, const task_request *r, task_estimate *out) {
    static const profile nothing;
    char shape[TASK_SHAPE_BYTES];
    uint32_t number;
    task_shape(r, 1, shape);
    const profile *own = profile_table_find(p, shape);
    const rate *model = names_find(p->models, r->model, &number) && number < p->rate_room ? &p->rates[number] : &p->any;
    double pixels = (double)r->width * r->height, step_pixels = pixels * (task_has_guidance_pair(r) ? 2 : 1);
    if (own == NULL) own = &nothing;
    *out = (task_estimate){
        .load_seconds = first_known(own->load_seconds, model->load, p->any.load),
        .encode_seconds = first_known(own->encode_seconds, model->encode, p->any.encode),
        .step_seconds = first_known(own->step_seconds, model->step * step_pixels, p->any.step * step_pixels),
        .decode_seconds = first_known(own->decode_seconds, model->decode * pixels, p->any.decode * pixels),
        .peak_bytes = own->peak_bytes,
    };
    return out->step_seconds > 0;
}

double profile_table_work(const profile_table *p, const task_request *r) {
    uint32_t number;
    bool known = names_find(p->models, r->model, &number) && number < p->rate_room && p->rates[number].step > 0 && p->any.step > 0;
    return task_step_pixels(r) * (known ? p->rates[number].step / p->any.step : 1);
}

double task_estimate_seconds(const task_estimate *e, const task_request *r) {
    return e->encode_seconds + (e->step_seconds * task_steps_run(r) + e->decode_seconds) * r->count;
}
