/*
 * One thread a queue. What the page cache has is answered on the spot; everything else goes through an io_uring of the
 * thread's own. The thread sleeps in epoll on the kick, the ring, the rate limiter's timer and the stop event together.
 *
 * Waking a thread costs more than a small request does. So before it sleeps, a queue that is busy is watched for a
 * while; how long is decided by how long the last sleeps were, and a queue whose sleeps are long is not watched.
 *
 * Large reads: copying one out of the page cache keeps a processor busy for longer than it takes to wake another. When
 * several are there, io_uring's own threads make them; a single one is made on the spot.
 *
 * Buffered writes: where the file system cannot write without ever waiting (ext4), io_uring hands each to a worker
 * thread, at several times the cost of the write. They are made on the spot instead, until they turn out to be slow:
 * then the disk is busy, and for a while writes are handed over, so that reads need not stand behind them.
 */
#include "backends/blk_queue.h"

#include "backends/blk_config.h"
#include "backends/blk_ring.h"
#include "backends/blk_task.h"
#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH_REQUESTS 32u   /* looks at the stop event and at what has ended at least so often */
#define NOTIFY_BYTES KIB(64) /* a driver works on what is done while the rest is copied */
#define LARGE_READ_BYTES KIB(128) /* takes longer to copy than a helper to wake */
#define HELPERS_MAX 4u
#define SLOW_WRITE_NS 2000000u    /* no copy into the page cache takes that long ... */
#define SLOW_PERIOD_NS 100000000u /* ... for that long nobody waits for one */
#define POLL_START_NS 10000u
#define RETRY_MS 1
#define STOP_LOOK_ROUNDS 16u /* a driver that is never idle cannot keep a queue from ending */

enum wake { WAKE_KICK, WAKE_RING, WAKE_TIMER, WAKE_STOP };

struct blk_queue {
    struct blk_device *device;
    struct vu_queue *queue;
    int epoll, timer;
    bool held, broken, stopping, was_slow;
    struct io_uring *ring;      /* NULL: there is none */
    unsigned under_way, queued; /* in the ring; of these, not yet submitted */
    unsigned helped, helpers;   /* large reads that kernel threads make for this one; at most */
    struct blk_task *put_off;   /* a large read not yet started */
    uint64_t unannounced;       /* bytes of requests that the driver was not told of */
    uint64_t poll_ns, slow_until_ns;
    struct blk_task task; /* the one being started; held back by the limiter if held */
    struct iovec chain[VU_CHAIN_IOV_MAX], data[VU_CHAIN_IOV_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void announce(struct blk_queue *q)
{
    if (q->unannounced)
        vu_queue_notify(q->queue);
    q->unannounced = 0;
}

/* Give a request back. */
static void answer(struct blk_queue *q, struct blk_task *task)
{
    const struct vu_chain *chain = &task->request.chain;
    uint32_t written = blk_task_answer(task);
    vu_queue_push(q->queue, chain, written);
    q->unannounced += MAX(task->request.len, 1);
    if (q->unannounced >= NOTIFY_BYTES)
        announce(q);
}

static bool submit(struct blk_queue *q)
{
    int n = q->queued ? io_uring_submit(q->ring) : 0;
    if (n > 0)
        q->queued -= MIN((unsigned)n, q->queued);
    return n >= 0;
}

/* To the ring. Returns false if it does not take this one. */
static bool hand_over(struct blk_queue *q, struct blk_task *task, const struct blk_io *io)
{
    if (io->kind == BLK_IO_DISCARD)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(q->ring);
    if (!sqe && submit(q))
        sqe = io_uring_get_sqe(q->ring);
    if (!sqe || !blk_io_prepare(&q->device->disk, io, sqe))
        return false;
    io_uring_sqe_set_data(sqe, task);
    if (task->helped)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    q->queued++;
    return true;
}

/* How often this thread has waited, rather than been made to. */
static long waits_so_far(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

/* A write into the page cache, made here although it might wait. Two slow ones in a row, the second seen to wait for
 * something and not just to lose the processor, are taken for a busy disk. */
static int64_t write_here(struct blk_queue *q, const struct blk_io *io)
{
    uint64_t before = now_ns();
    if (before < q->slow_until_ns)
        return -EAGAIN;
    long waits = q->was_slow ? waits_so_far() : 0;
    int64_t result = blk_io_wait(&q->device->disk, io);
    uint64_t after = now_ns();
    bool slow = after - before > SLOW_WRITE_NS;
    if (slow && q->was_slow && waits_so_far() != waits)
        q->slow_until_ns = after + SLOW_PERIOD_NS;
    q->was_slow = slow;
    return result;
}

/* On the spot, if that is quick. */
static int64_t try_here(struct blk_queue *q, const struct blk_io *io)
{
    struct blk_disk *disk = &q->device->disk;
    int64_t result = blk_io_now(disk, io);
    if (result == -EAGAIN && io->kind == BLK_IO_WRITE && !disk->direct && !io->flags &&
        atomic_load_explicit(&disk->no_nowait_write, memory_order_relaxed))
        result = write_here(q, io);
    return result;
}

static void release(struct blk_queue *q, struct blk_task *task)
{
    if (task != &q->task)
        free(task);
}

/* Start a request: q->task, which is copied if it outlasts this call, or a copy already. */
static void start(struct blk_queue *q, struct blk_task *task)
{
    struct blk_io io;
    while (blk_task_next(task, &io)) {
        int64_t result = task->helped ? -EAGAIN : try_here(q, &io);
        if (result == -EAGAIN && q->ring && io.kind != BLK_IO_DISCARD) {
            struct blk_task *kept = task == &q->task ? blk_task_keep(task) : task;
            if (kept && blk_task_next(kept, &io) && hand_over(q, kept, &io)) {
                q->under_way++;
                q->helped += kept->helped;
                return;
            }
            if (kept != task)
                free(kept);
            task->helped = false;
            (void)blk_task_next(task, &io);
        }
        if (result == -EAGAIN)
            result = blk_io_wait(&q->device->disk, &io);
        blk_task_advance(task, result);
    }
    answer(q, task);
    release(q, task);
}

/* Start the read that was put off, by a helper if @help. */
static void start_put_off(struct blk_queue *q, bool help)
{
    struct blk_task *task = q->put_off;
    q->put_off = NULL;
    if (!task)
        return;
    task->helped = help && q->helped < q->helpers;
    start(q, task);
    if (help)
        submit(q);
}

/* The access of a request in the ring ended. */
static void go_on(struct blk_queue *q, struct blk_task *task, int64_t result)
{
    struct blk_io io;
    if (result == -EAGAIN || result == -EINTR) {
        (void)blk_task_next(task, &io);
        result = blk_io_wait(&q->device->disk, &io);
    }
    blk_task_advance(task, result);
    while (blk_task_next(task, &io)) {
        if (hand_over(q, task, &io))
            return;
        blk_task_advance(task, blk_io_wait(&q->device->disk, &io));
    }
    q->under_way--;
    q->helped -= task->helped;
    answer(q, task);
    free(task);
}

/* Everything that has ended in the ring. Returns whether anything had. */
static bool reap(struct blk_queue *q)
{
    struct io_uring_cqe *cqe;
    bool any = false;
    while (q->under_way && io_uring_peek_cqe(q->ring, &cqe) == 0) {
        struct blk_task *task = io_uring_cqe_get_data(cqe);
        int64_t result = cqe->res;
        io_uring_cqe_seen(q->ring, cqe);
        go_on(q, task, result);
        any = true;
    }
    return any;
}

/* Put a large read off until it is known whether another request comes behind it. */
static bool try_put_off(struct blk_queue *q)
{
    const struct blk_task *task = &q->task;
    if (task->stage != BLK_STAGE_DATA || task->request.type != BLK_T_IN ||
        task->request.len < LARGE_READ_BYTES || task->disk->direct)
        return false;
    if (q->helped)
        reap(q); /* one may be done */
    if (q->helped >= q->helpers)
        return false;
    q->put_off = blk_task_keep(task);
    return q->put_off != NULL;
}

/* Whether the rate limit lets the request in q->task through; else the timer is set. */
static bool within_limit(struct blk_queue *q)
{
    const struct blk_request *request = &q->task.request;
    if (!q->device->limit.on)
        return true;
    bool moves = request->type == BLK_T_IN || request->type == BLK_T_OUT;
    uint64_t wait = rate_limit_take(&q->device->limit, moves ? request->len : 0, now_ns());
    q->held = wait != 0;
    if (!wait)
        return true;
    wait = MIN(wait, 1000000000u);
    struct itimerspec time = {.it_value = {.tv_sec = (time_t)(wait / 1000000000u),
                                           .tv_nsec = (long)(wait % 1000000000u)}};
    timerfd_settime(q->timer, 0, &time, NULL);
    return false;
}

/* Take and start requests. Returns how many; a full batch means that there may be more. */
static unsigned serve_batch(struct blk_queue *q)
{
    bool stable = !blk_writeback(&q->device->disk, vu_queue_features(q->queue));
    unsigned n = 0;
    if (q->held) {
        if (!within_limit(q))
            return 0;
        start(q, &q->task);
        n++;
    }
    while (n < BATCH_REQUESTS) {
        struct vu_chain chain = {.iov = q->chain, .iov_max = VU_CHAIN_IOV_MAX};
        int r = vu_queue_pop(q->queue, &chain);
        q->broken = r < 0;
        if (r <= 0)
            break;
        uint8_t status = blk_request_parse(&q->task.request, &q->device->disk, &chain, q->data);
        blk_task_start(&q->task, &q->device->disk, status, stable);
        start_put_off(q, true);
        if (!within_limit(q))
            break;
        if (!try_put_off(q))
            start(q, &q->task);
        n++;
    }
    start_put_off(q, q->helped > 0);
    return n;
}

/* Watch the ring for up to q->poll_ns, but not while helpers need the processors. Returns whether something came. */
static bool watch(struct blk_queue *q, uint64_t since_ns)
{
    if (!q->poll_ns || q->held || q->helped)
        return false;
    do {
        for (unsigned i = 0; i < 16; i++) {
            __builtin_ia32_pause();
            if (q->under_way && io_uring_cq_ready(q->ring))
                return true;
        }
        if (serve_batch(q) || q->broken)
            return true;
    } while (now_ns() - since_ns < q->poll_ns);
    return false;
}

/* A sleep that watching a little longer would have spared makes it longer; a long sleep ends it. */
static void learn(struct blk_queue *q, uint64_t idle_ns)
{
    uint64_t max = (uint64_t)q->device->poll_us * 1000;
    if (idle_ns > 2 * max)
        q->poll_ns = 0;
    else if (idle_ns > q->poll_ns)
        q->poll_ns = MIN(MAX(q->poll_ns * 2, POLL_START_NS), max);
}

/* Until something happens. */
static void sleep_until_woken(struct blk_queue *q)
{
    struct epoll_event events[4];
    /* Nobody tells of new requests, or of when the kernel has room for more. */
    bool blind = vu_queue_kick_fd(q->queue) < 0 || q->queued;
    int timeout = blind ? RETRY_MS : -1;
    int n = epoll_wait(q->epoll, events, ARRAY_SIZE(events), timeout);
    for (int i = 0; i < n; i++) {
        uint64_t expirations;
        if (events[i].data.u32 == WAKE_STOP)
            q->stopping = true;
        else if (events[i].data.u32 == WAKE_TIMER &&
                 read(q->timer, &expirations, sizeof(expirations)) < 0)
            continue; /* set anew meanwhile */
    }
}

static void serve(struct blk_queue *q)
{
    struct pollfd stop = {.fd = vu_queue_stop_fd(q->queue), .events = POLLIN};
    vu_queue_want_kicks(q->queue, false);
    for (unsigned round = 1; !q->stopping && !q->broken; round++) {
        if (round % STOP_LOOK_ROUNDS == 0 && poll(&stop, 1, 0) > 0)
            break;
        unsigned n = serve_batch(q);
        submit(q);
        bool ended = reap(q);
        announce(q);
        if (ended || n)
            continue;
        uint64_t since = now_ns();
        if (q->broken || watch(q, since))
            continue;
        if (vu_queue_want_kicks(q->queue, true) && !q->held)
            continue;
        sleep_until_woken(q);
        vu_queue_want_kicks(q->queue, false);
        learn(q, now_ns() - since);
    }
}

/* What is under way ends before the thread does, the request held back by the limiter too. */
static void drain(struct blk_queue *q)
{
    if (q->held)
        start(q, &q->task);
    q->held = false;
    while (q->under_way) {
        if (!submit(q) && io_uring_cq_ready(q->ring) == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        struct io_uring_cqe *cqe;
        if (!q->queued)
            (void)io_uring_wait_cqe(q->ring, &cqe);
        reap(q);
    }
    announce(q);
}

static bool watch_fd(struct blk_queue *q, int fd, enum wake what, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = what};
    return fd >= 0 && epoll_ctl(q->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void take_ring(struct blk_queue *q)
{
    q->ring = blk_rings_get(q->device->rings, vu_queue_index(q->queue));
    cpu_set_t cpus;
    if (q->ring && sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
        q->helpers = CPU_COUNT(&cpus) > 1 ? HELPERS_MAX : 0;
}

static bool open_events(struct blk_queue *q)
{
    q->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (q->device->limit.on)
        q->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int kick = vu_queue_kick_fd(q->queue);
    /* Edge-triggered, a kick need not be read. */
    return q->epoll >= 0 && watch_fd(q, vu_queue_stop_fd(q->queue), WAKE_STOP, EPOLLIN) &&
           (kick < 0 || watch_fd(q, kick, WAKE_KICK, EPOLLIN | EPOLLET)) &&
           (!q->ring || watch_fd(q, q->ring->ring_fd, WAKE_RING, EPOLLIN)) &&
           (!q->device->limit.on || watch_fd(q, q->timer, WAKE_TIMER, EPOLLIN));
}

void blk_queue_run(struct blk_device *device, struct vu_queue *queue)
{
    struct blk_queue *q = malloc(sizeof(*q)); /* the arrays are not touched before they are used */
    if (!q) {
        log_error("queue %u: out of memory", vu_queue_index(queue));
        return;
    }
    memset(q, 0, offsetof(struct blk_queue, chain));
    q->device = device;
    q->queue = queue;
    q->timer = -1;
    take_ring(q);
    if (open_events(q))
        serve(q);
    else
        log_error("queue %u: could not wait for events: %s", vu_queue_index(queue),
                  strerror(errno));
    drain(q);
    if (q->timer >= 0)
        close(q->timer);
    if (q->epoll >= 0)
        close(q->epoll);
    free(q);
}
