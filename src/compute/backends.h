/* Which of ggml's backend libraries are loaded, and when: loading one costs start-up time (a GPU's also memory), so only those that a
 * device needs are. */
#ifndef IMAGINED_COMPUTE_BACKENDS_H
#define IMAGINED_COMPUTE_BACKENDS_H

#include <ggml-backend.h>
#include <stdbool.h>

/* The CPU backend, in the variant that suits this machine best. NULL when there is none. */
ggml_backend_dev_t backends_cpu(void);

/* Loads the backend called `kind` ("vulkan"); true when it has devices then. */
bool backends_load(const char *kind);
/* Loads every GPU backend there is a library of. */
void backends_load_all(void);

#endif
