/* Durations in JSON: to the microsecond, as no clock of ours means more, and sums of doubles end in digits that mean nothing. */
#ifndef IMAGINED_SERVER_RESOURCES_SECONDS_H
#define IMAGINED_SERVER_RESOURCES_SECONDS_H

#include <stdbool.h>
#include <yyjson.h>

/* The key is borrowed until the document is written. False without memory. */
bool seconds_add(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, double seconds);

#endif
