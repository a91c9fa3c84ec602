#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue_bench.h"

#include "base/bytes.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void what_was_under_way_comes_again_oldest_first(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    bench_track(b);
    static const uint16_t heads[] = {7, 3, 11, 0, 5};
    struct vu_chain chains[5];
    for (unsigned i = 0; i < 5; i++) {
        ring_driver_set(&b->driver, heads[i], DRIVER_BUFFERS + i, 1, 0, 0);
        ring_driver_offer(&b->driver, heads[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(bench_pop(b, &chains[i]), 1);
    vu_queue_push(&b->queue, &chains[1], 0);
    for (unsigned again = 0; again < 2; again++) {
        static const uint16_t expected[] = {7, 11, 0, 5};
        bench_restart(b);
        assert_true(vu_queue_want_kicks(&b->queue, true));
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(bench_pop(b, &chains[0]), 1);
            assert_int_equal(chains[0].head, expected[i]);
        }
        assert_int_equal(bench_pop(b, &chains[0]), 0);
    }
    chains[0].head = 7;
    chains[0].n_in = chains[0].n_out = 0;
    vu_queue_push(&b->queue, &chains[0], 0);
    bench_restart(b);
    assert_int_equal(bench_pop(b, &chains[0]), 1);
    assert_int_equal(chains[0].head, 11);
    bench_close(b);
}

static void the_last_batch_of_a_back_end_that_batches_is_finished(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    bench_track(b);
    for (uint16_t i = 0; i < 4; i++) {
        struct vu_chain chain;
        ring_driver_set(&b->driver, i, DRIVER_BUFFERS, 1, 0, 0);
        ring_driver_offer(&b->driver, i);
        assert_int_equal(bench_pop(b, &chain), 1);
    }
    /* 2, 0 and 3 entered the used ring in one batch, and then the back-end died. */
    struct inflight_ring *ring = b->queue.tracked;
    ring->desc[2].next = 0;
    ring->desc[0].next = 2;
    ring->desc[3].next = 0;
    ring->last_batch_head = 3;
    b->driver.used->idx = 3;
    bench_restart(b);
    struct vu_chain chain;
    assert_int_equal(bench_pop(b, &chain), 1);
    assert_int_equal(chain.head, 1);
    assert_int_equal(bench_pop(b, &chain), 0);
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
    bench_pop(b, &chain);
}

/** check_recovery() - each of the four requests is either used or served again, once; those again in their order. */
static void check_recovery(struct bench *b)
{
    static const uint16_t order[UNDER_WAY + 1] = {4, 9, 2, 6};
    bool used[BENCH_NUM] = {0};
    struct vring_used_elem elem;
    while (ring_driver_reap(&b->driver, &elem)) {
        assert_true(elem.id < BENCH_NUM && !used[elem.id]);
        used[elem.id] = true;
    }
    bench_restart(b);
    for (unsigned i = 0; i < UNDER_WAY + 1; i++) {
        struct vu_chain chain;
        if (used[order[i]])
            continue;
        assert_int_equal(bench_pop(b, &chain), 1);
        assert_int_equal(chain.head, order[i]);
    }
    struct vu_chain chain;
    assert_int_equal(bench_pop(b, &chain), 0);
}

/* What outlives a back-end: rings and in-flight region. */
struct survivors {
    uint8_t rings[0x3000];
    uint8_t inflight[sizeof(struct inflight_ring) + BENCH_NUM * sizeof(struct inflight_desc)];
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
    bench_track(b);
    bench_serve_one(b); /* so that there is an older batch */
    assert_true(ring_driver_reap(&b->driver, &elem));
    for (unsigned i = 0; i < UNDER_WAY + 1; i++) {
        ring_driver_set(&b->driver, heads[i], DRIVER_BUFFERS, 1, 0, 0);
        ring_driver_offer(&b->driver, heads[i]);
        if (i < UNDER_WAY)
            assert_int_equal(bench_pop(b, &chain), 1);
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
    bench_track(b);
    memset(b->queue.tracked->desc, 0xff, BENCH_NUM * sizeof(struct inflight_desc));
    b->queue.tracked->last_batch_head = 0xffff;
    b->queue.tracked->used_idx = 0x1234;
    for (uint16_t i = 0; i < BENCH_NUM; i++)
        ring_driver_set(&b->driver, i, DRIVER_BUFFERS, 1, 0, 0);
    bench_restart(b);
    for (unsigned i = 0; i < BENCH_NUM; i++) {
        struct vu_chain chain;
        assert_int_equal(bench_pop(b, &chain), 1);
        assert_int_equal(chain.head, i);
    }
    bench_close(b);
}

static void a_ring_larger_than_the_region_is_served_without_it(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct error err = ERROR_INIT;
    struct vhost_user_inflight where = {.n_queues = 1, .queue_size = BENCH_NUM / 2};
    int fd = inflight_create(&where, &err);
    assert_int_equal(inflight_map(&b->inflight, &where, fd, &err), 0);
    close(fd);
    assert_int_equal(vring_map(&b->queue, &err), 0);
    assert_null(b->queue.tracked);
    vring_start(&b->queue);
    for (unsigned i = 0; i < 2 * BENCH_NUM; i++)
        bench_serve_one(b);
    assert_int_equal(b->driver.used->idx, 2 * BENCH_NUM);
    for (uint64_t i = sizeof(struct inflight_ring); i < where.mmap_size; i++)
        assert_int_equal(b->inflight.bytes[i], 0);
    bench_close(b);
}

static void an_in_flight_region_is_checked_before_it_is_used(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct inflight region = {0};
    struct vhost_user_inflight where = {.n_queues = 2, .queue_size = BENCH_NUM};
    int fd = inflight_create(&where, &err);
    assert_true(fd >= 0);
    struct vhost_user_inflight wrong[8];
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        wrong[i] = where;
    wrong[0].n_queues = 3;               /* larger than the file */
    wrong[1].queue_size = 2 * BENCH_NUM; /* made for other queues */
    wrong[2].queue_size = BENCH_NUM / 2; /* the same, smaller */
    wrong[3].mmap_size += 4096;          /* beyond the end */
    wrong[4].mmap_offset = 4096;         /* beyond the end */
    wrong[5].mmap_offset = 4;            /* misaligned */
    wrong[6].n_queues = 0;
    wrong[7].mmap_size = UINT64_MAX;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(inflight_map(&region, &wrong[i], fd, &err), -EINVAL);
    assert_null(region.bytes);
    assert_int_equal(inflight_map(&region, &where, fd, &err), 0);
    assert_non_null(inflight_ring(&region, 1, BENCH_NUM));
    assert_null(inflight_ring(&region, 2, BENCH_NUM));
    assert_null(inflight_ring(&region, 0, BENCH_NUM + 1));
    inflight_unmap(&region);
    close(fd);
    where.queue_size = 0;
    assert_int_equal(inflight_create(&where, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_under_way_comes_again_oldest_first),
        cmocka_unit_test(the_last_batch_of_a_back_end_that_batches_is_finished),
        cmocka_unit_test(a_crash_at_any_instruction_of_giving_back_loses_and_repeats_nothing),
        cmocka_unit_test(a_crash_at_any_instruction_of_taking_loses_nothing),
        cmocka_unit_test(a_damaged_in_flight_region_harms_nobody),
        cmocka_unit_test(a_ring_larger_than_the_region_is_served_without_it),
        cmocka_unit_test(an_in_flight_region_is_checked_before_it_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
