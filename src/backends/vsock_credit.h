/*
 * Credit of one stream (virtio 1.2, 5.10.6.3): each side tells how much room it has (buf_alloc) and how many bytes have left
 * it (fwd_cnt), and the other sends no more than fits. Counts are of 32 bits and wrap.
 */
#ifndef HUSK_BACKENDS_VSOCK_CREDIT_H
#define HUSK_BACKENDS_VSOCK_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

struct vsock_credit {
    /* What we send. */
    uint32_t sent, peer_room, peer_forwarded;
    /* What we receive. */
    uint32_t room, received, forwarded, told; /* told: forwarded, as the peer knows it */
};

/** vsock_credit_heard() - a packet's buf_alloc and fwd_cnt. Returns false if it took more than was sent. */
bool vsock_credit_heard(struct vsock_credit *credit, uint32_t buf_alloc, uint32_t fwd_cnt);

/** vsock_credit_left() - bytes that may be sent now. */
uint32_t vsock_credit_left(const struct vsock_credit *credit);

/** vsock_credit_receive() - @len bytes came. Returns false, and counts nothing, if there is no room for them. */
bool vsock_credit_receive(struct vsock_credit *credit, uint32_t len);

/** vsock_credit_tell() - what to put in the next packet's fwd_cnt; the peer is taken to know it. */
uint32_t vsock_credit_tell(struct vsock_credit *credit);

/** vsock_credit_due() - whether the peer knows of so little room that it is to be told of what there is now. */
bool vsock_credit_due(const struct vsock_credit *credit);

#endif
