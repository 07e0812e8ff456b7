/* Failing every allocation in turn. Tests of this suite are linked with --wrap, so that each malloc, calloc, realloc, aligned_alloc, strdup
 * and free of our own code comes through here (those inside other libraries do not). One thread. */
#ifndef IMAGINED_TESTS_FAULT_H
#define IMAGINED_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The work to try: does everything from nothing, frees what it made, returns whether it succeeded. */
typedef bool (*fault_operation)(void *context, error *e);

/* Runs the operation with its first allocation failing, then with its second, … until it needs no more: each time it must fail with
 * ERROR_OUT_OF_MEMORY and leave no memory behind; at last it must succeed. Returns how many allocations there are to fail. */
size_t fault_fail_each(fault_operation operation, void *context);
/* As above for work that may go on without: whatever it returns, nothing may be left behind. */
size_t fault_survive_each(fault_operation operation, void *context);
/* Blocks allocated through us and not freed. */
long fault_live_blocks(void);

#endif
