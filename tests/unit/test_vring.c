#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ring_driver.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUM 16u
#define RING_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_INDIRECT_DESC)

/* A driver, and a queue of a back-end on its ring. */
struct bench {
    struct ring_driver driver;
    struct guest_map map;
    struct inflight inflight;
    struct vu_queue queue;
    struct iovec iov[VU_CHAIN_IOV_MAX];
};

static void queue_open(struct bench *b, uint64_t features)
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

static struct bench *bench_open(uint64_t features)
{
    struct bench *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    log_set_level(LOG_ERROR);
    ring_driver_open(&b->driver, NUM);
    ring_driver_map(&b->driver, &b->map);
    queue_open(b, features);
    return b;
}

static void bench_close(struct bench *b)
{
    vring_release(&b->queue);
    inflight_unmap(&b->inflight);
    guest_map_clear(&b->map);
    ring_driver_close(&b->driver);
    free(b);
}

/** track() - give the queue an in-flight region, before it has served anything. */
static void track(struct bench *b)
{
    struct error err = ERROR_INIT;
    struct vhost_user_inflight where = {.n_queues = 1, .queue_size = NUM};
    int fd = inflight_create(&where, &err);
    assert_true(fd >= 0);
    assert_int_equal(inflight_map(&b->inflight, &where, fd, &err), 0);
    close(fd);
    assert_int_equal(vring_map(&b->queue, &err), 0);
    vring_start(&b->queue);
}

/** restart() - the queue of a new process on the same memory. */
static void restart(struct bench *b)
{
    uint64_t features = b->queue.features;
    vring_release(&b->queue);
    queue_open(b, features);
}

static int pop(struct bench *b, struct vu_chain *chain)
{
    chain->iov = b->iov;
    chain->iov_max = VU_CHAIN_IOV_MAX;
    return vu_queue_pop(&b->queue, chain);
}

static uint64_t take_count(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void requests_come_in_order_and_go_back_in_any(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chains[3];
    for (uint16_t i = 0; i < 3; i++) {
        ring_driver_set(&b->driver, i, DRIVER_BUFFERS + i * 64u, 64, VRING_DESC_F_WRITE, 0);
        ring_driver_offer(&b->driver, i);
    }
    for (uint16_t i = 0; i < 3; i++) {
        assert_int_equal(pop(b, &chains[i]), 1);
        assert_int_equal(chains[i].head, i);
        assert_int_equal(chains[i].in_len, 64);
        assert_int_equal(chains[i].n_out, 0);
    }
    assert_int_equal(pop(b, &chains[0]), 0);
    static const uint16_t order[] = {2, 0, 1};
    for (unsigned i = 0; i < 3; i++)
        vu_queue_push(&b->queue, &chains[order[i]], 10 + order[i]);
    for (unsigned i = 0; i < 3; i++) {
        struct vring_used_elem elem;
        assert_true(ring_driver_reap(&b->driver, &elem));
        assert_int_equal(elem.id, order[i]);
        assert_int_equal(elem.len, 10 + order[i]);
    }
    bench_close(b);
}

static void indices_wrap_at_65536(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES | VIRTIO_F_RING_EVENT_IDX);
    track(b);
    unsigned interrupts = 0;
    for (unsigned n = 0; n < 70000; n++) {
        struct vu_chain chain;
        struct vring_used_elem elem;
        ring_driver_set(&b->driver, (uint16_t)(n % NUM), DRIVER_BUFFERS, 8, 0, 0);
        assert_true(!vu_queue_want_kicks(&b->queue, true));
        ring_driver_offer(&b->driver, (uint16_t)(n % NUM));
        assert_int_equal(pop(b, &chain), 1);
        vu_queue_push(&b->queue, &chain, n);
        vu_queue_notify(&b->queue);
        assert_true(ring_driver_reap(&b->driver, &elem));
        assert_int_equal(elem.id, n % NUM);
        assert_int_equal(elem.len, n);
        /* used_event: interrupt when the next one is used. */
        b->driver.avail->ring[NUM] = b->driver.next_used;
        interrupts += (unsigned)take_count(b->queue.call_fd);
    }
    assert_int_equal(interrupts, 70000);
    assert_int_equal(b->driver.used->idx, 70000 % 65536);
    bench_close(b);
}

static void a_chain_is_parted_where_regions_meet(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chain;
    ring_driver_set(&b->driver, 4, DRIVER_SEAM_GPA - 16, 48, VRING_DESC_F_NEXT, 9);
    ring_driver_set(&b->driver, 9, DRIVER_FAR_GPA, 5, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2);
    ring_driver_set(&b->driver, 2, DRIVER_SEAM_GPA - 1, 2, VRING_DESC_F_WRITE, 0);
    memset(ring_driver_at(&b->driver, DRIVER_SEAM_GPA - 16), 'a', 16);
    memset(ring_driver_at(&b->driver, DRIVER_SEAM_GPA), 'b', 32);
    ring_driver_offer(&b->driver, 4);
    assert_int_equal(pop(b, &chain), 1);
    assert_int_equal(chain.n_out, 2);
    assert_int_equal(chain.n_in, 3);
    assert_int_equal(chain.out_len, 48);
    assert_int_equal(chain.in_len, 7);
    assert_int_equal(chain.iov[0].iov_len, 16);
    assert_int_equal(*(char *)chain.iov[0].iov_base, 'a');
    assert_int_equal(chain.iov[1].iov_len, 32);
    assert_int_equal(*(char *)chain.iov[1].iov_base, 'b');
    *(char *)chain.iov[2].iov_base = 'c';
    assert_int_equal(*ring_driver_at(&b->driver, DRIVER_FAR_GPA), 'c');
    bench_close(b);
}

static void an_indirect_table_may_lie_across_regions(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chain;
    const uint64_t at = DRIVER_SEAM_GPA - 24; /* the second entry straddles the seam */
    for (unsigned i = 0; i < 3; i++) {
        const struct vring_desc desc = {.addr = DRIVER_BUFFERS + 32 * i,
                                        .len = 8 + i,
                                        .flags = i < 2 ? VRING_DESC_F_NEXT : VRING_DESC_F_WRITE,
                                        .next = (uint16_t)(i + 1)};
        for (unsigned byte = 0; byte < sizeof(desc); byte++)
            *ring_driver_at(&b->driver, at + i * 16 + byte) = ((const uint8_t *)&desc)[byte];
    }
    ring_driver_set(&b->driver, 1, DRIVER_BUFFERS + 0x800, 4, VRING_DESC_F_NEXT, 3);
    ring_driver_set(&b->driver, 3, at, 48, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
    ring_driver_offer(&b->driver, 1);
    assert_int_equal(pop(b, &chain), 1);
    assert_int_equal(chain.head, 1);
    assert_int_equal(chain.n_out, 3);
    assert_int_equal(chain.out_len, 4 + 8 + 9);
    assert_int_equal(chain.n_in, 1);
    assert_int_equal(chain.in_len, 10);
    bench_close(b);
}

static void an_empty_buffer_is_left_out(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chain;
    ring_driver_set(&b->driver, 0, 0xdead0000, 0, VRING_DESC_F_NEXT, 1);
    ring_driver_set(&b->driver, 1, DRIVER_BUFFERS, 4, 0, 0);
    ring_driver_offer(&b->driver, 0);
    assert_int_equal(pop(b, &chain), 1);
    assert_int_equal(chain.n_out, 1);
    assert_int_equal(chain.out_len, 4);
    bench_close(b);
}

/* What no driver may do, each on a fresh ring. */
static void loop_of_descriptors(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 8, VRING_DESC_F_NEXT, 1);
    ring_driver_set(d, 1, DRIVER_BUFFERS, 8, VRING_DESC_F_NEXT, 0);
}

static void loop_of_empty_descriptors(struct ring_driver *d)
{
    ring_driver_set(d, 0, 0, 0, VRING_DESC_F_NEXT, 0);
}

static void next_beyond_the_table(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 8, VRING_DESC_F_NEXT, NUM);
}

static void buffer_outside_memory(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_GPA - 8, 16, 0, 0);
}

static void buffer_over_the_end_of_memory(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_FAR_GPA + DRIVER_REGION_BYTES - 8, 9, VRING_DESC_F_WRITE, 0);
}

static void buffer_that_wraps(struct ring_driver *d)
{
    ring_driver_set(d, 0, UINT64_MAX - 7, 16, 0, 0);
}

static void readable_behind_writable(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 8, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
    ring_driver_set(d, 1, DRIVER_BUFFERS, 8, 0, 0);
}

static void empty_indirect_table(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 0, VRING_DESC_F_INDIRECT, 0);
}

static void odd_indirect_table(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 17, VRING_DESC_F_INDIRECT, 0);
}

static void indirect_table_with_a_next(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
}

static void indirect_table_outside_memory(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_FAR_GPA + DRIVER_REGION_BYTES - 8, 16, VRING_DESC_F_INDIRECT, 0);
}

static void indirect_table_that_wraps(struct ring_driver *d)
{
    ring_driver_set(d, 0, UINT64_MAX - 3, 0xfffffff0, VRING_DESC_F_INDIRECT, 0);
}

static void set_indirect(struct ring_driver *d, uint32_t n, const struct vring_desc *first)
{
    memcpy(ring_driver_at(d, DRIVER_BUFFERS), first, sizeof(*first));
    ring_driver_set(d, 0, DRIVER_BUFFERS, n * 16, VRING_DESC_F_INDIRECT, 0);
}

static void indirect_table_in_another(struct ring_driver *d)
{
    set_indirect(d, 1, &(struct vring_desc){DRIVER_BUFFERS, 16, VRING_DESC_F_INDIRECT, 0});
}

static void loop_in_an_indirect_table(struct ring_driver *d)
{
    set_indirect(d, 1, &(struct vring_desc){DRIVER_BUFFERS, 16, VRING_DESC_F_NEXT, 0});
}

static void next_beyond_an_indirect_table(struct ring_driver *d)
{
    set_indirect(d, 2, &(struct vring_desc){DRIVER_BUFFERS, 16, VRING_DESC_F_NEXT, 2});
}

static void more_descriptors_than_any_request_has(struct ring_driver *d)
{
    const unsigned n = VU_CHAIN_IOV_MAX + 1;
    struct vring_desc *table = (void *)ring_driver_at(d, DRIVER_BUFFERS);
    for (unsigned i = 0; i < n; i++)
        table[i] = (struct vring_desc){DRIVER_FAR_GPA, 1, VRING_DESC_F_NEXT, (uint16_t)(i + 1)};
    table[n - 1].flags = 0;
    ring_driver_set(d, 0, DRIVER_BUFFERS, n * 16, VRING_DESC_F_INDIRECT, 0);
}

static void one_request_twice(struct ring_driver *d)
{
    ring_driver_set(d, 0, DRIVER_BUFFERS, 8, 0, 0);
    ring_driver_offer(d, 0);
}

static void a_head_beyond_the_table(struct ring_driver *d)
{
    ring_driver_offer(d, NUM);
}

static void more_requests_than_descriptors(struct ring_driver *d)
{
    d->next_avail = NUM;
}

static void what_a_driver_must_not_do_breaks_its_queue_alone(void **state)
{
    (void)state;
    void (*const wrongs[])(struct ring_driver *) = {loop_of_descriptors,
                                                    loop_of_empty_descriptors,
                                                    next_beyond_the_table,
                                                    buffer_outside_memory,
                                                    buffer_over_the_end_of_memory,
                                                    buffer_that_wraps,
                                                    readable_behind_writable,
                                                    empty_indirect_table,
                                                    odd_indirect_table,
                                                    indirect_table_with_a_next,
                                                    indirect_table_outside_memory,
                                                    indirect_table_that_wraps,
                                                    indirect_table_in_another,
                                                    loop_in_an_indirect_table,
                                                    next_beyond_an_indirect_table,
                                                    more_descriptors_than_any_request_has,
                                                    one_request_twice,
                                                    a_head_beyond_the_table,
                                                    more_requests_than_descriptors};
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        struct bench *b = bench_open(RING_FEATURES);
        struct vu_chain chain;
        wrongs[i](&b->driver);
        ring_driver_offer(&b->driver, 0);
        int ret;
        while ((ret = pop(b, &chain)) > 0)
            assert_ptr_equal(wrongs[i], one_request_twice);
        assert_true(ret < 0);
        assert_int_equal(take_count(b->queue.err_fd), 1);
        assert_true(pop(b, &chain) < 0);
        assert_int_equal(take_count(b->queue.err_fd), 0);
        assert_false(vu_queue_want_kicks(&b->queue, true));
        assert_int_equal(b->driver.used->idx, 0);
        bench_close(b);
    }
}

static void indirect_tables_need_their_feature(void **state)
{
    (void)state;
    struct bench *b = bench_open(VIRTIO_F_VERSION_1);
    struct vu_chain chain;
    set_indirect(&b->driver, 1, &(struct vring_desc){DRIVER_BUFFERS, 16, 0, 0});
    ring_driver_offer(&b->driver, 0);
    assert_true(pop(b, &chain) < 0);
    bench_close(b);
}

static void more_entries_than_the_caller_has_break_the_queue(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chain = {.iov = b->iov, .iov_max = 1};
    ring_driver_set(&b->driver, 0, DRIVER_SEAM_GPA - 1, 2, 0, 0);
    ring_driver_offer(&b->driver, 0);
    assert_true(vu_queue_pop(&b->queue, &chain) < 0);
    bench_close(b);
}

static void a_request_of_4_gib_breaks_the_queue(void **state)
{
    (void)state;
    /* Larger than any region here, so the sum has to be looked at before the addresses of the second part. */
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chain;
    ring_driver_set(&b->driver, 0, DRIVER_BUFFERS, 16, VRING_DESC_F_NEXT, 1);
    ring_driver_set(&b->driver, 1, DRIVER_BUFFERS, UINT32_MAX, 0, 0);
    ring_driver_offer(&b->driver, 0);
    assert_int_equal(pop(b, &chain), -EPROTO);
    bench_close(b);
}

/** serve_one() - one request, start to end. */
static void serve_one(struct bench *b)
{
    struct vu_chain chain;
    uint16_t head = b->driver.next_avail % NUM;
    ring_driver_set(&b->driver, head, DRIVER_BUFFERS, 8, VRING_DESC_F_WRITE, 0);
    ring_driver_offer(&b->driver, head);
    assert_int_equal(pop(b, &chain), 1);
    vu_queue_push(&b->queue, &chain, 0);
}

static void without_event_idx_the_flags_decide(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(take_count(b->queue.call_fd), 1);
    vu_queue_notify(&b->queue); /* nothing new */
    assert_int_equal(take_count(b->queue.call_fd), 0);
    b->driver.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(take_count(b->queue.call_fd), 0);

    assert_false(vu_queue_want_kicks(&b->queue, false));
    assert_int_equal(b->driver.used->flags, VRING_USED_F_NO_NOTIFY);
    assert_false(vu_queue_want_kicks(&b->queue, true));
    assert_int_equal(b->driver.used->flags, 0);
    ring_driver_set(&b->driver, 5, DRIVER_BUFFERS, 8, 0, 0);
    ring_driver_offer(&b->driver, 5);
    assert_true(vu_queue_want_kicks(&b->queue, true));
    bench_close(b);
}

static void with_event_idx_interrupts_come_when_the_event_is_passed(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES | VIRTIO_F_RING_EVENT_IDX);
    b->driver.avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* of no meaning with event idx */
    b->driver.avail->ring[NUM] = 3;                      /* used_event: when the fourth is used */
    serve_one(b);
    vu_queue_notify(&b->queue); /* the first after a start is never held back */
    assert_int_equal(take_count(b->queue.call_fd), 1);
    serve_one(b);
    serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(take_count(b->queue.call_fd), 0);
    serve_one(b);
    serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(take_count(b->queue.call_fd), 1);
    serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(take_count(b->queue.call_fd), 0);

    const uint16_t *avail_event = (void *)&b->driver.used->ring[NUM];
    assert_false(vu_queue_want_kicks(&b->queue, true));
    assert_int_equal(*avail_event, 6);
    serve_one(b);
    assert_false(vu_queue_want_kicks(&b->queue, false));
    assert_int_equal(*avail_event, 6);
    assert_int_equal(b->driver.used->flags, 0);
    bench_close(b);
}

static void a_ring_must_lie_aligned_in_one_region(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    const struct vhost_user_vring_addr right = b->queue.addr;
    struct vhost_user_vring_addr wrong[8];
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        wrong[i] = right;
    const uint64_t seam = DRIVER_USER + DRIVER_SEAM_GPA;
    wrong[0].desc += 8;
    wrong[1].avail += 1;
    wrong[2].used += 2;
    wrong[3].desc = seam - 16 * NUM + 16; /* a descriptor too far */
    wrong[4].avail = seam - 4 - 2 * NUM;  /* its used_event is outside */
    wrong[5].used = seam - 4 - 8 * NUM;   /* its avail_event is outside */
    wrong[6].desc = UINT64_MAX - 15;
    wrong[7].used = DRIVER_GPA; /* guest physical is not the front-end's */
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct error err = ERROR_INIT;
        b->queue.addr = wrong[i];
        assert_int_equal(vring_map(&b->queue, &err), -EINVAL);
        assert_string_not_equal(err.message, "");
    }
    struct error err = ERROR_INIT;
    b->queue.addr = right;
    b->queue.addr.desc = seam - 16 * NUM;
    b->queue.addr.avail = seam - 16 * NUM - 6 - 2 * NUM;
    b->queue.addr.used = seam + DRIVER_REGION_BYTES - 8 - 8 * NUM;
    assert_int_equal(vring_map(&b->queue, &err), 0);
    bench_close(b);
}

static void what_was_under_way_comes_again_oldest_first(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    track(b);
    static const uint16_t heads[] = {7, 3, 11, 0, 5};
    struct vu_chain chains[5];
    for (unsigned i = 0; i < 5; i++) {
        ring_driver_set(&b->driver, heads[i], DRIVER_BUFFERS + i, 1, 0, 0);
        ring_driver_offer(&b->driver, heads[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pop(b, &chains[i]), 1);
    vu_queue_push(&b->queue, &chains[1], 0);
    for (unsigned again = 0; again < 2; again++) {
        static const uint16_t expected[] = {7, 11, 0, 5};
        restart(b);
        assert_true(vu_queue_want_kicks(&b->queue, true));
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(pop(b, &chains[0]), 1);
            assert_int_equal(chains[0].head, expected[i]);
        }
        assert_int_equal(pop(b, &chains[0]), 0);
    }
    chains[0].head = 7;
    chains[0].n_in = chains[0].n_out = 0;
    vu_queue_push(&b->queue, &chains[0], 0);
    restart(b);
    assert_int_equal(pop(b, &chains[0]), 1);
    assert_int_equal(chains[0].head, 11);
    bench_close(b);
}

static void the_last_batch_of_a_back_end_that_batches_is_finished(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    track(b);
    for (uint16_t i = 0; i < 4; i++) {
        struct vu_chain chain;
        ring_driver_set(&b->driver, i, DRIVER_BUFFERS, 1, 0, 0);
        ring_driver_offer(&b->driver, i);
        assert_int_equal(pop(b, &chain), 1);
    }
    /* 2, 0 and 3 entered the used ring in one batch, and then the back-end died. */
    struct inflight_ring *ring = b->queue.tracked;
    ring->desc[2].next = 0;
    ring->desc[0].next = 2;
    ring->desc[3].next = 0;
    ring->last_batch_head = 3;
    b->driver.used->idx = 3;
    restart(b);
    struct vu_chain chain;
    assert_int_equal(pop(b, &chain), 1);
    assert_int_equal(chain.head, 1);
    assert_int_equal(pop(b, &chain), 0);
    assert_int_equal(ring->used_idx, 3);
    assert_int_equal(b->queue.last_avail, 4);
    bench_close(b);
}

#define UNDER_WAY 3u

static void push_the_middle_one(struct bench *b)
{
    struct vu_chain chain = {.head = 9, .iov = b->iov, .iov_max = 1};
    vu_queue_push(&b->queue, &chain, 7);
}

static void pop_another(struct bench *b)
{
    struct vu_chain chain;
    pop(b, &chain);
}

/** check_recovery() - each of the four requests is either used or served again, once; those again in their order. */
static void check_recovery(struct bench *b)
{
    static const uint16_t order[UNDER_WAY + 1] = {4, 9, 2, 6};
    bool used[NUM] = {0};
    struct vring_used_elem elem;
    while (ring_driver_reap(&b->driver, &elem)) {
        assert_true(elem.id < NUM && !used[elem.id]);
        used[elem.id] = true;
    }
    restart(b);
    for (unsigned i = 0; i < UNDER_WAY + 1; i++) {
        struct vu_chain chain;
        if (used[order[i]])
            continue;
        assert_int_equal(pop(b, &chain), 1);
        assert_int_equal(chain.head, order[i]);
    }
    struct vu_chain chain;
    assert_int_equal(pop(b, &chain), 0);
}

/* What outlives a back-end: rings and in-flight region. */
struct survivors {
    uint8_t rings[0x3000];
    uint8_t inflight[sizeof(struct inflight_ring) + NUM * sizeof(struct inflight_desc)];
};

static void save(const struct bench *b, struct survivors *saved)
{
    memcpy(saved->rings, b->driver.ram, sizeof(saved->rings));
    memcpy(saved->inflight, b->inflight.bytes, sizeof(saved->inflight));
}

static void restore(struct bench *b, const struct survivors *saved)
{
    memcpy(b->driver.ram, saved->rings, sizeof(saved->rings));
    memcpy(b->inflight.bytes, saved->inflight, sizeof(saved->inflight));
    b->driver.next_used = 1;
}

/** start_stopped() - a process that does @act with @b once it is let go. */
static pid_t start_stopped(struct bench *b, void (*act)(struct bench *b))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        act(b);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

/**
 * crash_everywhere() - let another back-end take over after each instruction of @act that changed what outlives a
 * back-end: each of those is what a kill at that place leaves.
 */
static void crash_everywhere(void (*act)(struct bench *b), unsigned least_changes)
{
    static const uint16_t heads[UNDER_WAY + 1] = {4, 9, 2, 6};
    struct bench *b = bench_open(RING_FEATURES | VIRTIO_F_RING_EVENT_IDX);
    struct vu_chain chain;
    struct vring_used_elem elem;
    track(b);
    serve_one(b); /* so that there is an older batch */
    assert_true(ring_driver_reap(&b->driver, &elem));
    for (unsigned i = 0; i < UNDER_WAY + 1; i++) {
        ring_driver_set(&b->driver, heads[i], DRIVER_BUFFERS, 1, 0, 0);
        ring_driver_offer(&b->driver, heads[i]);
        if (i < UNDER_WAY)
            assert_int_equal(pop(b, &chain), 1);
    }
    static struct survivors before, now;
    unsigned changes = 0;
    int status;
    save(b, &before);
    pid_t pid = start_stopped(b, act);
    for (;;) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status))
            break;
        save(b, &now);
        if (memcmp(&now, &before, sizeof(now)) == 0)
            continue;
        changes++;
        check_recovery(b);
        restore(b, &now);
        before = now;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(changes >= least_changes);
    check_recovery(b);
    bench_close(b);
}

static void a_crash_at_any_instruction_of_giving_back_loses_and_repeats_nothing(void **state)
{
    (void)state;
    crash_everywhere(push_the_middle_one, 6);
}

static void a_crash_at_any_instruction_of_taking_loses_nothing(void **state)
{
    (void)state;
    crash_everywhere(pop_another, 2);
}

static void a_damaged_in_flight_region_harms_nobody(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    track(b);
    memset(b->queue.tracked->desc, 0xff, NUM * sizeof(struct inflight_desc));
    b->queue.tracked->last_batch_head = 0xffff;
    b->queue.tracked->used_idx = 0x1234;
    for (uint16_t i = 0; i < NUM; i++)
        ring_driver_set(&b->driver, i, DRIVER_BUFFERS, 1, 0, 0);
    restart(b);
    for (unsigned i = 0; i < NUM; i++) {
        struct vu_chain chain;
        assert_int_equal(pop(b, &chain), 1);
        assert_int_equal(chain.head, i);
    }
    bench_close(b);
}

static void an_in_flight_region_is_checked_before_it_is_used(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct inflight region = {0};
    struct vhost_user_inflight where = {.n_queues = 2, .queue_size = NUM};
    int fd = inflight_create(&where, &err);
    assert_true(fd >= 0);
    struct vhost_user_inflight wrong[8];
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        wrong[i] = where;
    wrong[0].n_queues = 3;         /* larger than the file */
    wrong[1].queue_size = 2 * NUM; /* made for other queues */
    wrong[2].queue_size = NUM / 2; /* the same, smaller */
    wrong[3].mmap_size += 4096;    /* beyond the end */
    wrong[4].mmap_offset = 4096;   /* beyond the end */
    wrong[5].mmap_offset = 4;      /* misaligned */
    wrong[6].n_queues = 0;
    wrong[7].mmap_size = UINT64_MAX;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(inflight_map(&region, &wrong[i], fd, &err), -EINVAL);
    assert_null(region.bytes);
    assert_int_equal(inflight_map(&region, &where, fd, &err), 0);
    assert_non_null(inflight_ring(&region, 1, NUM));
    assert_null(inflight_ring(&region, 2, NUM));
    assert_null(inflight_ring(&region, 0, NUM + 1));
    inflight_unmap(&region);
    close(fd);
    where.queue_size = 0;
    assert_int_equal(inflight_create(&where, &err), -EINVAL);
}

static void pages_that_were_written_are_logged_and_no_others(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES | VIRTIO_F_RING_EVENT_IDX);
    struct error err = ERROR_INIT;
    const uint64_t bytes = (DRIVER_SEAM_GPA + DRIVER_REGION_BYTES) / PAGE_BYTES / 8;
    int fd = memfd_create("log", 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    struct dirty_log log = {0};
    assert_int_equal(dirty_log_map(&log, &(struct vhost_user_log){bytes + 1, 0}, fd, &err),
                     -EINVAL);
    assert_int_equal(dirty_log_map(&log, &(struct vhost_user_log){0, 0}, fd, &err), -EINVAL);
    assert_int_equal(dirty_log_map(&log, &(struct vhost_user_log){bytes, 0}, fd, &err), 0);
    b->queue.log = &log;
    b->queue.log_fd = eventfd(0, EFD_NONBLOCK);
    b->queue.addr.flags = VHOST_USER_VRING_LOG;

    struct vu_chain chain;
    ring_driver_set(&b->driver, 0, DRIVER_BUFFERS, 4096, VRING_DESC_F_NEXT, 1);
    ring_driver_set(&b->driver, 1, DRIVER_SEAM_GPA - 1, 4098,
                    VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    ring_driver_set(&b->driver, 2, DRIVER_FAR_GPA, 1, VRING_DESC_F_WRITE, 0); /* beyond the log */
    ring_driver_offer(&b->driver, 0);
    assert_int_equal(pop(b, &chain), 1);
    for (uint64_t i = 0; i < bytes; i++)
        assert_int_equal(log.bits[i], 0);
    vu_queue_push(&b->queue, &chain, 1);
    assert_int_equal(take_count(b->queue.log_fd), 1);
    const uint64_t seam = DRIVER_SEAM_GPA / PAGE_BYTES, used = DRIVER_GPA / PAGE_BYTES + 2;
    for (uint64_t page = 0; page < bytes * 8; page++) {
        bool expected = page == seam - 1 || page == seam || page == seam + 1 || page == used;
        assert_int_equal(log.bits[page / 8] >> (page % 8) & 1, expected);
    }
    memset(log.bits, 0, bytes);
    vu_queue_want_kicks(&b->queue, true);
    assert_int_equal(log.bits[used / 8] >> (used % 8) & 1, 1);

    /* Without the flag the used ring is somebody else's to log. */
    memset(log.bits, 0, bytes);
    b->queue.addr.flags = 0;
    vu_queue_want_kicks(&b->queue, true);
    assert_int_equal(log.bits[used / 8], 0);
    close(b->queue.log_fd);
    dirty_log_unmap(&log);
    close(fd);
    bench_close(b);
}

static void memory_regions_are_held_against_their_files(void **state)
{
    (void)state;
    struct ring_driver d;
    struct guest_map map = {0};
    struct error err = ERROR_INIT;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    ring_driver_open(&d, NUM);
    log_set_level(LOG_ERROR);
    const struct vhost_user_region whole = {0x1000, DRIVER_RAM_BYTES, 0x5000, 0};
    assert_int_equal(guest_map_add(&map, &whole, pipe_fds[0], &err), -EINVAL);
    struct vhost_user_region wrong[6];
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        wrong[i] = whole;
    wrong[0].len++;
    wrong[1].offset = 1;
    wrong[2].len = 0;
    wrong[3].gpa = UINT64_MAX - 4096;
    wrong[4].user_addr = UINT64_MAX - 4096;
    wrong[5].offset = UINT64_MAX - 4096;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(guest_map_add(&map, &wrong[i], d.memfd, &err), -EINVAL);
    assert_int_equal(guest_map_add(&map, &whole, -1, &err), -EBADF);
    assert_int_equal(map.n, 0);
    assert_int_equal(guest_map_add(&map, &whole, d.memfd, &err), 0);
    /* Both address spaces are taken. */
    struct vhost_user_region other = {0x100000000, 4096, 0x5000 + DRIVER_RAM_BYTES - 1, 0};
    assert_int_equal(guest_map_add(&map, &other, d.memfd, &err), -EEXIST);
    other = (struct vhost_user_region){0xfff, 2, 0x100000000, 0};
    assert_int_equal(guest_map_add(&map, &other, d.memfd, &err), -EEXIST);
    other = whole;
    other.len--;
    assert_int_equal(guest_map_remove(&map, &other, &err), -ENOENT);
    assert_int_equal(guest_map_remove(&map, &whole, &err), 0);
    assert_int_equal(guest_map_remove(&map, &whole, &err), -ENOENT);
    guest_map_clear(&map);
    ring_driver_close(&d);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void a_region_may_begin_anywhere_in_its_file(void **state)
{
    (void)state;
    struct ring_driver d;
    struct guest_map map = {0};
    struct error err = ERROR_INIT;
    ring_driver_open(&d, NUM);
    const struct vhost_user_region odd = {0x10, 100, 0x5000, 4095};
    assert_int_equal(guest_map_add(&map, &odd, d.memfd, &err), 0);
    uint64_t len = 1000;
    d.ram[4095 + 7] = 0x77;
    const uint8_t *at = guest_map_gpa(&map, 0x17, &len);
    assert_non_null(at);
    assert_int_equal(*at, 0x77);
    assert_int_equal(len, 93);
    assert_int_equal(guest_map_gpa_of(&map, at), 0x17);
    assert_ptr_equal(guest_map_user(&map, 0x5007, 93), at);
    assert_null(guest_map_user(&map, 0x5007, 94));
    assert_null(guest_map_gpa(&map, 0xf, &len));
    assert_null(guest_map_gpa(&map, 0x10 + 100, &len));
    guest_map_clear(&map);
    ring_driver_close(&d);
}

static void the_map_holds_its_slots_and_no_more(void **state)
{
    (void)state;
    struct ring_driver d;
    struct guest_map map = {0};
    struct error err = ERROR_INIT;
    ring_driver_open(&d, NUM);
    /* From the top down, so that each one goes in front. */
    struct vhost_user_region page = {0, PAGE_BYTES, 0, 0};
    for (unsigned i = GUEST_MAP_SLOTS; i-- > 0;) {
        page.gpa = page.user_addr = (uint64_t)i * 2 * PAGE_BYTES;
        assert_int_equal(guest_map_add(&map, &page, d.memfd, &err), 0);
    }
    page.gpa = page.user_addr = GIB(1);
    assert_int_equal(guest_map_add(&map, &page, d.memfd, &err), -ENOSPC);
    for (unsigned i = 0; i < GUEST_MAP_SLOTS; i++) {
        uint64_t len = GIB(1);
        assert_non_null(guest_map_gpa(&map, (uint64_t)i * 2 * PAGE_BYTES + 1, &len));
        assert_int_equal(len, PAGE_BYTES - 1);
        assert_null(guest_map_gpa(&map, ((uint64_t)i * 2 + 1) * PAGE_BYTES, &len));
    }
    guest_map_clear(&map);
    ring_driver_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_in_order_and_go_back_in_any),
        cmocka_unit_test(indices_wrap_at_65536),
        cmocka_unit_test(a_chain_is_parted_where_regions_meet),
        cmocka_unit_test(an_indirect_table_may_lie_across_regions),
        cmocka_unit_test(an_empty_buffer_is_left_out),
        cmocka_unit_test(what_a_driver_must_not_do_breaks_its_queue_alone),
        cmocka_unit_test(indirect_tables_need_their_feature),
        cmocka_unit_test(more_entries_than_the_caller_has_break_the_queue),
        cmocka_unit_test(a_request_of_4_gib_breaks_the_queue),
        cmocka_unit_test(without_event_idx_the_flags_decide),
        cmocka_unit_test(with_event_idx_interrupts_come_when_the_event_is_passed),
        cmocka_unit_test(a_ring_must_lie_aligned_in_one_region),
        cmocka_unit_test(what_was_under_way_comes_again_oldest_first),
        cmocka_unit_test(the_last_batch_of_a_back_end_that_batches_is_finished),
        cmocka_unit_test(a_crash_at_any_instruction_of_giving_back_loses_and_repeats_nothing),
        cmocka_unit_test(a_crash_at_any_instruction_of_taking_loses_nothing),
        cmocka_unit_test(a_damaged_in_flight_region_harms_nobody),
        cmocka_unit_test(an_in_flight_region_is_checked_before_it_is_used),
        cmocka_unit_test(pages_that_were_written_are_logged_and_no_others),
        cmocka_unit_test(memory_regions_are_held_against_their_files),
        cmocka_unit_test(a_region_may_begin_anywhere_in_its_file),
        cmocka_unit_test(the_map_holds_its_slots_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
