/*
 * The transmit queue: frames go from guest memory to the tap in one writev(2) each, in order. The header before a frame is
 * copied first and checked, so that what was checked is what the kernel gets. A frame that cannot be sent is lost, as on
 * any wire; the driver gets its buffers back all the same.
 */
#include "backends/net.h"
#include "backends/net_wait.h"

#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH_FRAMES 64u     /* the driver hears of its buffers at least so often */
#define STOP_LOOK_ROUNDS 16u /* a driver that is never idle cannot keep a queue from ending */

enum outcome { SENT, TAP_FULL, LIMITED, LOST };

struct tx {
    struct net_device *device;
    struct net_pair *pair;
    struct vu_queue *queue;
    uint64_t features;
    unsigned header_bytes;
    bool broken;
    bool held;         /* @chain was popped and waits */
    uint64_t wait_ns;  /* for the rate limit */
    bool within_limit; /* @chain was let through by it */
    struct vu_chain chain;
    struct iovec iov[VU_CHAIN_IOV_MAX]; /* of the chain */
    struct iovec
        parts[VU_CHAIN_IOV_MAX]; /* for the kernel: the header's copy, and the frame in the chain */
};

/** take_header() - copy the header of tx->chain, and find the frame behind it. Returns the entries of tx->parts, or 0. */
static unsigned take_header(struct tx *tx, struct net_header *header)
{
    const struct vu_chain *chain = &tx->chain;
    if (chain->out_len <= tx->header_bytes || chain->out_len > NET_PACKET_MAX)
        return 0;
    unsigned i = 0, n = 0;
    size_t done = 0, skip = 0;
    *header = (struct net_header){0};
    while (done < tx->header_bytes) {
        size_t piece = MIN(chain->iov[i].iov_len, tx->header_bytes - done);
        memcpy((uint8_t *)header + done, chain->iov[i].iov_base, piece);
        done += piece;
        skip = piece;
        if (piece == chain->iov[i].iov_len) {
            i++;
            skip = 0;
        }
    }
    /* What was copied is not read again. */
    __asm__ volatile("" ::: "memory");
    tx->parts[n++] = (struct iovec){header, tx->header_bytes};
    for (; i < chain->n_out; i++, skip = 0) {
        if (n == VU_CHAIN_IOV_MAX)
            return 0;
        tx->parts[n++] =
            (struct iovec){(uint8_t *)chain->iov[i].iov_base + skip, chain->iov[i].iov_len - skip};
    }
    return n;
}

static enum outcome send_frame(struct tx *tx)
{
    struct net_header header;
    unsigned n = take_header(tx, &header);
    if (!n || !net_header_sound(&header, tx->features))
        return LOST;
    if (!tx->within_limit && tx->device->tx_limit.on) {
        tx->wait_ns = rate_limit_take(&tx->device->tx_limit, tx->chain.out_len - tx->header_bytes,
                                      net_now_ns());
        if (tx->wait_ns)
            return LIMITED;
    }
    tx->within_limit = true;
    ssize_t sent;
    do
        /* Not the C library's: that makes the thread cancellable each time, a tenth of what a frame takes. */
        sent = syscall(SYS_writev, tx->pair->tap_fd, tx->parts, (long)n);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return SENT;
    if (errno == EAGAIN)
        return TAP_FULL;
    (void)net_tap_failed(tx->device, errno);
    return LOST;
}

/** serve_batch() - returns whether there may be more to do at once; @wait says what else is to be waited for. */
static bool serve_batch(struct tx *tx, struct net_wait *wait)
{
    *wait = (struct net_wait){.tap_fd = -1, .kick = true};
    unsigned n = 0;
    for (; n < BATCH_FRAMES; n++) {
        if (!tx->held) {
            tx->chain = (struct vu_chain){.iov = tx->iov, .iov_max = VU_CHAIN_IOV_MAX};
            int ret = vu_queue_pop(tx->queue, &tx->chain);
            tx->broken = ret < 0;
            if (ret <= 0)
                break;
            tx->held = true;
            tx->within_limit = false;
        }
        enum outcome outcome = send_frame(tx);
        if (outcome == TAP_FULL || outcome == LIMITED) {
            wait->kick = false;
            wait->ns = outcome == LIMITED ? tx->wait_ns : 0;
            if (outcome == TAP_FULL) {
                wait->tap_fd = tx->pair->tap_fd;
                wait->tap_events = POLLOUT;
            }
            break;
        }
        vu_queue_push(tx->queue, &tx->chain, 0);
        tx->held = false;
    }
    vu_queue_notify(tx->queue);
    return n == BATCH_FRAMES;
}

static void serve(struct tx *tx)
{
    struct net_wait wait;
    vu_queue_want_kicks(tx->queue, false);
    for (unsigned round = 1; !tx->broken; round++) {
        if (round % STOP_LOOK_ROUNDS == 0 && net_stopping(tx->queue))
            break;
        if (serve_batch(tx, &wait) || tx->broken)
            continue;
        if (wait.kick && vu_queue_want_kicks(tx->queue, true))
            continue;
        if (!net_wait(tx->queue, &wait))
            break;
        vu_queue_want_kicks(tx->queue, false);
    }
    /* Whoever goes on with the queue sends it. */
    if (tx->held)
        vu_queue_unpop(tx->queue, &tx->chain);
}

void net_tx_run(struct net_device *device, struct net_pair *pair, struct vu_queue *queue)
{
    struct error err = ERROR_INIT;
    uint64_t features = vu_queue_features(queue);
    struct tx *tx = malloc(sizeof(*tx));
    if (!tx || net_attach(device, pair, features, &err) < 0) {
        log_error("queue %u: %s", vu_queue_index(queue), tx ? err.message : "out of memory");
        free(tx);
        return;
    }
    memset(tx, 0, offsetof(struct tx, iov));
    tx->device = device;
    tx->pair = pair;
    tx->queue = queue;
    tx->features = features;
    tx->header_bytes = net_header_bytes(features);
    serve(tx);
    net_detach(device, pair);
    free(tx);
}
