#include "server/tasks/task_parameters.h"

#include "image/parameters.h"

void task_parameters_write(const task *t, int index, buffer *out) {
    const task_request *r = &t->request;
    const image_parameters p = {
        .prompt = r->prompt,
        .negative_prompt = r->negative_prompt,
        .sampler = "Euler",
        .model = r->model,
        .steps = r->steps,
        .width = r->width,
        .height = r->height,
        .guidance_scale = r->guidance_scale,
        .true_cfg_scale = r->true_cfg_scale,
        .strength = r->image != NULL ? r->strength : 0,
        .seed = t->images[index].seed,
    };
    image_parameters_write(&p, out);
}
