#include "server/api/apis.h"

#include "server/api/native.h"
#include "server/api/openai.h"

const route_table *const apis[] = {
    &openai_api,
    &native_api, /* last: what no other takes */
};
const size_t api_count = sizeof apis / sizeof *apis;
