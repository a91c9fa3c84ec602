/*
 * The receive queue. How long a frame is shows only when it has been read: so buffers are taken from the ring beforehand,
 * as many as the longest frame needs, and readv(2) fills them. What they do not hold goes to memory of the thread's own
 * behind them, and from there into further buffers, or, where a frame has to fit into one chain, it is lost. The header
 * before a frame is read apart and checked, so that the driver gets none that it did not agree to. Buffers not used for one
 * frame wait for the next, and are put back into the ring when the queue stops.
 */
#include "backends/net.h"
#include "backends/net_wait.h"

#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>

#define CHAINS_MAX 64u
#define BATCH_FRAMES \
    64u /* the driver hears of frames, and the stop event is looked at, at least so often */
/* After so many reads that failed one after another, the tap is left alone for a while. */
#define FAILURES_MAX 64u
#define FAILURES_PAUSE_NS 1000000u

enum step { GO_ON, WAIT_TAP, WAIT_BUFFERS, WAIT_LIMIT, WAIT_PAUSE };

struct held_chain {
    uint16_t head;
    unsigned first; /* of rx->iov */
    unsigned n_out, n_in;
    uint64_t room; /* bytes; 0 for one that no frame can go to */
};

struct rx {
    struct net_device *device;
    struct net_pair *pair;
    struct vu_queue *queue;
    uint64_t features;
    unsigned header_bytes;
    bool mergeable, broken;
    unsigned n_chains, n_iov;
    unsigned n_failures; /* reads of the tap, since the last one that did not fail */
    uint64_t room;       /* of all chains */
    size_t packet;       /* bytes read that the driver has not yet: header and frame; 0 for none */
    uint64_t direct;     /* bytes from its beginning on that need no copying from the spill */
    struct net_header header;
    uint64_t wait_ns;  /* for the rate limit */
    bool within_limit; /* @packet was let through by it */
    struct held_chain chains[CHAINS_MAX];
    struct iovec iov[2 * VU_CHAIN_IOV_MAX]; /* of the chains, oldest first */
    struct iovec parts[VU_CHAIN_IOV_MAX];   /* for the kernel */
    uint8_t spill[NET_PACKET_MAX];
};

/* --- Chains held. --- */

/** give_back() - the oldest @n chains, of which @used bytes were filled one after another. */
static void give_back(struct rx *rx, unsigned n, size_t used)
{
    unsigned n_iov = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct held_chain *held = &rx->chains[i];
        const struct vu_chain chain = {.head = held->head,
                                       .n_out = held->n_out,
                                       .n_in = held->n_in,
                                       .iov = &rx->iov[held->first]};
        size_t piece = (size_t)MIN(held->room, used);
        vu_queue_push(rx->queue, &chain, (uint32_t)piece);
        used -= piece;
        rx->room -= held->room;
        n_iov += held->n_out + held->n_in;
    }
    rx->n_chains -= n;
    rx->n_iov -= n_iov;
    memmove(rx->chains, rx->chains + n, rx->n_chains * sizeof(rx->chains[0]));
    memmove(rx->iov, rx->iov + n_iov, rx->n_iov * sizeof(rx->iov[0]));
    for (unsigned i = 0; i < rx->n_chains; i++)
        rx->chains[i].first -= n_iov;
}

/** take_chain() - one more from the ring. Returns false if there is none, or no room here for it. */
static bool take_chain(struct rx *rx)
{
    if (rx->n_chains == CHAINS_MAX || rx->n_iov >= VU_CHAIN_IOV_MAX)
        return false;
    struct vu_chain chain = {.iov = &rx->iov[rx->n_iov], .iov_max = VU_CHAIN_IOV_MAX};
    int ret = vu_queue_pop(rx->queue, &chain);
    rx->broken = ret < 0;
    if (ret <= 0)
        return false;
    struct held_chain *held = &rx->chains[rx->n_chains++];
    *held = (struct held_chain){.head = chain.head,
                                .first = rx->n_iov,
                                .n_out = chain.n_out,
                                .n_in = chain.n_in,
                                .room = chain.n_out ? 0 : chain.in_len};
    rx->n_iov += chain.n_out + chain.n_in;
    rx->room += held->room;
    return true;
}

/** take_chains() - until they hold @bytes; a frame goes to one chain alone where the driver does not merge them. */
static void take_chains(struct rx *rx, size_t bytes)
{
    while (rx->room < bytes && (rx->mergeable || !rx->n_chains) && take_chain(rx))
        ;
}

static void put_all_back(struct rx *rx)
{
    while (rx->n_chains) {
        const struct vu_chain chain = {.head = rx->chains[--rx->n_chains].head};
        vu_queue_unpop(rx->queue, &chain);
    }
}

/* --- One frame. --- */

/** make_parts() - the header's place, the chains held from behind it on, and the spill. Returns how many of rx->parts. */
static unsigned make_parts(struct rx *rx)
{
    unsigned n = 0;
    size_t skip = rx->header_bytes;
    rx->parts[n++] = (struct iovec){&rx->header, rx->header_bytes};
    rx->direct = rx->header_bytes;
    for (unsigned i = 0; i < rx->n_chains && n < VU_CHAIN_IOV_MAX - 1; i++) {
        const struct held_chain *held = &rx->chains[i];
        for (unsigned j = 0; held->room && j < held->n_in && n < VU_CHAIN_IOV_MAX - 1; j++) {
            const struct iovec *part = &rx->iov[held->first + j];
            size_t piece = MIN(skip, part->iov_len);
            skip -= piece;
            if (piece == part->iov_len)
                continue;
            rx->parts[n] = (struct iovec){(uint8_t *)part->iov_base + piece, part->iov_len - piece};
            rx->direct += rx->parts[n++].iov_len;
        }
    }
    rx->parts[n++] = (struct iovec){rx->spill, sizeof(rx->spill)};
    return n;
}

/** read_failed() - with @error. The kernel drops the frame that it cannot hand over, if there was one. */
static enum step read_failed(struct rx *rx, int error)
{
    if (error == EINTR)
        return GO_ON;
    if (error == EAGAIN || net_tap_failed(rx->device, error)) {
        rx->n_failures = 0;
        return WAIT_TAP;
    }
    return ++rx->n_failures % FAILURES_MAX == 0 ? WAIT_PAUSE : GO_ON;
}

/** read_frame() - from the tap into the chains held, of which there is one. */
static enum step read_frame(struct rx *rx)
{
    unsigned n = make_parts(rx);
    ssize_t got = readv(rx->pair->tap_fd, rx->parts, (int)n);
    if (got < 0)
        return read_failed(rx, errno);
    rx->n_failures = 0;
    /* One that is longer than any can be was cut off. */
    bool whole = (size_t)got > rx->header_bytes &&
                 (uint64_t)got - rx->header_bytes <= NET_PACKET_MAX - NET_HEADER_BYTES;
    rx->packet = whole && net_header_agreed(&rx->header, rx->features) ? (size_t)got : 0;
    rx->within_limit = false;
    return GO_ON;
}

/** store() - @len bytes at @offset of what the chains hold together. */
static void store(struct rx *rx, uint64_t offset, const void *data, size_t len)
{
    const uint8_t *from = data;
    for (unsigned i = 0; i < rx->n_chains && len; i++) {
        const struct held_chain *held = &rx->chains[i];
        for (unsigned j = 0; held->room && j < held->n_in && len; j++) {
            const struct iovec *part = &rx->iov[held->first + j];
            if (offset >= part->iov_len) {
                offset -= part->iov_len;
                continue;
            }
            size_t piece = MIN(len, part->iov_len - (size_t)offset);
            memcpy((uint8_t *)part->iov_base + offset, from, piece);
            offset = 0;
            from += piece;
            len -= piece;
        }
    }
}

static bool within_limit(struct rx *rx)
{
    if (!rx->within_limit && rx->device->rx_limit.on) {
        rx->wait_ns =
            rate_limit_take(&rx->device->rx_limit, rx->packet - rx->header_bytes, net_now_ns());
        rx->within_limit = rx->wait_ns == 0;
        return rx->within_limit;
    }
    return true;
}

/** deliver() - the frame that was read, to the driver. */
static enum step deliver(struct rx *rx)
{
    if (!within_limit(rx))
        return WAIT_LIMIT;
    take_chains(rx, rx->packet);
    if (rx->room < rx->packet) {
        if (rx->broken)
            return GO_ON;
        bool more_may_come =
            rx->mergeable && rx->n_chains < CHAINS_MAX && rx->n_iov < VU_CHAIN_IOV_MAX;
        if (more_may_come)
            return WAIT_BUFFERS;
        rx->packet = 0; /* it does not fit: lost */
        return GO_ON;
    }
    if (rx->packet > rx->direct)
        store(rx, rx->direct, rx->spill, rx->packet - (size_t)rx->direct);
    uint64_t room = 0;
    unsigned n = 0;
    while (room < rx->packet)
        room += rx->chains[n++].room;
    rx->header.num_buffers = htole16((uint16_t)n);
    store(rx, 0, &rx->header, rx->header_bytes);
    give_back(rx, n, rx->packet);
    rx->packet = 0;
    return GO_ON;
}

static enum step one_step(struct rx *rx)
{
    if (rx->packet)
        return deliver(rx);
    take_chains(rx, NET_PACKET_MAX);
    if (!rx->n_chains)
        return WAIT_BUFFERS;
    if (rx->chains[0].room < rx->header_bytes) {
        give_back(rx, 1, 0); /* the header of a frame is not parted */
        return GO_ON;
    }
    return read_frame(rx);
}

/* --- The thread. --- */

/** wait_for() - what @step says. Returns false when the queue is to stop. */
static bool wait_for(struct rx *rx, enum step step)
{
    struct net_wait wait = {.tap_fd = -1};
    switch (step) {
    case WAIT_TAP:
        /* A tap that is gone would be readable for ever. */
        if (!atomic_load_explicit(&rx->device->tap_gone, memory_order_relaxed))
            wait.tap_fd = rx->pair->tap_fd;
        wait.tap_events = POLLIN;
        break;
    case WAIT_LIMIT:
        wait.ns = rx->wait_ns;
        break;
    case WAIT_PAUSE:
        wait.ns = FAILURES_PAUSE_NS;
        break;
    default: /* WAIT_BUFFERS */
        wait.kick = true;
        if (vu_queue_want_kicks(rx->queue, true)) {
            vu_queue_want_kicks(rx->queue, false);
            return !net_stopping(rx->queue);
        }
        break;
    }
    bool go_on = net_wait(rx->queue, &wait);
    if (wait.kick)
        vu_queue_want_kicks(rx->queue, false);
    return go_on;
}

static void serve(struct rx *rx)
{
    vu_queue_want_kicks(rx->queue, false);
    for (unsigned n = 1; !rx->broken; n++) {
        enum step step = one_step(rx);
        if (step != GO_ON || n % (2 * BATCH_FRAMES) == 0)
            vu_queue_notify(rx->queue);
        if (step != GO_ON && !wait_for(rx, step))
            break;
        if (step == GO_ON && n % (2 * BATCH_FRAMES) == 0 && net_stopping(rx->queue))
            break;
    }
    /* A frame that waits for the limit need not be lost. */
    rx->within_limit = true;
    if (rx->packet && !rx->broken)
        (void)deliver(rx);
    vu_queue_notify(rx->queue);
    put_all_back(rx);
}

void net_rx_run(struct net_device *device, struct net_pair *pair, struct vu_queue *queue)
{
    struct error err = ERROR_INIT;
    uint64_t features = vu_queue_features(queue);
    struct rx *rx = malloc(sizeof(*rx)); /* the arrays are not touched before they are used */
    if (!rx || net_attach(device, pair, features, &err) < 0) {
        log_error("queue %u: %s", vu_queue_index(queue), rx ? err.message : "out of memory");
        free(rx);
        return;
    }
    memset(rx, 0, offsetof(struct rx, chains));
    rx->device = device;
    rx->pair = pair;
    rx->queue = queue;
    rx->features = features;
    rx->header_bytes = net_header_bytes(features);
    rx->mergeable = features & NET_F_MRG_RXBUF;
    serve(rx);
    net_detach(device, pair);
    free(rx);
}
