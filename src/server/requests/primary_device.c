#include "server/requests/primary_device.h"

#include <string.h>

#include "server/requests/services.h"

const char *primary_device_kind(const services *s) {
    const char *told = engine_view_device_kind(dispatch_engine(s->dispatch)), *asked = dispatch_engine_options(s->dispatch)->device;
    if (told[0] != '\0') return told;
    return strcmp(asked, "auto") != 0 ? asked : "cpu";
}

static void read_whole(services *s, device_figures *out) {
    const engine_view *v = dispatch_engine(s->dispatch);
    const engine_snapshot *told = engine_view_snapshot(v);
    if (strcmp(primary_device_kind(s), "cpu") == 0) {
        machine_figures_main_memory(out);
    } else if (!machine_figures_gpu(s->machine, engine_view_device_name(v), out)) {
        *out = (device_figures){.total = told->total_bytes, .free = told->free_bytes, .source = "engine"};
        strncpy(out->name, engine_view_device_name(v), sizeof out->name - 1);
    }
}

vram_stats primary_device_read(services *s, device_figures *whole) {
    read_whole(s, whole);
    const engine_snapshot *told = engine_view_snapshot(dispatch_engine(s->dispatch));
    const vram_figures figures = {
        .total = whole->total,
        .free = whole->free < whole->total ? whole->free : whole->total,
        .limit = (size_t)dispatch_engine_options(s->dispatch)->vram_limit_mb << 20,
        .weights = told->weight_bytes,
        .compute = told->compute_bytes,
        .staging = told->staging_bytes,
        .cache = told->cache_bytes,
        .latents = strcmp(primary_device_kind(s), "cpu") == 0 ? told->latent_bytes : 0, /* they lie in main memory */
        .peak = told->peak_bytes,
    };
    vram_stats stats = vram_stats_of(&figures, (vram_state)s->vram_state);
    s->vram_state = (int)stats.state;
    return stats;
}
