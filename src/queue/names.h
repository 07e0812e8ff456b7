/* Small numbers for names: API keys, models. A number stands for its name as long as somebody holds it; then it is given out again. */
#ifndef IMAGINED_QUEUE_NAMES_H
#define IMAGINED_QUEUE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct names names;

bool names_new(names **out, error *e);
void names_free(names *n); /* NULL is fine */
/* The name's number, held once more. New names get the smallest number that is free; *fresh tells whether it is new. */
bool names_hold(names *n, const char *text, uint32_t *number, bool *fresh, error *e);
void names_release(names *n, uint32_t number); /* once for each hold */
/* Numbers ever given out are below this. */
uint32_t names_limit(const names *n);
const char *names_text(const names *n, uint32_t number); /* NULL when nobody holds it */
bool names_find(const names *n, const char *text, uint32_t *number);

#endif
