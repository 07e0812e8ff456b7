#include "queue/task_index.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing with linear probing; a removal moves up what comes behind it, so there are no tombstones. */

void task_index_free(task_index *x) {
    free(x->places);
    *x = (task_index){0};
}

static size_t home(const task_index *x, const char *id) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *id != '\0'; id++) hash = (hash ^ (unsigned char)*id) * 1099511628211u;
    return (size_t)(hash ^ hash >> 32) & (x->room - 1);
}

static void place(task_index *x, task *t) {
    size_t i = home(x, t->id);
    while (x->places[i] != NULL) i = (i + 1) & (x->room - 1);
    x->places[i] = t;
}

bool task_index_reserve(task_index *x, size_t more, error *e) {
    task_index larger = {.room = x->room > 0 ? x->room : 64, .count = x->count};
    while ((x->count + more) * 2 > larger.room) larger.room *= 2;
    if (larger.room == x->room) return true;
    larger.places = calloc(larger.room, sizeof *larger.places);
    if (larger.places == NULL) return error_no_memory(e, "the index of tasks", larger.room * sizeof *larger.places);
    for (size_t i = 0; i < x->room; i++)
        if (x->places[i] != NULL) place(&larger, x->places[i]);
    free(x->places);
    *x = larger;
    return true;
}

void task_index_add(task_index *x, task *t) {
    place(x, t);
    x->count++;
}

task *task_index_find(const task_index *x, const char *id) {
    if (x->room == 0) return NULL;
    for (size_t i = home(x, id); x->places[i] != NULL; i = (i + 1) & (x->room - 1))
        if (strcmp(x->places[i]->id, id) == 0) return x->places[i];
    return NULL;
}

void task_index_remove(task_index *x, const task *t) {
    size_t mask = x->room - 1, hole = home(x, t->id);
    while (x->places[hole] != t) hole = (hole + 1) & mask;
    for (size_t i = (hole + 1) & mask; x->places[i] != NULL; i = (i + 1) & mask) {
        /* It may fill the hole unless its home lies behind the hole: then a search for it would not come by. */
        size_t distance = (i - home(x, x->places[i]->id)) & mask;
        if (distance < ((i - hole) & mask)) continue;
        x->places[hole] = x->places[i];
        hole = i;
    }
    x->places[hole] = NULL;
    x->count--;
}
