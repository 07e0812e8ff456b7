#include "sampling/flow_match_euler.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/json.h"

enum { CONFIG_CAP = 1 << 20 };

/* The reference computes with NumPy float32 arrays and Python floats: a Python float meeting an array is rounded to float32 first, and each
 * operation rounds. The build's -ffp-contract=off keeps it so. */

static bool check_class(json root, error *e) {
    const char *name = "FlowMatchEulerDiscreteScheduler";
    if (!json_text(root, "_class_name", 256, &name, e)) return false;
    if (strcmp(name, "FlowMatchEulerDiscreteScheduler") == 0) return true;
    return error_set(e, ERROR_UNSUPPORTED, "%s: '_class_name' is \"%s\": only FlowMatchEulerDiscreteScheduler is supported", root.source,
                     name);
}

/* Options that would change the schedule and are not built: each must be absent or false. */
static bool refuse_unsupported(json root, error *e) {
    static const char *const keys[] = {"use_karras_sigmas",   "use_exponential_sigmas", "use_beta_sigmas",
                                       "stochastic_sampling", "invert_sigmas",          "use_flow_sigmas"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        bool on = false;
        if (!json_bool(root, keys[i], &on, e)) return false;
        if (on) return error_set(e, ERROR_UNSUPPORTED, "%s: '%s' is not supported", root.source, keys[i]);
    }
    return true;
}

static bool read_time_shift(json root, flow_match *f, error *e) {
    const char *type = "exponential";
    if (!json_text(root, "time_shift_type", 64, &type, e)) return false;
    f->linear_time_shift = strcmp(type, "linear") == 0;
    if (f->linear_time_shift || strcmp(type, "exponential") == 0) return true;
    return json_complain(root, "time_shift_type", e, "must be \"exponential\" or \"linear\"");
}

static bool read_options(json root, flow_match *f, error *e) {
    return json_int(root, "num_train_timesteps", 1, 1000000, &f->train_timesteps, e) &&
           json_number(root, "shift", 1e-6, 1e6, &f->shift, e) &&
           json_bool(root, "use_dynamic_shifting", &f->dynamic_shifting, e) &&
           json_number(root, "base_shift", -50, 50, &f->base_shift, e) && json_number(root, "max_shift", -50, 50, &f->max_shift, e) &&
           json_int(root, "base_image_seq_len", 0, INT32_MAX, &f->base_image_tokens, e) &&
           json_int(root, "max_image_seq_len", 1, INT32_MAX, &f->max_image_tokens, e) &&
           json_number(root, "shift_terminal", 0, 0.999999, &f->shift_terminal, e) && read_time_shift(root, f, e);
}

static bool read_config(json root, flow_match *f, error *e) {
    *f = (flow_match){.train_timesteps = 1000,
                      .shift = 1.0,
                      .base_shift = 0.5,
                      .max_shift = 1.15,
                      .base_image_tokens = 256,
                      .max_image_tokens = 4096};
    if (!yyjson_is_obj(root.value)) return error_set(e, ERROR_BAD_FILE, "%s: must hold an object", root.source);
    if (!check_class(root, e) || !refuse_unsupported(root, e) || !read_options(root, f, e)) return false;
    if (f->base_image_tokens >= f->max_image_tokens)
        return json_complain(root, "max_image_seq_len", e, "must be greater than 'base_image_seq_len'");
    return true;
}

bool flow_match_load(const char *path, flow_match *out, error *e) {
    json_document d = {0};
    bool ok = json_load(path, CONFIG_CAP, &d, e) && read_config(json_root(&d), out, e);
    json_document_free(&d);
    return ok;
}

/* µ, linear in the number of image tokens (FluxPipeline's calculate_shift). */
static double dynamic_shift(const flow_match *f, int64_t image_tokens) {
    double slope = (f->max_shift - f->base_shift) / (double)(f->max_image_tokens - f->base_image_tokens);
    double intercept = f->base_shift - slope * (double)f->base_image_tokens;
    return (double)image_tokens * slope + intercept;
}

/* numpy.linspace(1, 1/steps, steps) rounded to float32. */
static void even_sigmas(int steps, float *sigmas) {
    double last = 1.0 / steps, stride = steps > 1 ? (last - 1.0) / (steps - 1) : 0;
    for (int i = 0; i < steps; i++) sigmas[i] = (float)(i * stride + 1.0);
    if (steps > 1) sigmas[steps - 1] = (float)last;
}

/* Stretches the schedule so that its last value is shift_terminal. A schedule of one step, all of it at σ = 1, stays (the reference divides
 * 0 by 0 there). */
static void stretch_to_terminal(const flow_match *f, int steps, float *sigmas) {
    float scale = (1.0f - sigmas[steps - 1]) / (float)(1.0 - f->shift_terminal);
    if (scale == 0.0f) return;
    for (int i = 0; i < steps; i++) sigmas[i] = 1.0f - (1.0f - sigmas[i]) / scale;
}

void flow_match_sigmas(const flow_match *f, int steps, int64_t image_tokens, float *sigmas, float *timesteps) {
    even_sigmas(steps, sigmas);
    if (f->dynamic_shifting) {
        double mu = dynamic_shift(f, image_tokens);
        float shift = (float)(f->linear_time_shift ? mu : exp(fmin(mu, 80.0))); /* from e^80 on every σ but the last is 1 in float32 */
        for (int i = 0; i < steps; i++) sigmas[i] = shift / (shift + (1.0f / sigmas[i] - 1.0f));
    } else {
        float shift = (float)f->shift, more = (float)(f->shift - 1.0);
        for (int i = 0; i < steps; i++) sigmas[i] = shift * sigmas[i] / (1.0f + more * sigmas[i]);
    }
    if (f->shift_terminal > 0) stretch_to_terminal(f, steps, sigmas);
    if (timesteps != NULL) {
        for (int i = 0; i < steps; i++) timesteps[i] = sigmas[i] * (float)f->train_timesteps;
    }
    sigmas[steps] = 0.0f;
}

void flow_match_step(float *latent, const float *velocity, int64_t count, float sigma, float next) {
    float change = next - sigma;
    for (int64_t i = 0; i < count; i++) latent[i] += change * velocity[i];
}
