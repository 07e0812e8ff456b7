/* Descriptors, counted and sent. */
#ifndef IMAGINED_TESTS_DESCRIPTORS_H
#define IMAGINED_TESTS_DESCRIPTORS_H

#include <stddef.h>

int open_descriptors(void); /* how many this process has; the count's own is among them */

/* Sends a datagram with at most 16 descriptors beside it, as no engine_message_send would. */
void send_raw(int socket, const void *bytes, size_t size, const int *fds, int count);

#endif
