/* Models share the parts whose files are the same: each is in memory once, is used by all in turn with the results it has alone, is there
 * as long as one holds it, can be given back and taken again, and is not mixed with what its files became meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "model_copies.h"
#include "models/flux_denoise.h"

enum { SIDE = 32 };

typedef struct fixture {
    device *device;
    char folder[COPY_PATH_BYTES];
} fixture;

static void files_of(const char *folder, const char *part, part_files *out) {
    char path[COPY_PATH_BYTES + 32];
    error e = {0};
    snprintf(path, sizeof path, "%s/%s", folder, part);
    if (!part_files_read(path, out, &e)) fail_msg("%s", e.text);
}

static bool same_part(const char *a, const char *b, const char *part) {
    part_files x, y;
    files_of(a, part, &x);
    files_of(b, part, &y);
    bool same = part_files_same(&x, &y);
    part_files_free(&x);
    part_files_free(&y);
    return same;
}

static void files_are_known_by_inode_and_config(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES], b[COPY_PATH_BYTES], c[COPY_PATH_BYTES], d[COPY_PATH_BYTES], source[COPY_PATH_BYTES];
    copies_make_model(f->folder, "a", "vae,text_encoder", BY_HARD_LINK, a);
    copies_make_model(f->folder, "b", "vae,text_encoder", BY_HARD_LINK, b);
    copies_make_model(f->folder, "c", "text_encoder_2", BY_SYMLINK, c);
    copies_make_model(f->folder, "d", "text_encoder_2", BY_SYMLINK, d);
    snprintf(source, sizeof source, "%s/demo/model", getenv("IMAGINED_SOURCE"));
    assert_true(same_part(a, b, "vae"));
    assert_true(same_part(a, b, "text_encoder"));
    assert_false(same_part(a, b, "transformer"));
    assert_false(same_part(a, b, "text_encoder_2")); /* equal bytes in two files are two */
    assert_true(same_part(c, d, "text_encoder_2"));
    assert_true(same_part(c, source, "text_encoder_2"));

    part_files files;
    files_of(a, "vae", &files);
    assert_null(file_watch_changed(&files.watch));
    copies_write(b, "vae/config.json", "{}");
    assert_false(same_part(a, b, "vae"));
    copies_replace(a, "vae/diffusion_pytorch_model.safetensors");
    assert_non_null(strstr(file_watch_changed(&files.watch), "vae/diffusion_pytorch_model.safetensors"));
    part_files_free(&files);
}

static void shards_are_found_through_their_index(void **state) {
    part_files f;
    char folder[COPY_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s/models", getenv("IMAGINED_TEST_DATA"));
    (void)state;
    files_of(folder, "t5_silu", &f);
    assert_int_equal(f.watch.count, 4); /* config.json, the index, two shards */
    assert_true(f.weight_bytes > 0);
    part_files_free(&f);
}

static flux_pipeline *load(part_pool *pool, const char *folder) {
    flux_pipeline *p;
    error e = {0};
    if (!flux_pipeline_load(pool, folder, &LOAD_OPTIONS(PRECISION_F32), &p, &e)) fail_msg("%s", e.text);
    return p;
}

/* One picture of a prompt; two steps. */
static void paint(flux_pipeline *p, const char *prompt, bool drop, uint8_t rgb[3 * SIDE * SIDE]) {
    conditioning c;
    flux_denoise *d;
    error e = {0};
    if (!flux_pipeline_encode(p, prompt, 16, &c, &e)) fail_msg("%s", e.text);
    if (drop) flux_pipeline_drop(p, FLUX_ENCODERS | FLUX_DECODER);
    const flux_denoise_request r = {
        .width = SIDE, .height = SIDE, .steps = 2, .seed = 7, .guidance_scale = 1, .positive = &c, .true_cfg_scale = 1};
    bool more = true, ok = flux_denoise_new(p, &r, &d, &e);
    while (ok && more) {
        ok = flux_denoise_step(d, &more, &e);
        if (drop) flux_pipeline_drop(p, FLUX_TRANSFORMER);
    }
    if (!ok || !flux_denoise_decode(d, rgb, &e)) fail_msg("%s", e.text);
    flux_denoise_free(d);
    conditioning_free(&c);
}

static void a_shared_part_is_in_memory_once(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES], b[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    copies_make_model(f->folder, "e", "text_encoder,text_encoder_2", BY_HARD_LINK, a);
    copies_make_model(f->folder, "f", "text_encoder,text_encoder_2", BY_HARD_LINK, b);
    assert_true(part_pool_new(f->device, &pool, &e));
    flux_pipeline *p = load(pool, a), *q = load(pool, b);
    part_figures one = flux_pipeline_figures(p), both = part_pool_figures(pool);
    part_files clip, t5;
    files_of(a, "text_encoder", &clip);
    files_of(a, "text_encoder_2", &t5);
    size_t shared = clip.weight_bytes + t5.weight_bytes;
    assert_int_equal(both.weights, 2 * one.weights - shared);
    assert_int_equal(both.mapped, 2 * one.mapped - shared);
    assert_true(both.private < 2 * one.private);
    for (int i = 0; i < PART_IMAGE_ENCODER; i++)
        assert_int_equal(flux_pipeline_parts(p)->parts[i] == flux_pipeline_parts(q)->parts[i], i == PART_CLIP_TEXT || i == PART_T5_ENCODER);

    flux_pipeline_drop(p, FLUX_ENCODERS); /* the other still holds them */
    assert_int_equal(part_pool_figures(pool).weights, both.weights);
    flux_pipeline_free(p);
    assert_int_equal(part_pool_figures(pool).weights, one.weights);
    flux_pipeline_free(q);
    assert_int_equal(part_pool_figures(pool).weights, 0);
    part_files_free(&clip);
    part_files_free(&t5);
    part_pool_free(pool);
}

static void another_precision_is_another_part(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    flux_pipeline *q;
    copies_make_model(f->folder, "g", "", BY_COPY, a);
    assert_true(part_pool_new(f->device, &pool, &e));
    flux_pipeline *p = load(pool, a);
    assert_true(flux_pipeline_load(pool, a, &LOAD_OPTIONS(PRECISION_F16), &q, &e));
    assert_int_equal(part_pool_figures(pool).mapped, 2 * flux_pipeline_figures(p).mapped);
    assert_true(flux_pipeline_figures(q).private > flux_pipeline_figures(p).private); /* bf16 files, converted */
    flux_pipeline_free(q);
    flux_pipeline_free(p);
    part_pool_free(pool);
}

static void sharing_changes_no_picture(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES], b[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    uint8_t alone[3 * SIDE * SIDE], shared[3 * SIDE * SIDE], between[3 * SIDE * SIDE];
    copies_make_model(f->folder, "h", "text_encoder,text_encoder_2,transformer,vae", BY_HARD_LINK, a);
    copies_make_model(f->folder, "i", "text_encoder,text_encoder_2,transformer,vae", BY_HARD_LINK, b);
    assert_true(part_pool_new(f->device, &pool, &e));
    flux_pipeline *p = load(pool, a);
    paint(p, "a fox", false, alone);
    flux_pipeline *q = load(pool, b);
    paint(q, "a raccoon on a purple background", false, between);
    paint(p, "a fox", false, shared);
    assert_memory_equal(alone, shared, sizeof alone);
    assert_memory_not_equal(alone, between, sizeof alone);

    /* two on their way at once, step by step, on one transformer */
    conditioning c;
    flux_denoise *d, *other;
    bool more = true;
    assert_true(flux_pipeline_encode(p, "a fox", 16, &c, &e));
    flux_denoise_request r = {
        .width = SIDE, .height = SIDE, .steps = 2, .seed = 7, .guidance_scale = 1, .positive = &c, .true_cfg_scale = 1};
    assert_true(flux_denoise_new(p, &r, &d, &e));
    r.seed = 8;
    assert_true(flux_denoise_new(q, &r, &other, &e));
    while (more) assert_true(flux_denoise_step(other, &more, &e) && flux_denoise_step(d, &more, &e));
    assert_true(flux_denoise_decode(other, between, &e) && flux_denoise_decode(d, shared, &e));
    assert_memory_equal(alone, shared, sizeof alone);
    flux_denoise_free(d);
    flux_denoise_free(other);
    conditioning_free(&c);
    flux_pipeline_free(p);
    flux_pipeline_free(q);
    part_pool_free(pool);
}

static void parts_come_again_when_they_are_wanted(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    uint8_t whole[3 * SIDE * SIDE], dropped[3 * SIDE * SIDE];
    conditioning c;
    copies_make_model(f->folder, "j", "", BY_COPY, a);
    assert_true(part_pool_new(f->device, &pool, &e));
    flux_pipeline *p = load(pool, a);
    paint(p, "a fox", false, whole);
    paint(p, "a fox", true, dropped);
    assert_memory_equal(whole, dropped, sizeof whole);

    flux_pipeline_drop(p, FLUX_ALL_PARTS);
    assert_int_equal(part_pool_figures(pool).weights, 0);
    assert_true(flux_pipeline_ensure(p, FLUX_TRANSFORMER, &e));
    assert_int_equal(part_pool_figures(pool).weights, flux_parts_bytes(flux_pipeline_parts(p), FLUX_TRANSFORMER));
    assert_true(part_pool_figures(pool).weights > 0);
    flux_pipeline_set_resident_bytes(p, 1 << 20); /* another residency: the transformer goes, and comes again for the next step */
    assert_int_equal(part_pool_figures(pool).weights, 0);
    flux_pipeline_set_resident_bytes(p, SIZE_MAX);

    /* A part of another model has taken the file's place: the pipeline must not mix them. */
    copies_replace(a, "text_encoder_2/model.safetensors");
    assert_non_null(strstr(flux_parts_changed(flux_pipeline_parts(p)), "text_encoder_2/model.safetensors"));
    assert_false(flux_pipeline_encode(p, "a fox", 16, &c, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    assert_non_null(strstr(e.text, "text_encoder_2/model.safetensors"));
    flux_pipeline_free(p);
    part_pool_free(pool);
}

typedef struct told {
    flux_pipeline *pipeline;
    uint64_t sum, last;
} told;

/* In the middle of a part: the pipeline's own count goes along. */
static void on_bytes(void *context, size_t bytes) {
    told *t = context;
    t->sum += bytes;
    uint64_t done = flux_parts_bytes_done(flux_pipeline_parts(t->pipeline));
    assert_true(done >= t->last);
    t->last = done;
}

static void a_load_in_slices_tells_its_bytes(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES], b[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    flux_pipeline *p, *q;
    told t = {0};
    load_options o = LOAD_OPTIONS(PRECISION_AUTO);
    o.progress = on_bytes;
    o.context = &t;
    copies_make_model(f->folder, "k", "text_encoder_2", BY_HARD_LINK, a);
    copies_make_model(f->folder, "l", "text_encoder_2", BY_HARD_LINK, b);
    assert_true(part_pool_new(f->device, &pool, &e));
    assert_true(flux_pipeline_load_begin(pool, a, &o, &p, &e));
    t.pipeline = p;
    flux_parts *parts = flux_pipeline_parts(p);
    uint64_t total = flux_pipeline_info(p)->size_bytes, done = 0;
    assert_int_equal(flux_parts_bytes_total(parts), total);
    int slices = 0, rises = 0;
    for (bool more = true; more; slices++) {
        assert_int_equal(flux_parts_bytes_done(parts), done);
        assert_int_equal(flux_parts_bytes(parts, flux_parts_here(parts)), done);
        assert_true(flux_pipeline_load_next(p, &more, &e));
        rises += flux_parts_bytes_done(parts) > done;
        done = flux_parts_bytes_done(parts);
    }
    assert_int_equal(rises, PART_IMAGE_ENCODER);
    assert_int_equal(slices, PART_IMAGE_ENCODER + 2); /* all parts but that one; the tokenizers; finding that nothing is left */
    assert_int_equal(done, total);
    assert_int_equal(t.sum, total);

    /* The second finds a part here, and holds it when the first goes. */
    assert_true(flux_pipeline_load_begin(pool, b, &LOAD_OPTIONS(PRECISION_AUTO), &q, &e));
    done = flux_parts_bytes_done(flux_pipeline_parts(q));
    assert_true(done > 0 && done < total);
    flux_pipeline_free(p);
    assert_int_equal(part_pool_figures(pool).weights, done);
    for (bool more = true; more;) assert_true(flux_pipeline_load_next(q, &more, &e));
    flux_pipeline_free(q);
    part_pool_free(pool);
}

/* The encoders may be gone before the rest comes: never all parts at once. */
static void a_load_in_slices_may_drop_what_was_used(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    flux_pipeline *p;
    conditioning c;
    bool more = true;
    copies_make_model(f->folder, "m", "", BY_COPY, a);
    assert_true(part_pool_new(f->device, &pool, &e));
    assert_true(flux_pipeline_load_begin(pool, a, &LOAD_OPTIONS(PRECISION_AUTO), &p, &e));
    flux_parts *parts = flux_pipeline_parts(p);
    while ((flux_parts_here(parts) & FLUX_ENCODERS) != FLUX_ENCODERS) assert_true(flux_pipeline_load_next(p, &more, &e));
    assert_int_equal(flux_parts_here(parts), FLUX_ENCODERS);
    assert_true(flux_pipeline_encode(p, "a fox", 16, &c, &e));
    flux_pipeline_drop(p, FLUX_ENCODERS);
    while (more) assert_true(flux_pipeline_load_next(p, &more, &e));
    assert_int_equal(flux_parts_here(parts), FLUX_TRANSFORMER | FLUX_DECODER);
    assert_int_equal(flux_parts_bytes_done(parts), flux_parts_bytes_total(parts));
    conditioning_free(&c);
    flux_pipeline_free(p);
    part_pool_free(pool);
}

/* The image encoder comes when it is asked for, with the decoder's file; pipelines share it, and its weights count as what was made of
 * them. */
static void the_image_encoder_comes_when_asked_for(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES], b[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    copies_make_model(f->folder, "p", "vae", BY_HARD_LINK, a);
    copies_make_model(f->folder, "q", "vae", BY_HARD_LINK, b);
    assert_true(part_pool_new(f->device, &pool, &e));
    flux_pipeline *p = load(pool, a), *q = load(pool, b);
    flux_parts *parts = flux_pipeline_parts(p);
    assert_int_equal(flux_parts_here(parts), FLUX_ALL_PARTS);
    part_figures before = part_pool_figures(pool);
    assert_true(flux_pipeline_ensure(p, FLUX_IMAGE_ENCODER, &e));
    assert_int_equal(flux_parts_here(parts), FLUX_ALL_PARTS | FLUX_IMAGE_ENCODER);
    assert_int_equal(flux_parts_here(flux_pipeline_parts(q)), FLUX_ALL_PARTS);
    part_figures with = part_pool_figures(pool), own = model_part_figures(parts->parts[PART_IMAGE_ENCODER]);
    assert_int_equal(own.weights, own.private + own.device);
    assert_int_equal(with.weights, before.weights + own.weights);
    assert_int_equal(flux_parts_bytes_done(parts), flux_parts_bytes_total(parts));
    assert_true(flux_pipeline_ensure(q, FLUX_IMAGE_ENCODER, &e));
    assert_ptr_equal(flux_pipeline_parts(q)->parts[PART_IMAGE_ENCODER], parts->parts[PART_IMAGE_ENCODER]);
    assert_int_equal(part_pool_figures(pool).weights, with.weights);
    flux_pipeline *r = load(pool, a); /* begins without it, though it is in memory */
    assert_int_equal(flux_parts_here(flux_pipeline_parts(r)), FLUX_ALL_PARTS);
    flux_pipeline_free(r);
    flux_pipeline_drop(p, FLUX_IMAGE_ENCODER);
    assert_int_equal(part_pool_figures(pool).weights, with.weights);
    flux_pipeline_free(q);
    assert_int_equal(part_pool_figures(pool).weights, flux_pipeline_figures(p).weights);
    flux_pipeline_free(p);
    part_pool_free(pool);
}

/* Each part is fine; together they are not. Said as soon as both are known, also of a part that another model has loaded. */
static void parts_that_do_not_fit_are_refused(void **state) {
    const fixture *f = *state;
    char a[COPY_PATH_BYTES], b[COPY_PATH_BYTES], data[COPY_PATH_BYTES], path[COPY_PATH_BYTES + 32];
    error e = {0};
    part_pool *pool;
    flux_pipeline *p, *q;
    copies_make_model(f->folder, "n", "text_encoder,text_encoder_2,vae,transformer", BY_HARD_LINK, a);
    copies_make_model(f->folder, "o", "text_encoder,vae,transformer", BY_HARD_LINK, b);
    snprintf(data, sizeof data, "%s/models/t5_gated", getenv("IMAGINED_TEST_DATA"));
    snprintf(path, sizeof path, "%s/text_encoder_2", b);
    copies_remove_folder(path);
    assert_int_equal(symlink(data, path), 0);
    assert_true(part_pool_new(f->device, &pool, &e));
    for (int i = 0; i < 2; i++) { /* the second time, the transformer is there already */
        assert_false(flux_pipeline_load(pool, b, &LOAD_OPTIONS(PRECISION_F32), &q, &e));
        assert_null(q);
        assert_int_equal(e.code, ERROR_BAD_FILE);
        assert_non_null(strstr(e.text, "joint_attention_dim"));
        if (i == 0) p = load(pool, a);
    }
    flux_pipeline_free(p);
    assert_int_equal(part_pool_figures(pool).weights, 0);
    part_pool_free(pool);
}

/* File after file, in bounded portions, to the end. */
static void prefetching_goes_through_all_shards(void **state) {
    const fixture *f = *state;
    char folder[COPY_PATH_BYTES];
    error e = {0};
    part_pool *pool;
    part_files files;
    model_part *part;
    snprintf(folder, sizeof folder, "%s/models/t5_silu", getenv("IMAGINED_TEST_DATA"));
    assert_true(part_files_read(folder, &files, &e));
    assert_true(part_pool_new(f->device, &pool, &e));
    assert_true(part_pool_take(pool, PART_T5_ENCODER, folder, &files, &LOAD_OPTIONS(PRECISION_F32), &part, &e));
    size_t at = 0, calls = 0;
    while (model_part_prefetch(part, &at, 128 << 10)) assert_true(++calls < 10);
    assert_int_equal(calls, 1); /* two shards of less than a portion each */
    assert_int_equal(at, files.weight_bytes);
    part_pool_give_back(pool, part);
    part_files_free(&files);
    part_pool_free(pool);
}

int main(void) {
    fixture f;
    error e = {0};
    if (!device_open("cpu", 1, &f.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    copies_make_folder(f.folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(files_are_known_by_inode_and_config, &f),
        cmocka_unit_test_prestate(shards_are_found_through_their_index, &f),
        cmocka_unit_test_prestate(a_shared_part_is_in_memory_once, &f),
        cmocka_unit_test_prestate(another_precision_is_another_part, &f),
        cmocka_unit_test_prestate(sharing_changes_no_picture, &f),
        cmocka_unit_test_prestate(parts_come_again_when_they_are_wanted, &f),
        cmocka_unit_test_prestate(a_load_in_slices_tells_its_bytes, &f),
        cmocka_unit_test_prestate(a_load_in_slices_may_drop_what_was_used, &f),
        cmocka_unit_test_prestate(the_image_encoder_comes_when_asked_for, &f),
        cmocka_unit_test_prestate(parts_that_do_not_fit_are_refused, &f),
        cmocka_unit_test_prestate(prefetching_goes_through_all_shards, &f),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    copies_remove_folder(f.folder);
    device_free(f.device);
    return failed;
}
