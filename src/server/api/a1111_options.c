#include "server/api/a1111_options.h"

#include "server/api/a1111_body.h"
#include "server/api/a1111_errors.h"
#include "server/api/a1111_models.h"
#include "server/http/answer.h"
#include "server/requests/services.h"

/* The settings that clients look at before they send anything, as they are here; the model comes on top. */
static const char fixed[] =
    "{\"sd_checkpoint_hash\":\"\",\"sd_vae\":\"Automatic\",\"CLIP_stop_at_last_layers\":1,\"samples_format\":\"png\",\"grid_save\":false,\"return_grid\":false,"
    "\"samples_save\":true,\"save_images_add_number\":true,\"enable_pnginfo\":true,\"show_progressbar\":true,\"live_previews_enable\":true,"
    "\"show_progress_every_n_steps\":1,\"eta_noise_seed_delta\":0,\"randn_source\":\"CPU\",\"face_restoration_model\":null,\"upscaler_for_img2img\":null,"
    "\"sd_lora\":\"None\",\"sd_hypernetwork\":\"None\",\"img2img_fix_steps\":false,\"inpainting_mask_weight\":1.0,\"initial_noise_multiplier\":1.0}";

void a1111_get_options(services *s, http_exchange *x, const char *id) {
    (void)id;
    const model_info *m;
    error why = {0};
    json_document settings;
    if (!a1111_model_chosen(s, &m, &why) || !json_parse(fixed, sizeof fixed - 1, "the options", &settings, &why)) {
        a1111_answer_error(x, 500, &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_doc_mut_copy(settings.doc, NULL);
    if (doc != NULL) yyjson_mut_obj_add_strcpy(doc, yyjson_mut_doc_get_root(doc), "sd_model_checkpoint", m->name);
    json_document_free(&settings);
    answer_json(x, 200, NULL, doc);
}

static bool apply(services *s, json options, error *e) {
    const char *name = NULL;
    if (!json_text(options, "sd_model_checkpoint", 1024, &name, e)) return false;
    if (name == NULL || name[0] == '\0') return true;
    const model_info *m = a1111_model_named(s, name);
    if (m == NULL)
        return json_complain(options, "sd_model_checkpoint", e, "is '%.128s': there is no such model; GET /sdapi/v1/sd-models lists them",
                             name);
    a1111_choose_model(s, m);
    return true;
}

void a1111_set_options(services *s, http_exchange *x, const char *id) {
    (void)id;
    json_document body;
    error why = {0};
    if (!a1111_read_body(x, &body)) return;
    bool ok = apply(s, json_root(&body), &why);
    json_document_free(&body);
    if (ok) answer_text(x, 200, "application/json", "null");
    else a1111_answer_error(x, 0, &why);
}
