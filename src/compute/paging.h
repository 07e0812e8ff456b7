/* Weights that the CPU uses in the mapping, read in before they are needed and let go after: how much of a file stays in the process's
 * memory is bounded then. Only ever for mapped files: giving back private memory would lose it. */
#ifndef IMAGINED_COMPUTE_PAGING_H
#define IMAGINED_COMPUTE_PAGING_H

#include "compute/streaming.h"

/* weights[count] in order of group; borrowed. */
void paging_want(const streamed_weight *weights, size_t count, int group); /* the kernel starts to read the group's pages */
void paging_drop(const streamed_weight *weights, size_t count, int group); /* its pages leave the process; the page cache may keep them */

#endif
