/* What pictures cost, learnt from those made: seconds and bytes by shape, as exponentially weighted means. In memory, and bounded: the
 * shape that was learnt longest ago is forgotten first. Whoever keeps them on disk reads them with profile_table_at and puts them back with
 * profile_table_restore. */
#ifndef IMAGINED_QUEUE_PROFILE_TABLE_H
#define IMAGINED_QUEUE_PROFILE_TABLE_H

#include "queue/task.h"

typedef struct profile_table profile_table;

enum { PROFILE_TABLE_MAX = 4096 };

/* Of one image, or of one step of a batch; 0: not known. */
typedef struct profile {
    double step_seconds, load_seconds, encode_seconds, decode_seconds;
    uint64_t peak_bytes; /* the most there was */
} profile;

/* What a task will take of an engine that does nothing else. */
typedef struct task_estimate {
    double load_seconds; /* only if its model must be loaded */
    double encode_seconds, step_seconds, decode_seconds; /* step and decode: of one image */
    uint64_t peak_bytes;
} task_estimate;

bool profile_table_new(profile_table **out, error *e);
void profile_table_free(profile_table *p); /* NULL is fine */
/* `shape` as task_shape makes it. Fields that are 0 say nothing. Without memory it is not learnt, which the next may be. */
void profile_table_learn(profile_table *p, const char *shape, const profile *measured);
void profile_table_restore(profile_table *p, const char *shape, const profile *kept); /* as it was */
const profile *profile_table_find(const profile_table *p, const char *shape);         /* NULL: not known */
size_t profile_table_count(const profile_table *p);
const profile *profile_table_at(const profile_table *p, size_t index, const char **shape); /* index below the count */

/* From the task's own shape; else by pixels from what its model took lately; else from what any did. False when nothing is known at all. */
bool profile_table_estimate(const profile_table *p, const task_request *r, task_estimate *out);
/* The task's work for comparisons between tasks: its step_pixels, weighed by what its model takes a pixel beside all models together. It
 * means the same before and after anything was learnt, as seconds would not. */
double profile_table_work(const profile_table *p, const task_request *r);
double task_estimate_seconds(const task_estimate *e, const task_request *r); /* without loading */

#endif
