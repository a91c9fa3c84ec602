/* The three queues of the virtio socket device, on one thread: streams share credit, and order matters between them. */
#include "backends/vsock.h"

#include "base/bytes.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Packets between two looks at everything else. */
#define BATCH_MAX 64
/* How often to look for packets of a driver that does not kick, and for what has waited too long. */
#define UNKICKED_MS 10
#define TICK_MS 500

struct service {
    struct vsock_device *device;
    struct vu_queue *queues[VSOCK_QUEUES]; /* NULL: does not run, or broke */
    struct loop_source *sources[VSOCK_QUEUES + 2];
    unsigned n_sources;
    bool stop;
};

uint64_t vsock_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/** pop() - the next request of queue @index. Returns false if there is none. */
static bool pop(struct service *service, unsigned index, struct vu_chain *chain, struct iovec *iov)
{
    *chain = (struct vu_chain){.iov = iov, .iov_max = VU_CHAIN_IOV_MAX};
    int ret = service->queues[index] ? vu_queue_pop(service->queues[index], chain) : 0;
    if (ret < 0)
        service->queues[index] = NULL;
    return ret > 0;
}

/** owes_loss() - whether the driver is to be told of it now: not in the middle of starting or stopping the queues. */
static bool owes_loss(const struct service *service)
{
    return service->device->lost_before && service->queues[VSOCK_RX] && service->queues[VSOCK_TX];
}

/** tell_loss() - the connections that the driver knows of are gone (virtio 1.2, 5.10.6.7). */
static void tell_loss(struct service *service)
{
    struct iovec iov[VU_CHAIN_IOV_MAX];
    struct vu_chain chain;
    struct vu_queue *queue = service->queues[VSOCK_EVENT];
    if (!owes_loss(service) || !pop(service, VSOCK_EVENT, &chain, iov))
        return;
    uint8_t event[4];
    store_le32(event, VSOCK_EVENT_TRANSPORT_RESET);
    size_t done = 0;
    for (unsigned i = 0; i < chain.n_in && done < sizeof(event); i++) {
        size_t len = MIN(iov[chain.n_out + i].iov_len, sizeof(event) - done);
        memcpy(iov[chain.n_out + i].iov_base, event + done, len);
        done += len;
    }
    vu_queue_push(queue, &chain, (uint32_t)done);
    vu_queue_notify(queue);
    service->device->lost_before = false;
}

/** receive_some() - packets from the driver. Returns whether there may be more at once. */
static bool receive_some(struct service *service)
{
    struct vsock_device *device = service->device;
    struct iovec iov[VU_CHAIN_IOV_MAX];
    struct vu_chain chain;
    unsigned n = 0;
    /* Each packet may have to be refused. */
    while (n < BATCH_MAX && device->n_refusals < VSOCK_REFUSALS_MAX &&
           pop(service, VSOCK_TX, &chain, iov)) {
        struct vsock_header header;
        struct vsock_iov data = {iov, chain.n_out};
        if (vsock_packet_parse(&header, &data))
            vsock_guest_packet(device, &header, &data);
        vu_queue_push(service->queues[VSOCK_TX], &chain, 0);
        n++;
    }
    if (n && service->queues[VSOCK_TX])
        vu_queue_notify(service->queues[VSOCK_TX]);
    return n == BATCH_MAX;
}

/** send_some() - packets to the driver. Returns whether there may be more at once. */
static bool send_some(struct service *service)
{
    struct vsock_device *device = service->device;
    struct iovec iov[VU_CHAIN_IOV_MAX];
    struct vu_chain chain;
    unsigned n = 0;
    while (n < BATCH_MAX && vsock_guest_waits(device) && pop(service, VSOCK_RX, &chain, iov)) {
        struct vsock_iov buffers = {iov + chain.n_out, chain.n_in};
        uint32_t len = chain.in_len < VSOCK_HEADER_BYTES ? 0 : vsock_guest_next(device, &buffers);
        /* What has no room for any packet that waits goes back empty: the next may have. */
        if (!len && !vsock_guest_waits(device)) {
            vu_queue_unpop(service->queues[VSOCK_RX], &chain);
            break;
        }
        vu_queue_push(service->queues[VSOCK_RX], &chain, len);
        n++;
    }
    if (n && service->queues[VSOCK_RX])
        vu_queue_notify(service->queues[VSOCK_RX]);
    return n == BATCH_MAX;
}

/** holds() - ask for a kick of queue @index. Returns whether it has requests already, for which there is none. */
static bool holds(struct service *service, unsigned index)
{
    struct vu_queue *queue = service->queues[index];
    return queue && vu_queue_want_kicks(queue, true);
}

/** work() - a batch each way. Returns whether there is more to be done before anything happens. */
static bool work(struct service *service)
{
    struct vsock_device *device = service->device;
    tell_loss(service);
    bool received = receive_some(service), sent = send_some(service);
    if (received || sent)
        return true;
    /* A queue that is left with requests kicks nobody for them: the other has to move first. */
    bool more = holds(service, VSOCK_TX) && device->n_refusals < VSOCK_REFUSALS_MAX;
    more |= holds(service, VSOCK_RX) && vsock_guest_waits(device);
    more |= owes_loss(service) && holds(service, VSOCK_EVENT);
    return more;
}

static void on_kick(void *ctx, uint32_t events)
{
    (void)events;
    struct vu_queue *queue = ctx;
    uint64_t count;
    (void)!read(vu_queue_kick_fd(queue), &count, sizeof(count));
}

static void on_stop(void *ctx, uint32_t events)
{
    (void)events;
    ((struct service *)ctx)->stop = true;
}

static void on_timer(void *ctx, uint32_t events)
{
    (void)events;
    struct vsock_device *device = ctx;
    uint64_t count;
    (void)!read(device->timer_fd, &count, sizeof(count));
    vsock_host_expire(device, vsock_now_ms());
}

static bool watch(struct service *service, int fd, loop_callback callback, void *ctx)
{
    struct loop_source *source = loop_add(service->device->loop, fd, EPOLLIN, callback, ctx);
    if (source)
        service->sources[service->n_sources++] = source;
    return source;
}

/** begin() - watch what the queues wait for. Returns false if there is no memory for that. */
static bool begin(struct service *service)
{
    struct vu_queue *any = NULL;
    bool unkicked = false, watched = true;
    for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
        struct vu_queue *queue = service->queues[i];
        if (!queue)
            continue;
        any = queue;
        service->device->lost_before |= vu_queue_used_before(queue) && !service->device->served;
        if (vu_queue_kick_fd(queue) < 0)
            unkicked = true;
        else
            watched &= watch(service, vu_queue_kick_fd(queue), on_kick, queue);
    }
    service->device->served |= service->queues[VSOCK_RX] && service->queues[VSOCK_TX];
    long ms = unkicked ? UNKICKED_MS : TICK_MS;
    struct itimerspec tick = {{0, ms * 1000000}, {0, ms * 1000000}};
    timerfd_settime(service->device->timer_fd, 0, &tick, NULL);
    return watched && watch(service, service->device->timer_fd, on_timer, service->device) &&
           watch(service, vu_queue_stop_fd(any), on_stop, service);
}

void vsock_run_all(void *device, struct vu_queue *const *queues)
{
    struct service service = {.device = device};
    memcpy(service.queues, queues, sizeof(service.queues));
    bool goes_on = begin(&service);
    while (goes_on && !service.stop) {
        bool more = work(&service);
        goes_on = loop_turn(service.device->loop, more ? 0 : -1) == 0;
    }
    for (unsigned i = 0; i < service.n_sources; i++)
        loop_remove(service.sources[i]);
}
