#include "image/parameters.h"

#include <inttypes.h>
#include <string.h>

/* A value of the last line, quoted as JSON does where the separators of that line occur in it. */
static void write_value(const char *value, buffer *out) {
    if (strpbrk(value, ",:\"\\\r\n") == NULL) {
        buffer_append_text(out, value);
        return;
    }
    buffer_append_byte(out, '"');
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\n') buffer_append_text(out, "\\n");
        else if (*c == '\r') buffer_append_text(out, "\\r");
        else {
            if (*c == '"' || *c == '\\') buffer_append_byte(out, '\\');
            buffer_append_byte(out, *c);
        }
    }
    buffer_append_byte(out, '"');
}

void image_parameters_write(const image_parameters *p, buffer *out) {
    buffer_printf(out, "%s\n", p->prompt);
    if (p->negative_prompt != NULL && p->negative_prompt[0] != '\0') buffer_printf(out, "Negative prompt: %s\n", p->negative_prompt);
    buffer_printf(out, "Steps: %d, Sampler: ", p->steps);
    write_value(p->sampler, out);
    buffer_printf(out, ", CFG scale: %g", p->guidance_scale);
    if (p->true_cfg_scale > 1) buffer_printf(out, ", True CFG scale: %g", p->true_cfg_scale);
    buffer_printf(out, ", Seed: %" PRIu64 ", Size: %dx%d, Model: ", p->seed, p->width, p->height);
    write_value(p->model, out);
    if (p->strength > 0) buffer_printf(out, ", Denoising strength: %g", p->strength);
}
