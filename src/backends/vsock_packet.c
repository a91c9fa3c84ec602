#include "backends/vsock_packet.h"

#include "base/bytes.h"

struct wire_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len;
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));

_Static_assert(sizeof(struct wire_header) == VSOCK_HEADER_BYTES, "virtio 1.2, 5.10.6");
_Static_assert(offsetof(struct wire_header, type) == 28, "virtio 1.2, 5.10.6");

void vsock_iov_skip(struct vsock_iov *buffers, size_t len)
{
    while (buffers->n && len >= buffers->iov->iov_len) {
        len -= buffers->iov->iov_len;
        buffers->iov++;
        buffers->n--;
    }
    if (buffers->n) {
        buffers->iov->iov_base = (uint8_t *)buffers->iov->iov_base + len;
        buffers->iov->iov_len -= len;
    }
}

void vsock_iov_limit(struct vsock_iov *buffers, size_t len)
{
    unsigned i = 0;
    for (; i < buffers->n && len; i++) {
        buffers->iov[i].iov_len = MIN(buffers->iov[i].iov_len, len);
        len -= buffers->iov[i].iov_len;
    }
    buffers->n = i;
}

static size_t total(const struct vsock_iov *buffers)
{
    size_t sum = 0;
    for (unsigned i = 0; i < buffers->n; i++)
        sum += buffers->iov[i].iov_len;
    return sum;
}

size_t vsock_packet_copy(void *to, const struct vsock_iov *buffers)
{
    uint8_t *at = to;
    for (unsigned i = 0; i < buffers->n; i++) {
        memcpy(at, buffers->iov[i].iov_base, buffers->iov[i].iov_len);
        at += buffers->iov[i].iov_len;
    }
    return (size_t)(at - (uint8_t *)to);
}

bool vsock_packet_parse(struct vsock_header *header, struct vsock_iov *buffers)
{
    struct wire_header wire;
    uint8_t *at = (uint8_t *)&wire;
    size_t have = 0, behind = total(buffers);
    *header = (struct vsock_header){0};
    if (behind < sizeof(wire))
        return false;
    behind -= sizeof(wire);
    for (unsigned i = 0; have < sizeof(wire); i++) {
        size_t len = MIN(buffers->iov[i].iov_len, sizeof(wire) - have);
        memcpy(at + have, buffers->iov[i].iov_base, len);
        have += len;
    }
    *header = (struct vsock_header){
        .src_cid = le64toh(wire.src_cid),
        .dst_cid = le64toh(wire.dst_cid),
        .src_port = le32toh(wire.src_port),
        .dst_port = le32toh(wire.dst_port),
        .len = le32toh(wire.len),
        .type = le16toh(wire.type),
        .op = le16toh(wire.op),
        .flags = le32toh(wire.flags),
        .buf_alloc = le32toh(wire.buf_alloc),
        .fwd_cnt = le32toh(wire.fwd_cnt),
    };
    vsock_iov_skip(buffers, sizeof(wire));
    vsock_iov_limit(buffers, header->len);
    return header->len <= behind;
}

void vsock_packet_put(const struct vsock_header *header, struct vsock_iov *buffers)
{
    const struct wire_header wire = {
        .src_cid = htole64(header->src_cid),
        .dst_cid = htole64(header->dst_cid),
        .src_port = htole32(header->src_port),
        .dst_port = htole32(header->dst_port),
        .len = htole32(header->len),
        .type = htole16(header->type),
        .op = htole16(header->op),
        .flags = htole32(header->flags),
        .buf_alloc = htole32(header->buf_alloc),
        .fwd_cnt = htole32(header->fwd_cnt),
    };
    const uint8_t *from = (const uint8_t *)&wire;
    size_t left = sizeof(wire);
    while (left && buffers->n) {
        size_t len = MIN(buffers->iov->iov_len, left);
        memcpy(buffers->iov->iov_base, from, len);
        from += len;
        left -= len;
        vsock_iov_skip(buffers, len);
    }
}
