#include "server/api/apis.h"

#include "server/api/a1111.h"
#include "server/api/comfy.h"
#include "server/api/native.h"
#include "server/api/openai.h"

const route_table *const apis[] = {
    &openai_api,
    &a1111_api,
    &a1111_internal_api,
    &comfy_api,
    &native_api, /* last: what no other takes */
};
const size_t api_count = sizeof apis / sizeof *apis;
