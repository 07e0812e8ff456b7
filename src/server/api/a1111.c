#include "server/api/a1111.h"

#include "server/api/a1111_errors.h"
#include "server/api/a1111_generate.h"
#include "server/api/a1111_infotext.h"
#include "server/api/a1111_lists.h"
#include "server/api/a1111_models.h"
#include "server/api/a1111_options.h"
#include "server/api/a1111_progress.h"

static const route routes[] = {
    {"POST", "/sdapi/v1/txt2img", a1111_txt2img, A1111_BODY_BYTES}, /* with ControlNet's pictures, which are ignored, among the rest */
    {"POST", "/sdapi/v1/img2img", a1111_img2img, A1111_BODY_BYTES},
    {"POST", "/sdapi/v1/png-info", a1111_png_info, A1111_BODY_BYTES},
    {"GET", "/sdapi/v1/progress", a1111_get_progress},
    {"POST", "/sdapi/v1/interrupt", a1111_interrupt},
    {"POST", "/sdapi/v1/skip", a1111_skip},
    {"GET", "/sdapi/v1/options", a1111_get_options},
    {"POST", "/sdapi/v1/options", a1111_set_options},
    {"GET", "/sdapi/v1/sd-models", a1111_get_models},
    {"POST", "/sdapi/v1/refresh-checkpoints", a1111_refresh_models},
    {"POST", "/sdapi/v1/unload-checkpoint", a1111_unload_model},
    {"POST", "/sdapi/v1/reload-checkpoint", a1111_reload_model},
    {"GET", "/sdapi/v1/memory", a1111_get_memory},
    {"POST", "/sdapi/v1/refresh-vae", a1111_refresh_nothing},
    {"POST", "/sdapi/v1/refresh-loras", a1111_refresh_nothing},
    {"POST", "/sdapi/v1/refresh-embeddings", a1111_refresh_nothing},
    {"GET", "/sdapi/v1/samplers", a1111_get_list},
    {"GET", "/sdapi/v1/schedulers", a1111_get_list},
    {"GET", "/sdapi/v1/sd-vae", a1111_get_list},
    {"GET", "/sdapi/v1/sd-modules", a1111_get_list},
    {"GET", "/sdapi/v1/loras", a1111_get_list},
    {"GET", "/sdapi/v1/embeddings", a1111_get_list},
    {"GET", "/sdapi/v1/hypernetworks", a1111_get_list},
    {"GET", "/sdapi/v1/upscalers", a1111_get_list},
    {"GET", "/sdapi/v1/latent-upscale-modes", a1111_get_list},
    {"GET", "/sdapi/v1/face-restorers", a1111_get_list},
    {"GET", "/sdapi/v1/realesrgan-models", a1111_get_list},
    {"GET", "/sdapi/v1/prompt-styles", a1111_get_list},
    {"GET", "/sdapi/v1/scripts", a1111_get_list},
    {"GET", "/sdapi/v1/script-info", a1111_get_list},
    {"GET", "/sdapi/v1/extensions", a1111_get_list},
    {"GET", "/sdapi/v1/cmd-flags", a1111_get_list},
};

static const route internal_routes[] = {
    {"GET", "/internal/ping", a1111_get_list},
};

const route_table a1111_api = {"/sdapi/v1/", routes, sizeof routes / sizeof *routes, a1111_answer_error};
const route_table a1111_internal_api = {"/internal/", internal_routes, sizeof internal_routes / sizeof *internal_routes,
                                        a1111_answer_error};
