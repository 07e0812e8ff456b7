#include "descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <dirent.h>
#include <sys/socket.h>
#include <cmocka.h>

int open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    int n = 0;
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}

void send_raw(int socket, const void *bytes, size_t size, const int *fds, int count) {
    char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(8)));
    memset(control, 0, sizeof control);
    struct iovec part = {(void *)bytes, size};
    struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        datagram.msg_control = control;
        datagram.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&datagram);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
    }
    assert_int_equal(sendmsg(socket, &datagram, 0), (ssize_t)size);
}
