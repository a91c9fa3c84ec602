/* Bytes that came from the guest and that a host program has not read yet: a ring with a bound. */
#ifndef HUSK_BACKENDS_VSOCK_BUFFER_H
#define HUSK_BACKENDS_VSOCK_BUFFER_H

#include "backends/vsock_packet.h"

struct vsock_buffer {
    uint8_t *bytes; /* NULL while it is empty: most connections never need it */
    size_t size, start, len;
};

/** vsock_buffer_put() - add @data, for which there is room in @buffer->size. Returns 0 or -ENOMEM. */
int vsock_buffer_put(struct vsock_buffer *buffer, const struct vsock_iov *data);

/** vsock_buffer_get() - what there is, in up to two pieces. Returns how many. */
unsigned vsock_buffer_get(const struct vsock_buffer *buffer, struct iovec iov[2]);

/** vsock_buffer_drop() - the first @len bytes are done with. */
void vsock_buffer_drop(struct vsock_buffer *buffer, size_t len);

#endif
