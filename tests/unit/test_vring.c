#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue_bench.h"

#include "base/bytes.h"

#include <errno.h>

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
        assert_int_equal(bench_pop(b, &chains[i]), 1);
        assert_int_equal(chains[i].head, i);
        assert_int_equal(chains[i].in_len, 64);
        assert_int_equal(chains[i].n_out, 0);
    }
    assert_int_equal(bench_pop(b, &chains[0]), 0);
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

static void what_is_put_back_comes_again(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    struct vu_chain chains[2], again;
    for (uint16_t i = 0; i < 2; i++) {
        ring_driver_set(&b->driver, i, DRIVER_BUFFERS + i * 64u, 64, VRING_DESC_F_WRITE, 0);
        ring_driver_offer(&b->driver, i);
        assert_int_equal(bench_pop(b, &chains[i]), 1);
    }
    vu_queue_unpop(&b->queue, &chains[1]);
    vu_queue_unpop(&b->queue, &chains[0]);
    assert_int_equal(b->queue.last_avail, 0);
    assert_true(vu_queue_want_kicks(&b->queue, true));
    for (uint16_t i = 0; i < 2; i++) {
        assert_int_equal(bench_pop(b, &again), 1);
        assert_int_equal(again.head, i);
    }
    assert_int_equal(bench_pop(b, &again), 0);
    bench_close(b);
}

static void indices_wrap_at_65536(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES | VIRTIO_F_RING_EVENT_IDX);
    bench_track(b);
    unsigned interrupts = 0;
    for (unsigned n = 0; n < 70000; n++) {
        struct vu_chain chain;
        struct vring_used_elem elem;
        ring_driver_set(&b->driver, (uint16_t)(n % BENCH_NUM), DRIVER_BUFFERS, 8, 0, 0);
        assert_true(!vu_queue_want_kicks(&b->queue, true));
        ring_driver_offer(&b->driver, (uint16_t)(n % BENCH_NUM));
        assert_int_equal(bench_pop(b, &chain), 1);
        vu_queue_push(&b->queue, &chain, n);
        vu_queue_notify(&b->queue);
        assert_true(ring_driver_reap(&b->driver, &elem));
        assert_int_equal(elem.id, n % BENCH_NUM);
        assert_int_equal(elem.len, n);
        /* used_event: interrupt when the next one is used. */
        b->driver.avail->ring[BENCH_NUM] = b->driver.next_used;
        interrupts += (unsigned)bench_take_count(b->queue.call_fd);
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
    assert_int_equal(bench_pop(b, &chain), 1);
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
    assert_int_equal(bench_pop(b, &chain), 1);
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
    assert_int_equal(bench_pop(b, &chain), 1);
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
    ring_driver_set(d, 0, DRIVER_BUFFERS, 8, VRING_DESC_F_NEXT, BENCH_NUM);
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
    ring_driver_offer(d, BENCH_NUM);
}

static void more_requests_than_descriptors(struct ring_driver *d)
{
    d->next_avail = BENCH_NUM;
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
        while ((ret = bench_pop(b, &chain)) > 0)
            assert_ptr_equal(wrongs[i], one_request_twice);
        assert_true(ret < 0);
        assert_int_equal(bench_take_count(b->queue.err_fd), 1);
        assert_true(bench_pop(b, &chain) < 0);
        assert_int_equal(bench_take_count(b->queue.err_fd), 0);
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
    assert_true(bench_pop(b, &chain) < 0);
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
    assert_int_equal(bench_pop(b, &chain), -EPROTO);
    bench_close(b);
}

static void without_event_idx_the_flags_decide(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES);
    bench_serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(bench_take_count(b->queue.call_fd), 1);
    vu_queue_notify(&b->queue); /* nothing new */
    assert_int_equal(bench_take_count(b->queue.call_fd), 0);
    b->driver.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    bench_serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(bench_take_count(b->queue.call_fd), 0);

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
    b->driver.avail->ring[BENCH_NUM] = 3;                /* used_event: when the fourth is used */
    bench_serve_one(b);
    vu_queue_notify(&b->queue); /* the first after a start is never held back */
    assert_int_equal(bench_take_count(b->queue.call_fd), 1);
    bench_serve_one(b);
    bench_serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(bench_take_count(b->queue.call_fd), 0);
    bench_serve_one(b);
    bench_serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(bench_take_count(b->queue.call_fd), 1);
    bench_serve_one(b);
    vu_queue_notify(&b->queue);
    assert_int_equal(bench_take_count(b->queue.call_fd), 0);

    const uint16_t *avail_event = (void *)&b->driver.used->ring[BENCH_NUM];
    assert_false(vu_queue_want_kicks(&b->queue, true));
    assert_int_equal(*avail_event, 6);
    bench_serve_one(b);
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
    wrong[3].desc = seam - 16 * BENCH_NUM + 16; /* a descriptor too far */
    wrong[4].avail = seam - 4 - 2 * BENCH_NUM;  /* its used_event is outside */
    wrong[5].used = seam - 4 - 8 * BENCH_NUM;   /* its avail_event is outside */
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
    b->queue.addr.desc = seam - 16 * BENCH_NUM;
    b->queue.addr.avail = seam - 16 * BENCH_NUM - 6 - 2 * BENCH_NUM;
    b->queue.addr.used = seam + DRIVER_REGION_BYTES - 8 - 8 * BENCH_NUM;
    assert_int_equal(vring_map(&b->queue, &err), 0);
    bench_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_in_order_and_go_back_in_any),
        cmocka_unit_test(what_is_put_back_comes_again),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
