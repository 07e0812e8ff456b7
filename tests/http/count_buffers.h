/* Counts the bytes of the buffers that ggml allocates, whoever asks it to, by standing between everybody and
 * ggml_backend_buft_alloc_buffer: compiled into a test, or preloaded into a program (LD_PRELOAD), which then keeps two numbers in the file
 * $COUNT_BUFFERS_FILE: the most bytes of device buffers there were at once, and those there are now. Buffers around memory that ggml did
 * not allocate (mapped files) do not count, nor does what a driver takes for itself. */
#ifndef IMAGINED_TESTS_COUNT_BUFFERS_H
#define IMAGINED_TESTS_COUNT_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>

/* Of buffers in main memory (`host`), or in a device's. */
size_t count_buffers_now(bool host);
size_t count_buffers_peak(bool host);

#endif
