#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/model_choice.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "image/image.h"
#include "image/parameters.h"
#include "imagined.h"

static const config_command generate = {
    .name = "generate",
    .bit = FOR_GENERATE,
    .arguments = "PROMPT",
    .min_arguments = 1,
    .max_arguments = 1,
    .summary = "make one picture and write it to a file",
    .details = "imagined generate \"a fox on a blue background\" -o fox.png\n"
               "The same engine as the server's, in this process: the same seed gives the same file.",
};

static bool parse_seed(const char *text, uint64_t *seed, error *e) {
    if (strcmp(text, "-1") == 0) {
        if (getrandom(seed, sizeof *seed, 0) != sizeof *seed) return error_set(e, ERROR_IO, "the system gave no random seed");
        return true;
    }
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return error_field(e, ERROR_INVALID, "seed",
                           "--seed is '%s': it must be a whole number from 0 to 18446744073709551615, or -1 for a random one", text);
    *seed = n;
    return true;
}

static bool draw(void *context, const imagined_progress *p) {
    progress_bar_draw(context, p);
    return true;
}

static bool is_given(const config *c, option o) { return config_origin_of(c, o) != CONFIG_FROM_DEFAULT; }
static const char *given_text(const config *c, option o) { return is_given(c, o) ? config_text(c, o) : NULL; }

static bool fill_request(const config *c, const model_info *m, imagined_request *r, error *e) {
    *r = (imagined_request)IMAGINED_REQUEST_DEFAULTS;
    r->model_folder = m->folder;
    r->prompt = config_argument(c, 0);
    r->negative_prompt = given_text(c, OPTION_NEGATIVE_PROMPT);
    r->precision = config_text(c, OPTION_PRECISION);
    r->width = (int)config_integer(c, OPTION_WIDTH);
    r->height = (int)config_integer(c, OPTION_HEIGHT);
    r->steps = (int)config_integer(c, OPTION_STEPS);
    r->max_sequence_length = (int)config_integer(c, OPTION_MAX_SEQUENCE_LENGTH);
    r->guidance_scale = config_real(c, OPTION_GUIDANCE);
    r->true_cfg_scale = config_real(c, OPTION_TRUE_CFG);
    r->image = given_text(c, OPTION_IMAGE);
    r->mask = given_text(c, OPTION_MASK);
    r->mask_is_alpha = strcmp(config_text(c, OPTION_MASK_SOURCE), "alpha") == 0;
    r->strength = config_real(c, OPTION_STRENGTH);
    if (r->strength == 0) return error_field(e, ERROR_INVALID, "strength", "--strength is 0: it must be above 0, at most 1");
    if (strcmp(r->precision, "int8") == 0)
        return error_field(e, ERROR_UNSUPPORTED, "precision", "int8 is not available yet: use auto, f32, bf16 or f16");
    return parse_seed(config_text(c, OPTION_SEED), &r->seed, e);
}

/* What was asked for and changes nothing of the picture. */
static void tell_what_means_nothing(const config *c, const imagined_request *r, const model_info *m) {
    const struct {
        bool given;
        const char *text;
    } notes[] = {
        {r->negative_prompt != NULL && r->true_cfg_scale <= 1, "--negative-prompt means nothing without --true-cfg above 1"},
        {r->negative_prompt == NULL && r->true_cfg_scale > 1, "--true-cfg means nothing without --negative-prompt"},
        {is_given(c, OPTION_GUIDANCE) && !m->guidance_embedded, "--guidance means nothing to this model: it has no embedded guidance"},
        {is_given(c, OPTION_STRENGTH) && r->image == NULL, "--strength means nothing without --image"},
    };
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (notes[i].given) fprintf(stderr, "imagined generate: %s\n", notes[i].text);
}

enum { QUALITY = 90 }; /* of JPEG and WebP, as over HTTP where none is named */

static bool write_picture(const output *to, const imagined_image *picture, const imagined_request *r, const model_info *m, error *e) {
    const image_parameters parameters = {
        .prompt = r->prompt,
        .negative_prompt = r->negative_prompt,
        .sampler = "Euler",
        .model = m->name,
        .width = picture->width,
        .height = picture->height,
        .steps = picture->steps,
        .guidance_scale = picture->guidance_scale,
        .true_cfg_scale = r->true_cfg_scale,
        .strength = picture->strength,
        .seed = picture->seed,
    };
    const image pixels = {.pixels = picture->rgb, .width = picture->width, .height = picture->height, .channels = 3};
    buffer text = {0}, file = {0};
    image_parameters_write(&parameters, &text);
    bool ok = (buffer_ok(&text) || error_no_memory(e, "the picture's text", text.size)) &&
              image_encode(&pixels, to->format, QUALITY, buffer_text(&text), &file, e) && output_write(to, &file, e);
    buffer_free(&text);
    buffer_free(&file);
    return ok;
}

static bool run(const config *c, error *e) {
    model_info model;
    imagined_request request;
    imagined_fault fault;
    imagined *engine;
    imagined_image picture;
    progress_bar bar;
    output to;
    if (!output_choose(config_text(c, OPTION_OUTPUT), &to, e)) return false;
    if (!model_choice_find(c, config_text(c, OPTION_MODEL), &model, e) || !fill_request(c, &model, &request, e)) return false;
    if (!config_boolean(c, OPTION_QUIET)) tell_what_means_nothing(c, &request, &model);
    const imagined_options options = {
        .device = config_text(c, OPTION_DEVICE),
        .threads = (int)config_integer(c, OPTION_THREADS),
        .max_models = 1,
        .vram_limit_mb = (int)config_integer(c, OPTION_VRAM_LIMIT_MB),
    };
    if (!imagined_open(&options, &engine, &fault)) return error_field(e, (error_code)fault.code, fault.field, "%s", fault.text);
    progress_bar_start(&bar, config_boolean(c, OPTION_QUIET));
    bool ok = imagined_generate(engine, &request, draw, &bar, &picture, &fault);
    progress_bar_end(&bar);
    if (!ok) error_field(e, (error_code)fault.code, fault.field, "%s", fault.text);
    ok = ok && write_picture(&to, &picture, &request, &model, e);
    if (ok && !config_boolean(c, OPTION_QUIET))
        fprintf(stderr, "%s: %dx%d, %d step%s, seed %llu\n", to.standard ? "the standard output" : to.path, picture.width, picture.height,
                picture.steps, picture.steps == 1 ? "" : "s", (unsigned long long)picture.seed);
    imagined_image_free(&picture);
    imagined_close(engine);
    return ok;
}

int command_generate(int argc, char **argv) {
    int status;
    error e = {0};
    config *c = options_load(&generate, argc, argv, &status);
    if (c == NULL) return status;
    log_configure(LOG_WARNING, "generate");
    bool ok = run(c, &e);
    if (!ok) fprintf(stderr, "imagined generate: %s\n", e.text);
    config_free(c);
    return ok ? 0 : e.code == ERROR_INVALID ? 2 : 1;
}
