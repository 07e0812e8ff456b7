/* Loading and running the parts of a pipeline, and schedules, when memory runs out at any point: each allocation in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "fault.h"
#include "models/autoencoder_encoder.h"
#include "models/autoencoder_tiling.h"
#include "models/clip_text.h"
#include "models/flux_original.h"
#include "models/t5_encoder.h"
#include "sampling/flow_match_euler.h"

typedef struct part {
    device *device;
    load_options options;
    char folder[512];
} part;

static void choose(part *p, const char *below) {
    const char *data = getenv("IMAGINED_TEST_DATA");
    assert_non_null(data);
    snprintf(p->folder, sizeof p->folder, "%s/%s", data, below);
}

static bool clip(void *context, error *e) {
    const part *p = context;
    int32_t ids[6] = {0, 5, 2, 60, 60, 60};
    float pooled[32], hidden[6 * 32];
    clip_text *m;
    bool ok = clip_text_load(p->device, p->folder, &p->options, &m, e) && clip_text_encode(m, ids, 6, 1, pooled, NULL, e) &&
              clip_text_encode(m, ids, 3, 2, hidden, hidden, e);
    clip_text_free(m);
    return ok;
}

static bool t5(void *context, error *e) {
    const part *p = context;
    int32_t ids[6] = {0, 5, 2, 9, 1, 52};
    float hidden[6 * 32];
    t5_encoder *m;
    bool ok = t5_encoder_load(p->device, p->folder, &p->options, &m, e) && t5_encoder_encode(m, ids, 6, 1, hidden, e) &&
              t5_encoder_encode(m, ids, 3, 2, hidden, e);
    t5_encoder_free(m);
    return ok;
}

static bool vae(void *context, error *e) {
    const part *p = context;
    float latents[4 * 6] = {1, 2, 3}, pixels[3 * 6 * 16];
    autoencoder_kl *m;
    bool ok = autoencoder_kl_load(p->device, p->folder, &p->options, &m, e) && autoencoder_kl_decode(m, latents, 3, 2, 1, pixels, e) &&
              autoencoder_kl_decode(m, latents, 1, 3, 2, pixels, e);
    autoencoder_kl_free(m);
    return ok;
}

static bool encoder(void *context, error *e) {
    const part *p = context;
    float pixels[3 * 12 * 8] = {0.5f, -1}, latents[4 * 6];
    autoencoder_encoder *m;
    bool ok = autoencoder_encoder_load(p->device, p->folder, &p->options, &m, e) &&
              autoencoder_encoder_encode(m, pixels, 12, 8, 1, latents, e) && autoencoder_encoder_encode(m, pixels, 4, 8, 2, latents, e);
    autoencoder_encoder_free(m);
    return ok;
}

static bool tiles(void *context, error *e) {
    const part *p = context;
    float latents[4 * 17 * 2] = {1, 2, 3};
    autoencoder_kl *m;
    autoencoder_tiles *t = NULL;
    int tile;
    bool ok = autoencoder_kl_load(p->device, p->folder, &p->options, &m, e) && autoencoder_kl_tile_for(m, 17, 2, SIZE_MAX, &tile, e) &&
              autoencoder_tiles_new(m, latents, 17, 2, AUTOENCODER_MIN_TILE, &t, e);
    for (bool more = ok; more && ok;) ok = autoencoder_tiles_decode_next(t, &more, e);
    autoencoder_tiles_free(t);
    autoencoder_kl_free(m);
    return ok;
}

static void parts_fail_cleanly(void **state) {
    static const struct {
        fault_operation run;
        const char *folder;
    } parts[] = {{clip, "models/clip_quick"}, {t5, "models/t5_silu"}, {vae, "models/vae_old"}, {encoder, "encoders/old"},
                 {tiles, "models/vae_old"}};
    part *p = *state;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        choose(p, parts[i].folder);
        for (int n = 0; n < 2 * (PRECISION_BF16 - PRECISION_F32 + 1); n++) {
            p->options = LOAD_OPTIONS((precision)(PRECISION_F32 + n / 2));
            p->options.copied = n % 2 == 1;
            size_t count = fault_fail_each(parts[i].run, p);
            print_message("    %s, %s%s: %zu allocations\n", parts[i].folder, precision_name(p->options.precision),
                          p->options.copied ? ", read" : "", count);
            assert_true(count > 10);
            assert_int_equal(ledger_total(device_ledger(p->device)), 0); /* every claim was given back */
        }
    }
}

static bool original(void *context, error *e) {
    (void)context;
    float image[2 * 4] = {1, 2}, mask[4] = {1}, noise[2 * 4] = {3, 4};
    flux_original o;
    bool ok = flux_original_take(&o, image, mask, noise, 2, 1, 1, e);
    flux_original_free(&o);
    return ok;
}

static void originals_fail_cleanly(void **state) {
    (void)state;
    assert_int_equal(fault_fail_each(original, NULL), 3);
}

static bool schedule(void *context, error *e) {
    flow_match f;
    return flow_match_load(context, &f, e);
}

static void schedules_fail_cleanly(void **state) {
    (void)state;
    char path[] = "/tmp/imagined-scheduler-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"shift\": 3.0}", 14), 14);
    close(fd);
    assert_true(fault_fail_each(schedule, path) >= 1);
    unlink(path);
}

int main(void) {
    part p = {0};
    error e = {0};
    if (!device_open("cpu", 1, &p.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(parts_fail_cleanly, &p), cmocka_unit_test(originals_fail_cleanly),
                                       cmocka_unit_test(schedules_fail_cleanly)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_free(p.device);
    return failed;
}
