/* Packets of the virtio socket device (virtio 1.2, 5.10): a header of 44 bytes, and data behind it. */
#ifndef HUSK_BACKENDS_VSOCK_PACKET_H
#define HUSK_BACKENDS_VSOCK_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define VSOCK_CID_HOST 2u
#define VSOCK_CID_MIN 3u          /* for a guest: those below are reserved (virtio 1.2, 5.10.4) */
#define VSOCK_CID_MAX 0xfffffffeu /* 0xffffffff means any */

#define VSOCK_F_STREAM (1ull << 0)
#define VSOCK_TYPE_STREAM 1u
#define VSOCK_EVENT_TRANSPORT_RESET 0u

#define VSOCK_HEADER_BYTES 44u

enum vsock_op {
    VSOCK_OP_NONE, /* no packet may have it */
    VSOCK_OP_REQUEST,
    VSOCK_OP_RESPONSE,
    VSOCK_OP_RST,
    VSOCK_OP_SHUTDOWN,
    VSOCK_OP_RW,
    VSOCK_OP_CREDIT_UPDATE,
    VSOCK_OP_CREDIT_REQUEST,
};

/* Flags of VSOCK_OP_SHUTDOWN: what its sender will not do any more. */
#define VSOCK_SHUT_RECEIVE 1u
#define VSOCK_SHUT_SEND 2u
#define VSOCK_SHUT_BOTH 3u

/* A header in the host's byte order. */
struct vsock_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len; /* bytes of data */
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt; /* the sender's credit */
};

/* Buffers of a chain. */
struct vsock_iov {
    struct iovec *iov;
    unsigned n;
};

/** vsock_iov_skip() - leave the first @len bytes out; they must be there. Changes the array. */
void vsock_iov_skip(struct vsock_iov *buffers, size_t len);

/** vsock_iov_limit() - leave out what is behind the first @len bytes. Changes the array. */
void vsock_iov_limit(struct vsock_iov *buffers, size_t len);

/**
 * vsock_packet_parse() - read a header, each byte once, and leave its data in @buffers, which is cut to that length.
 *
 * Return: false if there are fewer bytes than a header has or than it tells of. In the second case @header is filled.
 */
bool vsock_packet_parse(struct vsock_header *header, struct vsock_iov *buffers);

/** vsock_packet_put() - write a header; @buffers has room for it and is left with what is behind it. */
void vsock_packet_put(const struct vsock_header *header, struct vsock_iov *buffers);

/** vsock_packet_copy() - all of the bytes in @buffers to @to, which has room for them. Returns how many. */
size_t vsock_packet_copy(void *to, const struct vsock_iov *buffers);

#endif
