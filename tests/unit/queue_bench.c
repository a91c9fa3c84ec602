#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue_bench.h"

#include "base/log.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void open_queue(struct bench *b, uint64_t features)
{
    struct vu_queue *queue = &b->queue;
    struct error err = ERROR_INIT;
    assert_int_equal(vring_init(queue, "test", 0, 256), 0);
    queue->map = &b->map;
    queue->inflight = &b->inflight;
    queue->features = features;
    queue->num = b->driver.num;
    queue->addr = ring_driver_addr(0);
    queue->addr_set = true;
    queue->call_fd = eventfd(0, EFD_NONBLOCK);
    queue->err_fd = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(vring_map(queue, &err), 0);
    vring_start(queue);
}

struct bench *bench_open(uint64_t features)
{
    struct bench *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    log_set_level(LOG_ERROR);
    ring_driver_open(&b->driver, BENCH_NUM);
    ring_driver_map(&b->driver, &b->map);
    open_queue(b, features);
    return b;
}

void bench_close(struct bench *b)
{
    vring_release(&b->queue);
    inflight_unmap(&b->inflight);
    guest_map_clear(&b->map);
    ring_driver_close(&b->driver);
    free(b);
}

void bench_track(struct bench *b)
{
    struct error err = ERROR_INIT;
    struct vhost_user_inflight where = {.n_queues = 1, .queue_size = BENCH_NUM};
    int fd = inflight_create(&where, &err);
    assert_true(fd >= 0);
    assert_int_equal(inflight_map(&b->inflight, &where, fd, &err), 0);
    close(fd);
    assert_int_equal(vring_map(&b->queue, &err), 0);
    vring_start(&b->queue);
}

void bench_restart(struct bench *b)
{
    uint64_t features = b->queue.features;
    vring_release(&b->queue);
    open_queue(b, features);
}

int bench_pop(struct bench *b, struct vu_chain *chain)
{
    chain->iov = b->iov;
    chain->iov_max = VU_CHAIN_IOV_MAX;
    return vu_queue_pop(&b->queue, chain);
}

uint64_t bench_take_count(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

void bench_serve_one(struct bench *b)
{
    struct vu_chain chain;
    uint16_t head = b->driver.next_avail % BENCH_NUM;
    ring_driver_set(&b->driver, head, DRIVER_BUFFERS, 8, VRING_DESC_F_WRITE, 0);
    ring_driver_offer(&b->driver, head);
    assert_int_equal(bench_pop(b, &chain), 1);
    vu_queue_push(&b->queue, &chain, 0);
}
