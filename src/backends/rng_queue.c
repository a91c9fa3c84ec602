/* The entropy queue: a request for which there are no bytes stays in the ring. */
#include "backends/rng.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* How long a source is left alone that calls itself readable and then has nothing: some device nodes cannot be waited
 * for. */
#define RETRY_MS 20
/* The same for one that has ended or fails. */
#define DRY_RETRY_MS 1000
/* How often to look for requests of a driver that does not kick. */
#define UNKICKED_MS 10
/* Requests between two looks at whether to stop. */
#define BATCH_MAX 64

/**
 * fill() - the pool, from the source.
 *
 * Return: 0; or how long to wait before the next try, in milliseconds; -1: until the source is readable.
 */
static int fill(struct rng_device *device)
{
    ssize_t n = read(device->src_fd, device->pool, sizeof(device->pool));
    if (n > 0) {
        device->n = (size_t)n;
        device->is_dry = false;
        return 0;
    }
    struct pollfd source = {.fd = device->src_fd, .events = POLLIN};
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return poll(&source, 1, 0) > 0 ? RETRY_MS : -1;
    if (!device->is_dry)
        log_error("the source of randomness gives none: %s",
                  n < 0 ? strerror(errno) : "it has ended");
    device->is_dry = true;
    return DRY_RETRY_MS;
}

/** give() - bytes of the pool to one request. Nobody is given them again. */
static void give(struct rng_device *device, struct vu_queue *queue, const struct vu_chain *chain)
{
    uint32_t given = 0;
    for (unsigned i = chain->n_out; i < chain->n_out + chain->n_in && device->n; i++) {
        size_t len = MIN(chain->iov[i].iov_len, device->n);
        device->n -= len;
        memcpy(chain->iov[i].iov_base, device->pool + device->n, len);
        explicit_bzero(device->pool + device->n, len);
        given += (uint32_t)len;
    }
    vu_queue_push(queue, chain, given);
}

/** serve_batch() - some requests, if there are bytes for them. Returns as fill(), or -EPIPE if the ring is broken. */
static int serve_batch(struct rng_device *device, struct vu_queue *queue)
{
    struct iovec iov[VU_CHAIN_IOV_MAX];
    struct vu_chain chain = {.iov = iov, .iov_max = VU_CHAIN_IOV_MAX};
    unsigned n = 0;
    int ret = 0;
    while (n < BATCH_MAX && ret == 0) {
        int popped = vu_queue_pop(queue, &chain);
        if (popped < 0)
            ret = -EPIPE;
        if (popped <= 0)
            break;
        if (!device->n)
            ret = fill(device);
        if (ret == 0) {
            give(device, queue, &chain);
            n++;
        } else {
            vu_queue_unpop(queue, &chain);
        }
    }
    if (n)
        vu_queue_notify(queue);
    return ret;
}

/**
 * rest() - until there may be something to do. @requests: they wait for bytes, until the source is readable or for
 * @wait milliseconds, as fill() said. Returns false when it is time to stop.
 */
static bool rest(struct rng_device *device, struct vu_queue *queue, bool requests, int wait)
{
    int kick_fd = vu_queue_kick_fd(queue);
    struct pollfd fds[] = {
        {.fd = vu_queue_stop_fd(queue), .events = POLLIN},
        {.fd = requests ? -1 : kick_fd, .events = POLLIN},
        {.fd = requests && wait < 0 ? device->src_fd : -1, .events = POLLIN},
    };
    if (!requests)
        wait = kick_fd < 0 ? UNKICKED_MS : -1;
    if (poll(fds, ARRAY_SIZE(fds), wait) < 0)
        return true;
    uint64_t count;
    if (fds[1].revents)
        (void)!read(kick_fd, &count, sizeof(count));
    return fds[0].revents == 0;
}

void rng_run(struct rng_device *device, struct vu_queue *queue)
{
    int wait;
    bool requests;
    do {
        requests = vu_queue_want_kicks(queue, true);
        wait = requests ? serve_batch(device, queue) : 0;
    } while (wait != -EPIPE && rest(device, queue, requests, wait));
}
