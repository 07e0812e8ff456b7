/* A device whose products hold something that is no number is not taken for one that multiplies well. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/graph.h"
#include "compute/product_probe.h"

static float spoilt; /* 0: results are as they are; else the first is this */

/* The linker puts this in the place of the real one. */
void __real_graph_get(const struct ggml_tensor *output, void *data);
void __wrap_graph_get(const struct ggml_tensor *output, void *data);
void __wrap_graph_get(const struct ggml_tensor *output, void *data) {
    __real_graph_get(output, data);
    if (spoilt != 0) *(float *)data = spoilt;
}

static void every_wrong_number_is_found(void **state) {
    (void)state;
    device *d;
    assert_true(device_open("cpu", 1, &d, NULL));
    product_probe p = product_probe_measure(d, GGML_TYPE_F32, 256);
    assert_true(p.runs && p.distance < 1e-5);
    static const float wrong[] = {100, INFINITY, NAN};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        spoilt = wrong[i];
        p = product_probe_measure(d, GGML_TYPE_F32, 256);
        assert_true(p.runs);
        assert_false(p.distance <= 0.1);
    }
    device_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_wrong_number_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
