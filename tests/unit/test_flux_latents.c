/* Packing a latent into tokens and back: the order FluxPipeline uses, checked against its definition index by index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "models/flux_latents.h"

enum { CHANNELS = 3, ROWS = 2, COLUMNS = 5, COUNT = CHANNELS * ROWS * COLUMNS * 4 };

static void tokens_hold_the_cells_that_permute_puts_there(void **state) {
    (void)state;
    float planes[COUNT], tokens[COUNT];
    for (int i = 0; i < COUNT; i++) planes[i] = (float)i;
    flux_latents_pack(planes, CHANNELS, ROWS, COLUMNS, tokens);
    /* view(c, h, 2, w, 2).permute(h, w, c, 2, 2) */
    int at = 0;
    for (int h = 0; h < ROWS; h++)
        for (int w = 0; w < COLUMNS; w++)
            for (int c = 0; c < CHANNELS; c++)
                for (int y = 0; y < 2; y++)
                    for (int x = 0; x < 2; x++) assert_true(tokens[at++] == (float)(((c * ROWS + h) * 2 + y) * COLUMNS * 2 + w * 2 + x));
}

static void unpacking_undoes_packing(void **state) {
    (void)state;
    float planes[COUNT], tokens[COUNT], back[COUNT];
    for (int i = 0; i < COUNT; i++) planes[i] = (float)(i * 7 % 31);
    flux_latents_pack(planes, CHANNELS, ROWS, COLUMNS, tokens);
    flux_latents_unpack(tokens, CHANNELS, ROWS, COLUMNS, back);
    for (int i = 0; i < COUNT; i++) assert_true(planes[i] == back[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_hold_the_cells_that_permute_puts_there),
        cmocka_unit_test(unpacking_undoes_packing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
