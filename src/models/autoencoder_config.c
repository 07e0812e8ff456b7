#include "models/autoencoder_config.h"

#include <math.h>
#include <string.h>

static bool read_channels(json root, autoencoder_kl_config *c, error *e) {
    json list = {0};
    if (!json_array(root, "block_out_channels", &list, e)) return false;
    if (list.value == NULL) {
        c->blocks = 1;
        c->channels[0] = 64;
        return true;
    }
    c->blocks = (int64_t)yyjson_arr_size(list.value);
    if (c->blocks < 1 || c->blocks > AUTOENCODER_KL_MAX_BLOCKS)
        return json_complain(root, "block_out_channels", e, "has %lld entries: it must have 1 to %d", (long long)c->blocks,
                             AUTOENCODER_KL_MAX_BLOCKS);
    size_t i, count;
    yyjson_val *item;
    yyjson_arr_foreach(list.value, i, count, item) {
        if (!yyjson_is_uint(item) || yyjson_get_uint(item) < 1 || yyjson_get_uint(item) > 1 << 16)
            return json_complain(root, "block_out_channels", e, "must hold whole numbers from 1 to 65536");
        c->channels[i] = (int64_t)yyjson_get_uint(item);
        if (c->channels[i] % c->groups != 0)
            return json_complain(root, "block_out_channels", e, "holds %lld, which is no multiple of 'norm_num_groups', %lld",
                                 (long long)c->channels[i], (long long)c->groups);
    }
    return true;
}

bool autoencoder_config_blocks(json root, const autoencoder_kl_config *c, const char *key, const char *class_name, error *e) {
    json list = {0};
    if (!json_array(root, key, &list, e)) return false;
    if (list.value == NULL) return true;
    if ((int64_t)yyjson_arr_size(list.value) != c->blocks)
        return json_complain(root, key, e, "must have as many entries as 'block_out_channels', %lld", (long long)c->blocks);
    size_t i, count;
    yyjson_val *item;
    yyjson_arr_foreach(list.value, i, count, item) {
        if (!yyjson_equals_str(item, class_name))
            return json_complain(root, key, e, "holds something else than \"%s\", which is not supported", class_name);
    }
    return true;
}

static bool read_factors(json root, autoencoder_kl_config *c, error *e) {
    if (!json_number(root, "scaling_factor", -1e6, 1e6, &c->scaling_factor, e)) return false;
    if (fabs(c->scaling_factor) < 1e-6) return json_complain(root, "scaling_factor", e, "is too small to divide by");
    return json_number(root, "shift_factor", -1e6, 1e6, &c->shift_factor, e);
}

bool autoencoder_config_read(json root, autoencoder_kl_config *c, error *e) {
    *c = (autoencoder_kl_config){.in_channels = 3, .latent_channels = 4, .out_channels = 3, .layers_per_block = 1, .groups = 32,
                                 .scaling_factor = 0.18215, .quant_conv = true, .post_quant_conv = true, .mid_attention = true};
    const char *class_name = "AutoencoderKL", *act = "silu";
    if (!json_text(root, "_class_name", 128, &class_name, e)) return false;
    if (strcmp(class_name, "AutoencoderKL") != 0)
        return error_set(e, ERROR_UNSUPPORTED, "%s: '_class_name' is \"%s\": only AutoencoderKL is supported", root.source, class_name);
    if (!json_int(root, "latent_channels", 1, 1024, &c->latent_channels, e) || !json_int(root, "in_channels", 3, 3, &c->in_channels, e) ||
        !json_int(root, "out_channels", 3, 3, &c->out_channels, e) || !json_int(root, "layers_per_block", 1, 64, &c->layers_per_block, e) ||
        !json_int(root, "norm_num_groups", 1, 1 << 16, &c->groups, e) ||
        !json_bool(root, "use_quant_conv", &c->quant_conv, e) || !json_bool(root, "use_post_quant_conv", &c->post_quant_conv, e) ||
        !json_bool(root, "mid_block_add_attention", &c->mid_attention, e) || !json_text(root, "act_fn", 64, &act, e))
        return false;
    if (!activation_parse(act, &c->act)) return json_complain(root, "act_fn", e, "is \"%s\", which is not supported", act);
    return read_channels(root, c, e) && read_factors(root, c, e);
}
