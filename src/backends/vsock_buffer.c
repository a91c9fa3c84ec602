#include "backends/vsock_buffer.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

int vsock_buffer_put(struct vsock_buffer *buffer, const struct vsock_iov *data)
{
    if (!buffer->bytes) {
        buffer->bytes = malloc(buffer->size);
        buffer->start = 0;
    }
    if (!buffer->bytes)
        return -ENOMEM;
    for (unsigned i = 0; i < data->n; i++) {
        const uint8_t *from = data->iov[i].iov_base;
        size_t left = data->iov[i].iov_len;
        while (left) {
            size_t end = (buffer->start + buffer->len) % buffer->size;
            size_t piece = MIN(MIN(left, buffer->size - end), buffer->size - buffer->len);
            if (!piece)
                return -ENOMEM;
            memcpy(buffer->bytes + end, from, piece);
            buffer->len += piece;
            from += piece;
            left -= piece;
        }
    }
    return 0;
}

unsigned vsock_buffer_get(const struct vsock_buffer *buffer, struct iovec iov[2])
{
    if (!buffer->len)
        return 0;
    size_t first = MIN(buffer->len, buffer->size - buffer->start);
    iov[0] = (struct iovec){buffer->bytes + buffer->start, first};
    iov[1] = (struct iovec){buffer->bytes, buffer->len - first};
    return iov[1].iov_len ? 2 : 1;
}

void vsock_buffer_drop(struct vsock_buffer *buffer, size_t len)
{
    buffer->start = (buffer->start + len) % buffer->size;
    buffer->len -= len;
    if (!buffer->len) {
        free(buffer->bytes);
        buffer->bytes = NULL;
    }
}
