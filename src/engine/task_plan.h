/* A task's memory plan on a real device: measures what the picture takes of the model (flux_measure.h), asks memory_plan.h, and brings the
 * model into the planned state. Whatever is claimed later still goes through the device's ledger: a plan that was too hopeful ends in
 * ERROR_OUT_OF_MEMORY, not in more memory than there is. One thread. */
#ifndef IMAGINED_ENGINE_TASK_PLAN_H
#define IMAGINED_ENGINE_TASK_PLAN_H

#include "engine/engine_room.h"
#include "engine/memory_plan.h"
#include "engine/task_message.h"
#include "models/flux_measure.h"

typedef struct task_plan {
    memory_plan plan;
    size_t attention_slice; /* for flux_denoise; 0: whole */
    size_t held, available; /* by the model when it was measured; what there was for it, that included */
} task_plan;

/* Plans, changes nothing. `beside`: bytes of main memory that the task itself keeps. first_level and errors as for memory_plan_make. A
 * model that is not wholly here is planned by the sizes of its files, which is a bound from below. */
bool task_plan_make(engine_room *room, model_lease *lease, const flux_picture_shape *shape, size_t beside, int first_level, task_plan *out,
                    error *e);
/* Evicts idle models and gives back graphs as far as the plan needs it, and sets how much of the transformer stays on the device. */
void task_plan_apply(engine_room *room, model_lease *lease, const task_plan *p);
/* Evicts idle models as far as the plan needs it: a part of task_plan_apply. */
void task_plan_evict(engine_room *room, const task_plan *p);
/* As the front is told. `earlier`: a step that was taken before it, in words; "": none. */
void task_plan_tell(const task_plan *p, const char *earlier, engine_plan *out);

#endif
