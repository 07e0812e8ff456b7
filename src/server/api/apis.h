/* All the APIs there are, in the order in which they are asked whether a path is theirs. The next one is a file beside this and a line in
 * apis.c. */
#ifndef IMAGINED_SERVER_API_APIS_H
#define IMAGINED_SERVER_API_APIS_H

#include "server/http/router.h"

extern const route_table *const apis[];
extern const size_t api_count;

#endif
