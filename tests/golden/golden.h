/* Numbers of the reference implementation: named arrays that tests/golden/make_*.py wrote as safetensors into tests/golden/data.
 *
 * Reads the format on its own, with none of the product's code, so that a fault of the product's reader cannot hide here. Every fault
 * fails the running cmocka test and names the array. */
#ifndef IMAGINED_TESTS_GOLDEN_H
#define IMAGINED_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct golden golden;

typedef struct golden_array {
    char name[128];
    char type[8];     /* "F32", "I64", "U8", … */
    int rank;
    int64_t shape[8]; /* outermost first */
    size_t count, size;
    const void *data; /* lives as long as the golden */
} golden_array;

/* data/NAME.safetensors */
golden *golden_open(const char *name);
void golden_free(golden *g);
/* data/NAME into path. */
void golden_path(char *path, size_t capacity, const char *name);

bool golden_has(const golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
golden_array golden_get(const golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The array's data, which must be of this type: "F32" … */
const float *golden_f32(const golden_array *a);
const int64_t *golden_i64(const golden_array *a);

/* max|actual − expected| / max|expected| of `count` numbers; infinity when one is not finite. */
double golden_distance(const float *actual, const float *expected, size_t count);
/* Prints the distance and fails the test when it is over `tolerance`. */
void golden_assert_near(const float *actual, const golden_array *expected, double tolerance);

#endif
