#include <stdio.h>

#include "cli/commands.h"
#include "cli/options.h"

static const config_command quantize = {
    .name = "quantize",
    .bit = FOR_QUANTIZE,
    .arguments = "[MODEL]",
    .max_arguments = 1,
    .summary = "make a smaller copy of a model (not available yet)",
    .details =
        "8- and 4-bit weights come with a later version of imagined. Until then models are used as they are stored (f32, f16 or bf16).",
};

int command_quantize(int argc, char **argv) {
    int status;
    config *c = options_load(&quantize, argc, argv, &status);
    if (c == NULL) return status;
    config_free(c);
    fprintf(stderr, "imagined quantize: not available yet: this version uses weights as they are stored (f32, f16 or bf16)\n");
    return 1;
}
