/* The cache of models: who leaves, when and why; who never does; what is counted; and what a change of files, a shared part or a lack of
 * memory does to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "engine/model_manager.h"
#include "model_copies.h"
#include "models/flux_denoise.h"

enum { MODELS = 4 };

typedef struct fixture {
    device *device;
    char parent[COPY_PATH_BYTES];
    char folders[MODELS][COPY_PATH_BYTES]; /* "m0" … share their text encoders, and nothing else */
    uint64_t size, shared;                 /* weight bytes of one model; of what they share */
    model_manager *models;
} fixture;

static const char *const names[MODELS] = {"m0", "m1", "m2", "m3"};

static void start(fixture *f, int max_models, uint64_t max_bytes) {
    error e = {0};
    const model_manager_options o = {.max_models = max_models, .max_cache_bytes = max_bytes};
    if (!model_manager_new(f->device, &o, &f->models, &e)) fail_msg("%s", e.text);
}

static int stop(void **state) {
    fixture *f = *state;
    model_manager_free(f->models);
    f->models = NULL;
    device_set_limit(f->device, 0);
    return 0;
}

static model_key key_of(const fixture *f, int i) { return (model_key){names[i], f->folders[i], PRECISION_AUTO}; }

static model_lease *take(fixture *f, int i) {
    model_lease *l;
    error e = {0};
    const model_key key = key_of(f, i);
    if (!model_manager_load_model(f->models, &key, &l, &e)) fail_msg("%s", e.text);
    return l;
}

/* Leased and given back at once. */
static void touch(fixture *f, int i) { model_manager_release(f->models, take(f, i)); }

static engine_snapshot stats(const fixture *f) {
    engine_snapshot s = {0};
    model_manager_get_cache_stats(f->models, &s);
    assert_int_equal(s.model_count, model_manager_count(f->models));
    return s;
}

/* The models in memory, last used first: "m2 m0". */
static void assert_cached(const fixture *f, const char *expected) {
    engine_snapshot s = stats(f);
    char list[ENGINE_MODEL_ROWS * MODEL_NAME_BYTES] = "";
    for (int i = 0; i < s.model_count; i++) {
        if (i > 0) strcat(list, " ");
        strcat(list, s.models[i].name);
    }
    assert_string_equal(list, expected);
}

static void assert_evictions(const fixture *f, int count, int bytes, int vram, int manual) {
    engine_snapshot s = stats(f);
    assert_int_equal(s.evictions[EVICTED_COUNT], count);
    assert_int_equal(s.evictions[EVICTED_BYTES], bytes);
    assert_int_equal(s.evictions[EVICTED_VRAM], vram);
    assert_int_equal(s.evictions[EVICTED_MANUAL], manual);
}

static void the_least_recently_used_leaves_by_count(void **state) {
    fixture *f = *state;
    start(f, 2, UINT64_MAX);
    touch(f, 0);
    touch(f, 1);
    touch(f, 0); /* from the cache */
    assert_cached(f, "m0 m1");
    assert_int_equal(stats(f).loads, 2);
    assert_evictions(f, 0, 0, 0, 0);
    touch(f, 2);
    assert_cached(f, "m2 m0");
    assert_evictions(f, 1, 0, 0, 0);
    touch(f, 1); /* a second load of it */
    assert_cached(f, "m1 m2");
    engine_snapshot s = stats(f);
    assert_int_equal(s.loads, 4);
    assert_int_equal(s.models[0].loads, 2);
    assert_int_equal(s.models[1].loads, 1);
}

static void the_least_recently_used_leaves_by_bytes(void **state) {
    fixture *f = *state;
    uint64_t own = f->size - f->shared;
    start(f, 8, f->shared + 2 * own + own / 2);
    touch(f, 0);
    touch(f, 1); /* fits only because what they share counts once: 2 × size is above the limit less own / 2 */
    assert_cached(f, "m1 m0");
    assert_int_equal(stats(f).cached_weight_bytes, f->shared + 2 * own);
    touch(f, 0);
    touch(f, 2);
    assert_cached(f, "m2 m0");
    assert_evictions(f, 0, 1, 0, 0);
    assert_int_equal(stats(f).cached_weight_bytes, f->shared + 2 * own);
}

static void one_model_alone_is_always_loaded(void **state) {
    fixture *f = *state;
    start(f, 8, 1);
    touch(f, 0);
    assert_cached(f, "m0");
    touch(f, 1);
    assert_cached(f, "m1");
    assert_evictions(f, 0, 1, 0, 0);
}

static void a_leased_model_never_leaves(void **state) {
    fixture *f = *state;
    error e = {0};
    start(f, 1, UINT64_MAX);
    model_lease *a = take(f, 0), *again = take(f, 0);
    assert_ptr_equal(a, again);
    assert_int_equal(stats(f).models[0].leases, 2);
    assert_int_equal(stats(f).models[0].state, MODEL_IN_USE);
    model_lease *b = take(f, 1); /* beyond the limit: the task was admitted */
    assert_cached(f, "m1 m0");
    assert_evictions(f, 0, 0, 0, 0);
    assert_int_equal(model_manager_clear_cache(f->models, NULL), 0);
    assert_false(model_manager_unload(f->models, &(model_key){names[0], f->folders[0], PRECISION_AUTO}, true, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    assert_non_null(flux_pipeline_info(model_lease_pipeline(a)));
    model_manager_release(f->models, a);
    assert_cached(f, "m0 m1"); /* once more in use */
    model_manager_release(f->models, again);
    assert_cached(f, "m1"); /* back within the limit at once */
    assert_evictions(f, 1, 0, 0, 0);
    model_manager_release(f->models, b);
    assert_cached(f, "m1");
    assert_int_equal(stats(f).models[0].state, MODEL_CACHED);
}

/* What the new model shares with the one that leaves for it is not loaded twice. */
static void a_shared_part_outlives_its_first_model(void **state) {
    fixture *f = *state;
    start(f, 1, UINT64_MAX);
    model_lease *a = take(f, 0);
    const model_part *clip = flux_pipeline_parts(model_lease_pipeline(a))->parts[PART_CLIP_TEXT];
    model_manager_release(f->models, a);
    model_lease *b = take(f, 1);
    assert_cached(f, "m1");
    assert_ptr_equal(flux_pipeline_parts(model_lease_pipeline(b))->parts[PART_CLIP_TEXT], clip);
    model_manager_release(f->models, b);
}

static void a_precision_is_a_model_of_its_own(void **state) {
    fixture *f = *state;
    error e = {0};
    model_lease *l;
    start(f, 4, UINT64_MAX);
    model_key key = key_of(f, 0);
    touch(f, 0);
    key.precision = PRECISION_F16;
    assert_true(model_manager_load_model(f->models, &key, &l, &e));
    engine_snapshot s = stats(f);
    assert_int_equal(s.model_count, 2);
    assert_string_equal(s.models[0].precision, "f16");
    assert_string_equal(s.models[1].precision, "auto");
    assert_true(s.models[0].private_bytes > s.models[1].private_bytes); /* the files are bf16 */
    assert_false(model_manager_unload(f->models, &key, true, &e)); /* all or none */
    assert_int_equal(model_manager_count(f->models), 2);
    model_manager_release(f->models, l);
    assert_true(model_manager_unload(f->models, &key, false, &e));
    assert_int_equal(model_manager_count(f->models), 1);
    assert_false(model_manager_unload(f->models, &key, false, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
    assert_true(model_manager_unload(f->models, &key, true, &e));
    assert_evictions(f, 0, 0, 0, 2);
}

static void clearing_names_what_went_and_what_stayed(void **state) {
    fixture *f = *state;
    static engine_answer answer;
    start(f, 4, UINT64_MAX);
    touch(f, 0);
    touch(f, 1);
    model_lease *l = take(f, 2);
    assert_int_equal(model_manager_clear_cache(f->models, &answer), 2);
    assert_int_equal(answer.unloaded_count, 2);
    assert_int_equal(answer.skipped_count, 1);
    assert_string_equal(answer.skipped[0], "m2");
    assert_true(strcmp(answer.unloaded[0], "m0") == 0 || strcmp(answer.unloaded[1], "m0") == 0);
    assert_cached(f, "m2");
    assert_evictions(f, 0, 0, 0, 2);
    model_manager_release(f->models, l);
}

static bool preload(fixture *f, int i, load_purpose purpose, error *e) {
    const model_key key = key_of(f, i);
    *e = (error){0};
    return model_manager_preload_model(f->models, &key, purpose, e);
}

static void loading_ahead_makes_room_or_waits(void **state) {
    fixture *f = *state;
    error e;
    start(f, 2, UINT64_MAX);
    assert_true(preload(f, 0, LOAD_AHEAD_IF_FREE, &e));
    assert_true(preload(f, 1, LOAD_AHEAD, &e));
    assert_cached(f, "m1 m0");
    assert_false(preload(f, 2, LOAD_AHEAD_IF_FREE, &e)); /* nobody is to leave for it */
    assert_int_equal(e.code, ERROR_BUSY);
    assert_cached(f, "m1 m0");
    assert_true(preload(f, 1, LOAD_AHEAD_IF_FREE, &e)); /* there already */
    model_lease *a = take(f, 0);
    assert_true(preload(f, 2, LOAD_AHEAD, &e));
    assert_cached(f, "m2 m0");
    model_lease *c = take(f, 2);
    assert_false(preload(f, 1, LOAD_AHEAD, &e)); /* only models in use could leave */
    assert_int_equal(e.code, ERROR_BUSY);
    assert_cached(f, "m2 m0");
    assert_evictions(f, 1, 0, 0, 0);
    assert_int_equal(stats(f).loads, 3);
    model_manager_release(f->models, a);
    model_manager_release(f->models, c);
}

static void loading_ahead_counts_bytes(void **state) {
    fixture *f = *state;
    error e;
    uint64_t own = f->size - f->shared;
    start(f, 8, f->shared + 2 * own);
    model_lease *a = take(f, 0);
    assert_true(preload(f, 1, LOAD_AHEAD_IF_FREE, &e)); /* only its own part is new */
    assert_false(preload(f, 2, LOAD_AHEAD_IF_FREE, &e));
    assert_true(preload(f, 2, LOAD_AHEAD, &e));
    assert_cached(f, "m2 m0");
    assert_evictions(f, 0, 1, 0, 0);
    model_lease *c = take(f, 2);
    assert_false(preload(f, 3, LOAD_AHEAD, &e));
    model_manager_release(f->models, a);
    model_manager_release(f->models, c);
}

static void a_load_in_slices_is_shared_and_given_up(void **state) {
    fixture *f = *state;
    error e = {0};
    model_lease *first, *second;
    uint64_t done, total, before = 0;
    bool more = true;
    start(f, 1, UINT64_MAX);
    const model_key key = key_of(f, 0);
    assert_true(model_manager_lease(f->models, &key, LOAD_FOR_TASK, &first, &e));
    assert_true(model_manager_lease(f->models, &key, LOAD_FOR_TASK, &second, &e));
    assert_ptr_equal(first, second);
    assert_false(model_lease_loaded(first));
    assert_int_equal(stats(f).models[0].state, MODEL_LOADING);
    model_lease_progress(first, &done, &total);
    assert_int_equal(done, 0);
    assert_int_equal(total, f->size);
    while (more) {
        assert_true(model_lease_advance(first, &more, &e));
        model_lease_progress(first, &done, &total);
        assert_true(done >= before);
        before = done;
    }
    assert_int_equal(done, total);
    assert_true(model_lease_loaded(second));
    assert_int_equal(stats(f).models[0].loads, 1);
    assert_true(model_lease_advance(second, &more, &e));
    assert_false(more);
    model_manager_release(f->models, first);
    model_manager_release(f->models, second);

    /* Nobody waits any more in the middle of a load: nothing stays of it, nor is it an eviction. */
    const model_key other = key_of(f, 1);
    assert_true(model_manager_lease(f->models, &other, LOAD_FOR_TASK, &first, &e));
    for (int i = 0; i < 3; i++) assert_true(model_lease_advance(first, &more, &e));
    assert_int_equal(stats(f).models[0].loads, 0);
    model_manager_release(f->models, first);
    assert_int_equal(model_manager_count(f->models), 0);
    assert_int_equal(stats(f).cached_weight_bytes, 0);
    assert_evictions(f, 1, 0, 0, 0);
}

static void a_load_that_fails_leaves_nothing(void **state) {
    fixture *f = *state;
    error e = {0};
    model_lease *l;
    char folder[COPY_PATH_BYTES];
    copies_make_model(f->parent, "broken", "text_encoder", BY_HARD_LINK, folder);
    copies_write(folder, "transformer/diffusion_pytorch_model.safetensors", "nothing of the kind");
    start(f, 2, UINT64_MAX);
    const model_key key = {"broken", folder, PRECISION_AUTO};
    assert_false(model_manager_load_model(f->models, &key, &l, &e));
    assert_null(l);
    assert_non_null(strstr(e.text, "transformer/diffusion_pytorch_model.safetensors"));
    assert_int_equal(model_manager_count(f->models), 0);
    const model_key missing = {"missing", "/there/is/no/such/folder", PRECISION_AUTO};
    assert_false(model_manager_load_model(f->models, &missing, &l, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
    assert_int_equal(stats(f).loads, 0);
    assert_int_equal(stats(f).cached_weight_bytes, 0);
    touch(f, 0);
    assert_cached(f, "m0");
}

static void a_changed_model_is_loaded_anew(void **state) {
    fixture *f = *state;
    char folder[COPY_PATH_BYTES];
    error e = {0};
    static const char *const changed[] = {"model_index.json", "vae/diffusion_pytorch_model.safetensors", "transformer/config.json",
                                          "tokenizer_2/tokenizer.json"};
    copies_make_model(f->parent, "changing", "text_encoder,text_encoder_2", BY_HARD_LINK, folder);
    start(f, 4, UINT64_MAX);
    const model_key key = {"changing", folder, PRECISION_AUTO};
    model_lease *old, *new;
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        assert_true(model_manager_load_model(f->models, &key, &old, &e));
        copies_replace(folder, changed[i]);
        assert_true(model_manager_load_model(f->models, &key, &new, &e)); /* beside the one that is in use */
        assert_ptr_not_equal(old, new);
        assert_int_equal(model_manager_count(f->models), 2);
        assert_true(model_lease_loaded(old));
        model_manager_release(f->models, old);
        assert_int_equal(model_manager_count(f->models), 1);
        model_manager_release(f->models, new);
        copies_replace(folder, changed[i]); /* nobody uses it now */
    }
    touch(f, 0);
    assert_evictions(f, 0, 0, 0, 0); /* that was no pressure */
}

/* Share of a file that is in the page cache; it is thrown out of it first when `drop`. */
static double in_page_cache(const char *folder, const char *name, bool drop) {
    char path[COPY_PATH_BYTES + 96];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    size_t size = (size_t)lseek(fd, 0, SEEK_END), page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page, here = 0;
    if (drop) {
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    void *mapping = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *resident = malloc(pages);
    assert_int_equal(mincore(mapping, size, resident), 0);
    for (size_t i = 0; i < pages; i++) here += resident[i] & 1;
    free(resident);
    munmap(mapping, size);
    close(fd);
    return (double)here / (double)pages;
}

static void loading_ahead_reads_files_ahead(void **state) {
    fixture *f = *state;
    error e;
    static const char weights[] = "transformer/diffusion_pytorch_model.safetensors";
    start(f, 2, UINT64_MAX);
    if (in_page_cache(f->folders[3], weights, true) > 0.1) skip(); /* a file system that is memory */
    assert_true(preload(f, 3, LOAD_AHEAD, &e));
    for (int i = 0; i < 1000 && in_page_cache(f->folders[3], weights, false) < 1; i++)
        usleep(10000); /* the kernel reads in the background */
    assert_true(in_page_cache(f->folders[3], weights, false) == 1);
}

/* Precision f16 of bf16 files: private copies, which the ledger counts on the CPU as it does a GPU's. */
static void a_short_device_takes_from_idle_models(void **state) {
    fixture *f = *state;
    error e = {0};
    model_lease *l;
    model_key a = key_of(f, 0), b = key_of(f, 1), c = key_of(f, 2);
    a.precision = b.precision = c.precision = PRECISION_F16;
    start(f, 8, UINT64_MAX);
    assert_true(model_manager_preload_model(f->models, &a, LOAD_AHEAD, &e));
    size_t one = model_manager_idle_bytes(f->models);
    assert_true(one > 1 << 20);
    assert_int_equal(one, stats(f).models[0].private_bytes);
    assert_true(model_manager_preload_model(f->models, &b, LOAD_AHEAD, &e));
    assert_true(model_manager_idle_bytes(f->models) < 2 * one); /* what they share once */
    device_set_limit(f->device, model_manager_idle_bytes(f->models) + one / 4);
    assert_true(model_manager_load_model(f->models, &c, &l, &e)); /* its transformer finds no room */
    assert_cached(f, "m2 m1");
    assert_evictions(f, 0, 0, 1, 0);
    assert_true(device_ledger(f->device)->peak <= device_ledger(f->device)->limit);

    /* Room by request: the one in use stays. */
    size_t free_now = device_available(f->device), idle = model_manager_idle_bytes(f->models);
    assert_true(idle > 0);
    assert_true(model_manager_make_room_for(f->models, free_now, EVICTED_VRAM));
    assert_cached(f, "m2 m1");
    assert_true(model_manager_make_room_for(f->models, free_now + idle, EVICTED_VRAM));
    assert_cached(f, "m2");
    assert_int_equal(device_available(f->device), free_now + idle);
    assert_int_equal(model_manager_idle_bytes(f->models), 0);
    assert_false(model_manager_make_room_for(f->models, device_ledger(f->device)->limit, EVICTED_VRAM));
    assert_evictions(f, 0, 0, 2, 0);
    model_manager_release(f->models, l);

    device_set_limit(f->device, one / 2); /* too little for any: named, and nothing stays */
    model_manager_clear_cache(f->models, NULL);
    assert_false(model_manager_load_model(f->models, &a, &l, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    assert_int_equal(model_manager_count(f->models), 0);
}

static void paint(flux_pipeline *p, int side) {
    conditioning c;
    flux_denoise *d;
    error e = {0};
    uint8_t *rgb = malloc((size_t)side * (size_t)side * 3);
    if (!flux_pipeline_encode(p, "a fox", 32, &c, &e)) fail_msg("%s", e.text);
    const flux_denoise_request r = {
        .width = side, .height = side, .steps = 1, .seed = 7, .guidance_scale = 1, .positive = &c, .true_cfg_scale = 1};
    bool more;
    if (!flux_denoise_new(p, &r, &d, &e) || !flux_denoise_step(d, &more, &e) || !flux_denoise_decode(d, rgb, &e)) fail_msg("%s", e.text);
    flux_denoise_free(d);
    conditioning_free(&c);
    free(rgb);
}

static void an_idle_model_keeps_no_large_buffers(void **state) {
    fixture *f = *state;
    start(f, 4, UINT64_MAX);
    model_lease *l = take(f, 0), *other = take(f, 1);
    paint(model_lease_pipeline(l), 128);
    model_lease_note_peak(l, 1000);
    model_lease_note_peak(l, 10);
    size_t used = flux_pipeline_figures(model_lease_pipeline(l)).compute;
    print_message("    compute buffers for 128 × 128: %zu KiB\n", used >> 10);
    assert_true(used > 10 << 20);
    model_manager_release(f->models, l);
    engine_snapshot s = stats(f);
    assert_string_equal(s.models[0].name, "m0");
    assert_true(s.models[0].compute_bytes > 0 && s.models[0].compute_bytes <= 6 << 20); /* the small ones stay, for the next picture */
    assert_true(s.models[0].private_bytes + s.models[0].compute_bytes < 10 << 20);
    assert_int_equal(s.models[0].peak_bytes, 1000);
    l = take(f, 0); /* and makes its pictures again */
    paint(model_lease_pipeline(l), 128);
    assert_int_equal(flux_pipeline_figures(model_lease_pipeline(l)).compute, used);
    model_manager_release(f->models, other);
    model_manager_release(f->models, l);
}

static void rows_tell_what_there_is(void **state) {
    fixture *f = *state;
    start(f, 3, (uint64_t)5 << 30);
    model_lease *l = take(f, 0);
    engine_snapshot s = stats(f);
    part_figures figures = flux_pipeline_figures(model_lease_pipeline(l));
    assert_int_equal(s.max_models, 3);
    assert_int_equal(s.max_cache_bytes, (uint64_t)5 << 30);
    assert_int_equal(s.models[0].size_bytes, f->size);
    assert_int_equal(s.models[0].mapped_bytes, f->size);
    assert_int_equal(s.models[0].private_bytes, figures.private);
    assert_int_equal(s.models[0].vram_bytes, 0);
    assert_true(s.models[0].load_seconds > 0);
    assert_int_equal(s.models[0].resident_blocks, 5); /* the demo's: two double ones, three single ones */
    assert_int_equal(s.models[0].streamed_blocks, 0);
    int64_t leased = s.models[0].last_used_ms;
    assert_true(leased > 1600000000000);
    usleep(2000);
    model_manager_release(f->models, l);
    assert_true(stats(f).models[0].last_used_ms > leased);
}

int main(void) {
    static fixture f;
    error e = {0};
    log_configure(LOG_ERROR, "test");
    if (!device_open("cpu", 1, &f.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    copies_make_folder(f.parent);
    model_info info;
    for (int i = 0; i < MODELS; i++) copies_make_model(f.parent, names[i], "text_encoder,text_encoder_2", BY_HARD_LINK, f.folders[i]);
    if (!model_folder_read(f.folders[0], names[0], &info, &e)) return 1;
    f.size = info.size_bytes;
    for (int i = 0; i < 2; i++) {
        char path[COPY_PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s/%s/model.safetensors", f.folders[0], i == 0 ? "text_encoder" : "text_encoder_2");
        f.shared += file_stamp_of(path).size;
    }
#define TEST(name) {#name, name, NULL, stop, &f}
    const struct CMUnitTest tests[] = {
        TEST(the_least_recently_used_leaves_by_count),
        TEST(the_least_recently_used_leaves_by_bytes),
        TEST(one_model_alone_is_always_loaded),
        TEST(a_leased_model_never_leaves),
        TEST(a_shared_part_outlives_its_first_model),
        TEST(a_precision_is_a_model_of_its_own),
        TEST(clearing_names_what_went_and_what_stayed),
        TEST(loading_ahead_makes_room_or_waits),
        TEST(loading_ahead_counts_bytes),
        TEST(loading_ahead_reads_files_ahead),
        TEST(a_load_in_slices_is_shared_and_given_up),
        TEST(a_load_that_fails_leaves_nothing),
        TEST(a_changed_model_is_loaded_anew),
        TEST(a_short_device_takes_from_idle_models),
        TEST(an_idle_model_keeps_no_large_buffers),
        TEST(rows_tell_what_there_is),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    copies_remove_folder(f.parent);
    device_free(f.device);
    return failed;
}
