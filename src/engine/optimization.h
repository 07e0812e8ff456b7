/* The optimization manager: what the device does best, measured once, and what follows from it for a model; each choice with its reason, in
 * an operator's words.
 *
 * dtype      The CPU's kernels compute in f32 whatever is stored, so 16-bit weights gain nothing there beyond their size in the file, and
 *            an f32 model stays as it is. A GPU holds half as many bytes of a model in 16 bits: f32 models are converted while they are
 *            loaded, unless products in 16 bits are wrong there or take more than three times as long as in f32. bf16 goes before f16,
 *            which T5's activations overflow. A request's own precision always holds. Norms, softmax and the VAE are f32 in any case.
 * attention  the CPU's own kernel; elsewhere the device's fused one ("flash") for models in 16 bits, else whole or in slices, as memory is
 *            planned.
 * tf32       only CUDA has it, and only its own libraries choose.
 *
 * One thread, the device's. */
#ifndef IMAGINED_ENGINE_OPTIMIZATION_H
#define IMAGINED_ENGINE_OPTIMIZATION_H

#include <stdbool.h>

#include "base/error.h"
#include "compute/device.h"
#include "compute/product_probe.h"
#include "engine/engine_snapshot.h"

/* A device as it is measured. Tests bring their own. */
typedef struct optimization_probe {
    void *context;
    const char *kind; /* "cpu", "vulkan", "cuda", … */
    product_probe (*product)(void *context, precision p); /* F32, BF16 or F16 */
    bool (*fused_attention)(void *context);
    void (*set_autocast)(void *context, precision p); /* told once, after measuring */
} optimization_probe;

/* As optimization of a snapshot tells it. */
typedef struct optimization_choices {
    bool amp_enabled; /* some stage of the last model, or of the next, runs below f32 */
    bool flash_attention_available;
    engine_choice optimal_dtype; /* "torch.bfloat16", "torch.float16", "torch.float32" */
    engine_choice attention;     /* "own kernel", "flash", "sliced", "whole" */
    engine_choice vae;           /* "whole", "tiled N" */
    engine_choice tf32;          /* "unavailable", "on", "off" */
} optimization_choices;

typedef struct optimization optimization;

/* Measures nothing yet. The device outlives it. */
bool optimization_new(device *d, optimization **out, error *e);
bool optimization_new_probed(const optimization_probe *probe, optimization **out, error *e); /* copied */
void optimization_free(optimization *o); /* NULL is fine */

/* The type that products with many numbers are best in. Measures at the first call: milliseconds, and what it takes a driver to make its
 * kernels. */
precision optimization_get_optimal_dtype(optimization *o);
/* Called before a model is loaded: measures when it is needed, so that PRECISION_AUTO means what the device is best at. Returns what f32
 * weights will be loaded as. */
precision optimization_autocast(optimization *o, precision requested);
/* How a model attends whose matrices are `half` (below f32), when at most `slice` bytes of scores may be in memory (0: any). */
void optimization_enable_attention_optimization(optimization *o, bool half, size_t slice);
/* What a task's model was given, for the choices to tell: the types of its matrices, attention's slice as above, the VAE's tile in latent
 * cells (0: whole). */
void optimization_optimize_model(optimization *o, bool half, size_t slice, int vae_tile);

/* The latest; before anything was measured, what is known without. Borrowed. */
const optimization_choices *optimization_get_choices(const optimization *o);
void optimization_tell(const optimization *o, engine_snapshot *out); /* fills in the snapshot's optimizations */

#endif
