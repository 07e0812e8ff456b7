#include "engine/optimization.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute/ops.h"

enum { USUAL_HEAD_WIDTH = 128 };

/* f32 products with errors up to the first are exact but for their order of summation; 16-bit ones are right up to the second: bf16 has 8
 * bits. */
static const double exact = 1e-5, right = 1e-2;
static const double too_slow = 3; /* times f32's seconds; wide, since measurements on a busy machine vary and pictures should not */

struct optimization {
    optimization_probe probe;
    optimization_choices choices;
    precision optimal;
    bool measured;
};

static const char *torch_name(precision p) {
    return p == PRECISION_BF16 ? "torch.bfloat16" : p == PRECISION_F16 ? "torch.float16" : "torch.float32";
}

static void choose(engine_choice *c, const char *value, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void choose(engine_choice *c, const char *value, const char *format, ...) {
    va_list args;
    snprintf(c->value, sizeof c->value, "%s", value);
    va_start(args, format);
    vsnprintf(c->reason, sizeof c->reason, format, args);
    va_end(args);
}

static bool is_cpu(const optimization *o) { return strcmp(o->probe.kind, "cpu") == 0; }
static bool is_cuda(const optimization *o) { return strcmp(o->probe.kind, "cuda") == 0; }

/* ── a device ── */

static product_probe device_product(void *context, precision p) {
    device *d = context;
    enum ggml_type type = p == PRECISION_BF16 ? GGML_TYPE_BF16 : p == PRECISION_F16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
    return product_probe_measure(d, type, device_is_cpu(d) ? 256 : 0);
}

static bool device_fused_attention(void *context) { return compute_attention_is_fused(context, USUAL_HEAD_WIDTH); }

static void device_autocast_to(void *context, precision p) {
    device *d = context;
    device_set_autocast(d, p);
    if (ledger_total(device_ledger(d)) == 0) device_reset_peak(d); /* what measuring took is no task's */
}

bool optimization_new(device *d, optimization **out, error *e) {
    const optimization_probe probe = {d, device_kind(d), device_product, device_fused_attention, device_autocast_to};
    return optimization_new_probed(&probe, out, e);
}

bool optimization_new_probed(const optimization_probe *probe, optimization **out, error *e) {
    *out = NULL;
    optimization *o = calloc(1, sizeof *o);
    if (o == NULL) return error_no_memory(e, "the optimization manager", sizeof *o);
    o->probe = *probe;
    o->optimal = PRECISION_F32;
    o->choices.flash_attention_available = !is_cpu(o) && probe->fused_attention(probe->context);
    choose(&o->choices.optimal_dtype, torch_name(PRECISION_F32), "not measured yet: that is done when the first model is loaded");
    choose(&o->choices.vae, "whole", "decoding takes no more memory than there is");
    choose(&o->choices.tf32, is_cuda(o) ? "off" : "unavailable",
           is_cuda(o) ? "not measured yet" : "TF32 is a number format of CUDA devices");
    optimization_enable_attention_optimization(o, o->choices.flash_attention_available, 0);
    *out = o;
    return true;
}

void optimization_free(optimization *o) { free(o); }

/* ── dtype ── */

static bool is_right(const product_probe *p) { return p->runs && p->distance <= right; }

static void choose_on_cpu(optimization *o, const product_probe *f32, const product_probe *bf16) {
    double operations = 2e-9 * (double)f32->size * (double)f32->size * (double)f32->size;
    choose(&o->choices.optimal_dtype, torch_name(PRECISION_F32),
           "the CPU's kernels compute in f32, widening weights exactly: %.0f GFLOPS with f32 weights, %.0f with bf16",
           operations / f32->seconds, operations / bf16->seconds);
}

/* bf16 where it is right, else f16; neither where it is far slower than f32. */
static void choose_on_gpu(optimization *o, const product_probe *f32) {
    static const precision halves[] = {PRECISION_BF16, PRECISION_F16};
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        product_probe half = o->probe.product(o->probe.context, halves[i]);
        if (!is_right(&half) || (is_right(f32) && half.seconds > too_slow * f32->seconds)) continue;
        o->optimal = halves[i];
        choose(&o->choices.optimal_dtype, torch_name(halves[i]),
               "f32 models are converted: half the device memory; products are right within %.1e and take %.2f of f32's time",
               half.distance, half.seconds / f32->seconds);
        return;
    }
    choose(&o->choices.optimal_dtype, torch_name(PRECISION_F32),
           "the device has no products in 16 bits that are right and less than %.0f times slower", too_slow);
}

static void choose_tf32(optimization *o, const product_probe *f32) {
    bool rounds = !f32->runs || f32->distance > exact;
    if (is_cuda(o))
        choose(&o->choices.tf32, rounds ? "on" : "off",
               "CUDA's libraries choose: f32 products are exact to %.1e; NVIDIA_TF32_OVERRIDE=0 at start forbids it", f32->distance);
    else if (strcmp(o->probe.kind, "vulkan") == 0 && rounds)
        choose(&o->choices.tf32, "unavailable",
               "no CUDA device; f32 products round to f16, exact to %.1e, unless GGML_VK_DISABLE_F16=1 is set at start", f32->distance);
    else
        choose(&o->choices.tf32, "unavailable", "TF32 is a number format of CUDA devices; f32 products are exact to %.1e here",
               f32->distance);
}

precision optimization_get_optimal_dtype(optimization *o) {
    if (o->measured) return o->optimal;
    o->measured = true;
    product_probe f32 = o->probe.product(o->probe.context, PRECISION_F32);
    if (is_cpu(o)) {
        product_probe bf16 = o->probe.product(o->probe.context, PRECISION_BF16);
        choose_on_cpu(o, &f32, &bf16);
    } else {
        choose_on_gpu(o, &f32);
    }
    choose_tf32(o, &f32);
    o->choices.amp_enabled = o->optimal != PRECISION_F32;
    o->probe.set_autocast(o->probe.context, o->optimal);
    return o->optimal;
}

precision optimization_autocast(optimization *o, precision requested) {
    return requested == PRECISION_AUTO ? optimization_get_optimal_dtype(o) : requested;
}

/* ── attention, VAE ── */

void optimization_enable_attention_optimization(optimization *o, bool half, size_t slice) {
    engine_choice *c = &o->choices.attention;
    if (is_cpu(o)) choose(c, "own kernel", "blocks of queries whose scores stay in the processor's cache");
    else if (half && o->choices.flash_attention_available)
        choose(c, "flash", "the device has a fused kernel, which never writes scores to memory");
    else if (slice > 0)
        choose(c, "sliced", "%s, and memory is short: scores of at most %zu MiB at a time",
               half ? "there is no fused kernel" : "f32 excludes the fused kernel", (slice >> 20) + 1);
    else
        choose(c, "whole", "%s, and there is memory for all scores",
               half ? "the device has no fused kernel" : "f32 excludes the fused kernel");
}

void optimization_optimize_model(optimization *o, bool half, size_t slice, int vae_tile) {
    optimization_choices *c = &o->choices;
    c->amp_enabled = half && !is_cpu(o);
    optimization_enable_attention_optimization(o, half, slice);
    if (vae_tile > 0) {
        char value[sizeof c->vae.value];
        snprintf(value, sizeof value, "tiled %d", vae_tile);
        choose(&c->vae, value, "the whole picture does not fit in memory at once; tiles of %d latent cells overlap and are blended",
               vae_tile);
    } else {
        choose(&c->vae, "whole", "decoding takes no more memory than there is");
    }
}

const optimization_choices *optimization_get_choices(const optimization *o) { return &o->choices; }

void optimization_tell(const optimization *o, engine_snapshot *out) {
    out->amp_enabled = o->choices.amp_enabled;
    out->flash_attention_available = o->choices.flash_attention_available;
    out->dtype = o->choices.optimal_dtype;
    out->attention = o->choices.attention;
    out->vae = o->choices.vae;
    out->tf32 = o->choices.tf32;
}
