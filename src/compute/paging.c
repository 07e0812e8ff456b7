#include "compute/paging.h"

#include <sys/mman.h>
#include <unistd.h>

/* Pages that hold other groups' weights too are told the same: they come back from the page cache when they are touched. Advice that is not
 * taken changes nothing but speed and memory. */
static void advise(const streamed_weight *weights, size_t count, int group, int advice) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < count; i++) {
        if (weights[i].group != group) continue;
        uintptr_t begin = (uintptr_t)weights[i].source, end = begin + ggml_nbytes(weights[i].tensor);
        begin -= begin % page;
        madvise((void *)begin, end - begin, advice);
    }
}

void paging_want(const streamed_weight *weights, size_t count, int group) { advise(weights, count, group, MADV_WILLNEED); }
void paging_drop(const streamed_weight *weights, size_t count, int group) { advise(weights, count, group, MADV_DONTNEED); }
