/* The device that computes, as the front sees it: the whole of it now, and whose bytes are on it. One thread: the loop's. */
#ifndef IMAGINED_SERVER_REQUESTS_PRIMARY_DEVICE_H
#define IMAGINED_SERVER_REQUESTS_PRIMARY_DEVICE_H

#include "engine/vram_manager.h"
#include "server/resources/machine_figures.h"

struct services;

/* "cuda", "vulkan", "cpu", …: as the engine told last, else as it was asked for. Borrowed. */
const char *primary_device_kind(const struct services *s);
/* *whole: the device, now where the front can read it, else as the engine told last. Returns that with the engine's own ledger and the
 * state, which follows from the one that was told before. */
vram_stats primary_device_read(struct services *s, device_figures *whole);

#endif
