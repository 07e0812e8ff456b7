/* The API below /api/, the page at / and /health. */
#ifndef IMAGINED_SERVER_API_NATIVE_H
#define IMAGINED_SERVER_API_NATIVE_H

#include "server/http/router.h"

extern const route_table native_api;

#endif
