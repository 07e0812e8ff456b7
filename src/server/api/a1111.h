/* The API of AUTOMATIC1111's stable-diffusion-webui below /sdapi/v1/ (from its modules/api/api.py and what its clients send): a thin
 * translation onto the one queue. docs/a1111.md says what is taken, ignored and refused. A request waits for its pictures; when its client
 * leaves, the task is cancelled. */
#ifndef IMAGINED_SERVER_API_A1111_H
#define IMAGINED_SERVER_API_A1111_H

#include "server/http/router.h"

extern const route_table a1111_api, a1111_internal_api; /* /sdapi/v1/ and /internal/ */

#endif
