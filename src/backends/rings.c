/*
 * The threads of a connection's rings, one each, or one for all of them where the device wants it so. Guest memory,
 * addresses and features change only while the threads they concern do not exist: a change pauses them, and
 * rings_resume() starts what is complete again.
 */
#include "backends/server_internal.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

int rings_create(struct vu_server *server, struct error *err)
{
    const struct vu_backend *backend = server->backend;
    server->rings = calloc(backend->n_queues, sizeof(*server->rings));
    server->shared = calloc(backend->n_queues, sizeof(struct vu_queue *));
    if (!server->rings || !server->shared)
        return error_set(err, -ENOMEM, "out of memory for %u queues", backend->n_queues);
    for (; server->n_rings < backend->n_queues; server->n_rings++) {
        struct vu_queue *queue = &server->rings[server->n_rings].queue;
        int ret = vring_init(queue, backend->name, server->n_rings, backend->queue_size);
        if (ret < 0)
            return error_set_errno(err, ret, "queue %u of %u", server->n_rings, backend->n_queues);
        queue->map = &server->map;
        queue->inflight = backend->in_order ? NULL : &server->inflight;
    }
    return 0;
}

void rings_destroy(struct vu_server *server)
{
    for (unsigned i = 0; i < server->n_rings; i++)
        vring_release(&server->rings[i].queue);
    free(server->rings);
    free(server->shared);
    server->rings = NULL;
    server->shared = NULL;
    server->n_rings = 0;
}

static void tell_to_stop(struct ring *ring)
{
    const uint64_t one = 1;
    /* An eventfd that nobody else writes has room. */
    if (ring->running)
        (void)!write(ring->queue.stop_fd, &one, sizeof(one));
}

static void forget_to_stop(struct ring *ring)
{
    uint64_t count;
    (void)!read(ring->queue.stop_fd, &count, sizeof(count));
    ring->running = false;
}

void ring_pause(struct vu_server *server, struct ring *ring)
{
    if (!ring->running)
        return;
    if (server->backend->ops->run_all) {
        rings_pause(server);
        return;
    }
    tell_to_stop(ring);
    pthread_join(ring->thread, NULL);
    forget_to_stop(ring);
}

void rings_pause(struct vu_server *server)
{
    /* None waits for another to finish before it hears of it. */
    for (unsigned i = 0; i < server->n_rings; i++)
        tell_to_stop(&server->rings[i]);
    if (server->running)
        pthread_join(server->thread, NULL);
    server->running = false;
    for (unsigned i = 0; i < server->n_rings; i++) {
        struct ring *ring = &server->rings[i];
        if (!ring->running)
            continue;
        if (!server->backend->ops->run_all)
            pthread_join(ring->thread, NULL);
        forget_to_stop(ring);
    }
}

void rings_stopped(struct vu_server *server)
{
    const struct vu_backend_ops *ops = server->backend->ops;
    if (!ops->run_all || !ops->stopped)
        return;
    rings_pause(server);
    ops->stopped(server->backend->device);
}

struct thread_start {
    const struct vu_backend *backend;
    struct vu_queue *queue;
};

/** check_end() - after a thread ended: a queue that neither broke nor was stopped is served by nobody. */
static void check_end(struct vu_queue *queue)
{
    struct pollfd stop = {.fd = queue->stop_fd, .events = POLLIN};
    if (!queue->broken && poll(&stop, 1, 0) == 0) {
        struct error why = ERROR_INIT;
        vring_break(queue, error_set(&why, -EIO, "the device gave up"), &why);
    }
}

static void *serve_ring(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
    free(arg);
    start.backend->ops->run(start.backend->device, start.queue);
    check_end(start.queue);
    return NULL;
}

static int start_thread(struct vu_server *server, struct ring *ring, struct error *err)
{
    struct thread_start *start = malloc(sizeof(*start));
    if (!start)
        return error_set(err, -ENOMEM, "out of memory for a queue's thread");
    *start = (struct thread_start){.backend = server->backend, .queue = &ring->queue};
    int ret = pthread_create(&ring->thread, NULL, serve_ring, start);
    if (ret != 0) {
        free(start);
        return error_set_errno(err, -ret, "no thread for queue %u", ring->queue.index);
    }
    ring->running = true;
    return 0;
}

/** serve_shared() - the thread for all rings; the server touches none of what it uses until it has ended. */
static void *serve_shared(void *arg)
{
    struct vu_server *server = arg;
    server->backend->ops->run_all(server->backend->device, server->shared);
    for (unsigned i = 0; i < server->n_rings; i++)
        if (server->shared[i])
            check_end(server->shared[i]);
    return NULL;
}

static int start_shared(struct vu_server *server, struct error *err)
{
    bool any = false;
    for (unsigned i = 0; i < server->n_rings; i++) {
        struct ring *ring = &server->rings[i];
        server->shared[i] = ring->running ? &ring->queue : NULL;
        any = any || ring->running;
    }
    int ret = any ? pthread_create(&server->thread, NULL, serve_shared, server) : 0;
    server->running = any && ret == 0;
    for (unsigned i = 0; ret != 0 && i < server->n_rings; i++)
        server->rings[i].running = false;
    return ret ? error_set_errno(err, -ret, "no thread for the queues") : 0;
}

/** is_complete() - whether the front-end said all that the ring needs. The order in which it does is its own. */
static bool is_complete(const struct vu_server *server, const struct ring *ring)
{
    return ring->started && ring->enabled && ring->queue.num && ring->queue.addr_set &&
           server->map.n;
}

/** resume() - one ring that is complete and does not run. */
static int resume(struct vu_server *server, struct ring *ring, struct error *err)
{
    struct vu_queue *queue = &ring->queue;
    queue->features = server->features;
    queue->log = server->features & VHOST_FEATURE_LOG_ALL && server->log.bits ? &server->log : NULL;
    queue->log_fd = server->log_fd;
    queue->backend_fd = server->backend_fd;
    if (queue->broken && !ring->fresh)
        return 0;
    struct error why = ERROR_INIT;
    if (vring_map(queue, &why) < 0) {
        vring_break(queue, 0, &why);
        queue->broken = false; /* the next memory table may hold it */
        return 0;
    }
    if (ring->fresh)
        vring_start(queue);
    ring->fresh = false;
    if (!server->backend->ops->run_all)
        return start_thread(server, ring, err);
    ring->running = true; /* when start_shared() has begun */
    return 0;
}

/** resume_complete() - every ring that waits for it. */
static int resume_complete(struct vu_server *server, struct error *err)
{
    for (unsigned i = 0; i < server->n_rings; i++) {
        struct ring *ring = &server->rings[i];
        if (ring->running || !is_complete(server, ring))
            continue;
        int ret = 0;
        if (!server->prepared && server->backend->ops->prepare)
            ret = server->backend->ops->prepare(server->backend->device, err);
        if (ret < 0)
            return ret;
        server->prepared = true;
        ret = resume(server, ring, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

int rings_resume(struct vu_server *server, struct error *err)
{
    if (!server->backend->ops->run_all)
        return resume_complete(server, err);
    bool waits = !server->running;
    for (unsigned i = 0; i < server->n_rings; i++)
        waits = waits || (!server->rings[i].running && is_complete(server, &server->rings[i]));
    if (!waits)
        return 0;
    rings_pause(server);
    int ret = resume_complete(server, err);
    int started = start_shared(server, ret < 0 ? NULL : err);
    return ret < 0 ? ret : started;
}
