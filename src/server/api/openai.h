/* OpenAI's Images API below /v1/, as its clients use it (https://platform.openai.com/docs/api-reference/images): a thin translation onto
 * the one queue.
 *
 * A request waits for its pictures; when its client leaves, the task is cancelled. Fields of ours are taken too: seed, negative_prompt,
 * num_inference_steps, guidance_scale, true_cfg_scale, max_sequence_length, precision, width, height. Unknown fields are ignored, as newer
 * clients send newer ones. */
#ifndef IMAGINED_SERVER_API_OPENAI_H
#define IMAGINED_SERVER_API_OPENAI_H

#include "server/http/router.h"

extern const route_table openai_api;

#endif
