#include "fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *p);

static struct {
    long left; /* allocations until the one that fails; −1: none does */
    bool failed;
    long live;
} plan = {.left = -1};

static bool fails(void) {
    if (plan.left < 0 || plan.left-- > 0) return false;
    plan.failed = true;
    return true;
}

void *__wrap_malloc(size_t size) {
    void *p = fails() ? NULL : __real_malloc(size);
    plan.live += p != NULL;
    return p;
}

void *__wrap_calloc(size_t count, size_t size) {
    void *p = fails() ? NULL : __real_calloc(count, size);
    plan.live += p != NULL;
    return p;
}

void *__wrap_realloc(void *old, size_t size) {
    void *p = fails() ? NULL : __real_realloc(old, size);
    plan.live += p != NULL && old == NULL;
    return p;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    void *p = fails() ? NULL : __real_aligned_alloc(alignment, size);
    plan.live += p != NULL;
    return p;
}

char *__wrap_strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *p = __wrap_malloc(size);
    return p == NULL ? NULL : memcpy(p, text, size);
}

void __wrap_free(void *p) {
    plan.live -= p != NULL;
    __real_free(p);
}

long fault_live_blocks(void) { return plan.live; }

static size_t fail_each(fault_operation operation, void *context, bool must_fail) {
    for (long n = 0; n < 100000; n++) {
        error e = {0};
        long before = plan.live;
        plan.left = n;
        plan.failed = false;
        bool ok = operation(context, &e);
        bool failed = plan.failed;
        plan.left = -1;
        if (plan.live != before) fail_msg("allocation %ld failed: %ld blocks are left (%s)", n, plan.live - before, e.text);
        if (!failed) {
            if (must_fail && !ok) fail_msg("it does not succeed with all the memory it wants: %s", e.text);
            return (size_t)n;
        }
        if (must_fail && ok) fail_msg("allocation %ld failed and nobody noticed", n);
        if (must_fail && e.code != ERROR_OUT_OF_MEMORY) fail_msg("allocation %ld failed and the error is: %s", n, e.text);
    }
    fail_msg("it never ends");
    return 0;
}

size_t fault_fail_each(fault_operation operation, void *context) { return fail_each(operation, context, true); }
size_t fault_survive_each(fault_operation operation, void *context) { return fail_each(operation, context, false); }
