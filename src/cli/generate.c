#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/model_choice.h"
#include "cli/options.h"
#include "cli/progress_bar.h"
#include "image/parameters.h"
#include "image/png.h"
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
        return error_field(e, ERROR_INVALID, "seed", "--seed is '%s': it must be a whole number from 0 to 18446744073709551615, or -1 for a random one", text);
    *seed = n;
    return true;
}

static bool draw(void *context, const imagined_progress *p) {
    progress_bar_draw(context, p);
    return true;
}

static const char *given_text(const config *c, option o) { return config_origin_of(c, o) != CONFIG_FROM_DEFAULT ? config_text(c, o) : NULL; }

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

static bool write_picture(const char *path, const imagined_image *image, const imagined_request *r, const model_info *m, error *e) {
    const image_parameters parameters = {
        .prompt = r->prompt,
        .negative_prompt = r->negative_prompt,
        .sampler = "Euler",
        .model = m->name,
        .width = image->width,
        .height = image->height,
        .steps = image->steps,
        .guidance_scale = image->guidance_scale,
        .true_cfg_scale = r->true_cfg_scale,
        .strength = image->strength,
        .seed = image->seed,
    };
    buffer text = {0}, png = {0};
    image_parameters_write(&parameters, &text);
    bool ok = (buffer_ok(&text) || error_no_memory(e, "the picture's text", text.size)) &&
              png_encode(image->rgb, image->width, image->height, &(png_text_entry){"parameters", buffer_text(&text)}, 1, &png, e) &&
              file_replace(path, png.data, png.size, e);
    buffer_free(&text);
    buffer_free(&png);
    return ok;
}

/* Asked before the work: nobody wants to wait for a picture that cannot be written. */
static bool check_output(const char *path, error *e) {
    char folder[PATH_MAX];
    struct stat info;
    if (path[0] == '\0') return error_field(e, ERROR_INVALID, "output", "--output is empty: name a file");
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return error_field(e, ERROR_INVALID, "output", "%s is a folder: name a file in it", path);
    if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
        return error_field(e, ERROR_INVALID, "output", "the path of --output is too long");
    char *slash = strrchr(folder, '/');
    if (slash == NULL) strcpy(folder, ".");
    else slash[slash == folder ? 1 : 0] = '\0';
    if (access(folder, W_OK | X_OK) == 0) return true;
    error_system(e, "write", path);
    e->code = ERROR_IO;
    return false;
}

static bool run(const config *c, error *e) {
    model_info model;
    imagined_request request;
    imagined_fault fault;
    imagined *engine;
    imagined_image image;
    progress_bar bar;
    const char *path = config_text(c, OPTION_OUTPUT);
    if (!check_output(path, e)) return false;
    if (!model_choice_find(c, config_text(c, OPTION_MODEL), &model, e) || !fill_request(c, &model, &request, e)) return false;
    const imagined_options options = {
        .device = config_text(c, OPTION_DEVICE),
        .threads = (int)config_integer(c, OPTION_THREADS),
        .max_models = 1,
        .vram_limit_mb = (int)config_integer(c, OPTION_VRAM_LIMIT_MB),
    };
    if (!imagined_open(&options, &engine, &fault)) return error_field(e, (error_code)fault.code, fault.field, "%s", fault.text);
    progress_bar_start(&bar, config_boolean(c, OPTION_QUIET));
    bool ok = imagined_generate(engine, &request, draw, &bar, &image, &fault);
    progress_bar_end(&bar);
    if (!ok) error_field(e, (error_code)fault.code, fault.field, "%s", fault.text);
    ok = ok && write_picture(path, &image, &request, &model, e);
    if (ok && !config_boolean(c, OPTION_QUIET))
        fprintf(stderr, "%s: %dx%d, %d step%s, seed %llu\n", path, image.width, image.height, image.steps, image.steps == 1 ? "" : "s",
                (unsigned long long)image.seed);
    imagined_image_free(&image);
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
