/* What a host program says first: "CONNECT PORT" and a line break, as Firecracker and Cloud Hypervisor understand it. */
#ifndef HUSK_BACKENDS_VSOCK_HELLO_H
#define HUSK_BACKENDS_VSOCK_HELLO_H

#include <stdint.h>

/* Of the whole line. */
#define VSOCK_HELLO_BYTES 32u

struct vsock_hello {
    char line[VSOCK_HELLO_BYTES + 1];
    unsigned len; /* that have come */
};

/**
 * vsock_hello_read() - what there is of the line, and no byte behind its line break.
 *
 * Return: 1 with @port filled; 0 if the line goes on; -EPROTO if it says anything else, is too long, or the program has left.
 */
int vsock_hello_read(struct vsock_hello *hello, int fd, uint32_t *port);

#endif
