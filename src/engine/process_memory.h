/* How much main memory this process holds, as the kernel counts it. */
#ifndef IMAGINED_ENGINE_PROCESS_MEMORY_H
#define IMAGINED_ENGINE_PROCESS_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes in main memory now, mapped file pages included. 0 where the kernel does not tell. */
uint64_t process_memory_resident(void);
/* The most there ever was since the start, or since the last process_memory_reset_peak that succeeded. 0 as above. */
uint64_t process_memory_peak(void);
/* Starts the peak anew from what is resident now. False where the kernel does not allow it. */
bool process_memory_reset_peak(void);

#endif
