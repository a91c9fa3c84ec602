#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front_end.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void requests_go_through_a_ring_that_was_set_up(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_set_up(f);
    assert_int_equal(f->loopback.prepared, 1);
    for (unsigned n = 0; n < 100; n++)
        front_round_trip(f, n % 8, n % 2 ? "0123456789abcdef" : "fedcba9876543210");
    assert_int_equal(front_get_base(f, 0), 100);
    assert_int_equal(front_hang_up(f), 0);
    assert_int_equal(f->loopback.prepared, 1);
    front_free(f);
}

static void a_ring_is_served_when_all_of_it_is_known_in_any_order(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_agree(f);
    front_offer(f, 0, "0123456789abcdef");
    front_enable(f);
    front_set_ring(f, 0);
    struct vring_used_elem elem;
    assert_false(ring_driver_reap(&f->driver, &elem));
    front_set_memory(f);
    front_kick(f);
    front_reap(f, 0, "0123456789abcdef");
    front_free(f);
}

static void a_disabled_or_stopped_ring_rests(void **state)
{
    (void)state;
    struct front *f = front_served();
    struct vring_used_elem elem;
    front_set_up(f);
    front_round_trip(f, 0, "0123456789abcdef");
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 0)), 0);
    front_offer(f, 1, "ABCDEFGHIJKLMNOP");
    front_kick(f);
    assert_int_equal(front_get_u64(f, VHOST_USER_GET_QUEUE_NUM), QUEUES); /* a while has passed */
    assert_false(ring_driver_reap(&f->driver, &elem));
    front_enable(f);
    front_reap(f, 1, "ABCDEFGHIJKLMNOP");
    assert_int_equal(front_get_base(f, 0), 2);
    front_offer(f, 2, "qrstuvwxyz012345");
    front_kick(f);
    assert_int_equal(front_get_u64(f, VHOST_USER_GET_QUEUE_NUM), QUEUES);
    assert_false(ring_driver_reap(&f->driver, &elem));
    front_set_ring(f, 2);
    front_reap(f, 2, "qrstuvwxyz012345");
    front_free(f);
}

static void without_protocol_features_rings_need_not_be_enabled(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_agree(f);
    assert_int_equal(
        front_ask(f, u64_msg(VHOST_USER_SET_FEATURES, FEATURES & ~VHOST_FEATURE_PROTOCOL_FEATURES)),
        0);
    front_set_memory(f);
    front_set_ring(f, 0);
    front_round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void a_driver_that_breaks_its_queue_is_reported_and_can_begin_anew(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_set_up(f);
    log_set_level((enum log_level) - 1);
    ring_driver_set(&f->driver, 0, 0, 16, 0, 0); /* not in guest memory */
    ring_driver_offer(&f->driver, 0);
    front_kick(f);
    front_wait_readable(f->err);
    assert_int_equal(front_get_base(f, 0), 0);
    assert_int_equal(f->driver.used->idx, 0);
    f->driver.avail->idx = f->driver.next_avail = 0;
    front_set_ring(f, 0);
    front_round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void the_call_event_is_replaced_while_the_queue_runs(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_set_up(f);
    front_round_trip(f, 0, "0123456789abcdef");
    int other = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_CALL, 0), &other, 1), 0);
    assert_int_equal(f->loopback.runs, 1);
    close(f->call);
    f->call = other;
    front_round_trip(f, 1, "ABCDEFGHIJKLMNOP");
    assert_int_equal(front_ask(f, u64_msg(VHOST_USER_SET_VRING_CALL, VHOST_USER_VRING_NO_FD)), 0);
    front_offer(f, 2, "qrstuvwxyz012345");
    front_kick(f);
    struct vring_used_elem elem;
    while (!ring_driver_reap(&f->driver, &elem))
        sched_yield();
    uint64_t count;
    front_get_base(f, 0);
    assert_int_equal(read(f->call, &count, sizeof(count)), -1);
    front_free(f);
}

static void a_device_that_gives_up_is_reported(void **state)
{
    (void)state;
    struct front *f = front_unserved();
    f->loopback.give_up = true;
    front_serve_again(f);
    log_set_level((enum log_level) - 1);
    front_set_up(f);
    front_wait_readable(f->err);
    assert_int_equal(front_get_base(f, 0), 0);
    f->loopback.give_up = false;
    front_set_ring(f, 0);
    front_round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void reset_brings_every_ring_to_rest(void **state)
{
    (void)state;
    struct front *f = front_served();
    struct vring_used_elem elem;
    front_set_up(f);
    front_round_trip(f, 0, "0123456789abcdef");
    assert_int_equal(front_ask(f, (struct vhost_user_msg){.request = VHOST_USER_RESET_DEVICE}), 0);
    front_offer(f, 1, "ABCDEFGHIJKLMNOP");
    front_kick(f);
    assert_int_equal(front_get_base(f, 0), 0);
    assert_false(ring_driver_reap(&f->driver, &elem));
    memset(f->driver.used, 0, 4);
    f->driver.avail->idx = f->driver.next_avail = f->driver.next_used = 0;
    front_set_ring(f, 0);
    front_enable(f);
    front_round_trip(f, 2, "0123456789abcdef");
    front_free(f);
}

static void memory_comes_and_goes_while_queues_run(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_agree(f);
    assert_int_equal(front_get_u64(f, VHOST_USER_GET_MAX_MEM_SLOTS), GUEST_MAP_SLOTS);
    assert_int_equal(
        front_ask_with(f, front_region_msg(f, VHOST_USER_ADD_MEM_REG, 0), &f->driver.memfd, 1), 0);
    front_set_ring(f, 0);
    front_enable(f);
    for (unsigned n = 0; n < 20; n++) {
        /* Half of the requests are under way while the table changes. */
        front_offer(f, 0, "0123456789abcdef");
        front_kick(f);
        assert_int_equal(
            front_ask_with(f, front_region_msg(f, VHOST_USER_ADD_MEM_REG, 2), &f->driver.memfd, 1),
            0);
        front_reap(f, 0, "0123456789abcdef");
        ring_driver_set(&f->driver, 3, DRIVER_FAR_GPA, 16, VRING_DESC_F_WRITE, 0);
        f->driver.desc[2] = f->driver.desc[0];
        f->driver.desc[2].next = 3;
        ring_driver_offer(&f->driver, 2);
        front_kick(f);
        struct vring_used_elem elem;
        __atomic_store_n(&f->driver.avail->ring[NUM], f->driver.next_used, __ATOMIC_SEQ_CST);
        while (!ring_driver_reap(&f->driver, &elem))
            front_wait_readable(f->call);
        assert_memory_equal(ring_driver_at(&f->driver, DRIVER_FAR_GPA), "0123456789abcdef", 16);
        memset(ring_driver_at(&f->driver, DRIVER_FAR_GPA), 0, 16);
        assert_int_equal(front_ask(f, front_region_msg(f, VHOST_USER_REM_MEM_REG, 2)), 0);
    }
    /* What is gone is gone; what never was cannot go. */
    assert_int_equal(front_ask(f, front_region_msg(f, VHOST_USER_REM_MEM_REG, 2)), 1);
    assert_int_equal(
        front_ask_with(f, front_region_msg(f, VHOST_USER_ADD_MEM_REG, 0), &f->driver.memfd, 1), 1);
    front_round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void a_ring_whose_memory_went_away_waits_for_it(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_set_up(f);
    front_round_trip(f, 0, "0123456789abcdef");
    log_set_level((enum log_level) - 1);
    assert_int_equal(front_ask(f, front_region_msg(f, VHOST_USER_REM_MEM_REG, 0)), 0);
    front_wait_readable(f->err);
    front_offer(f, 1, "ABCDEFGHIJKLMNOP");
    front_kick(f);
    assert_int_equal(
        front_ask_with(f, front_region_msg(f, VHOST_USER_ADD_MEM_REG, 0), &f->driver.memfd, 1), 0);
    front_reap(f, 1, "ABCDEFGHIJKLMNOP");
    front_free(f);
}

static void the_configuration_is_read_and_written_within_its_bounds(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_agree(f);
    struct vhost_user_msg msg = {.request = VHOST_USER_GET_CONFIG,
                                 .len = 12 + 24,
                                 .payload.config = {.offset = 4, .len = 24}};
    struct vhost_user_msg reply;
    front_say_with(f, &msg, NULL, 0);
    front_hear(f, VHOST_USER_GET_CONFIG, &reply);
    assert_int_equal(reply.len, 12 + 24);
    assert_int_equal(reply.payload.config.len, 24);
    for (unsigned i = 0; i < 24; i++)
        assert_int_equal(reply.payload.config.data[i], i < 12 ? i + 5 : 0);

    msg = (struct vhost_user_msg){.request = VHOST_USER_SET_CONFIG,
                                  .len = 12 + 2,
                                  .payload.config = {.offset = 14, .len = 2, .data = {7, 8}}};
    assert_int_equal(front_ask(f, msg), 0);
    assert_int_equal(f->loopback.config[15], 8);
    msg.payload.config.offset = 15; /* over its end */
    assert_int_equal(front_ask(f, msg), 1);
    msg.payload.config.offset = UINT32_MAX;
    assert_int_equal(front_ask(f, msg), 1);
    msg.payload.config.offset = 0; /* the device says no */
    assert_int_equal(front_ask(f, msg), 1);
    msg.payload.config = (struct vhost_user_config){.offset = 14, .len = 3};
    assert_int_equal(front_ask(f, msg), 1);

    f->loopback.config[0] = 0xee;
    msg = (struct vhost_user_msg){
        .request = VHOST_USER_GET_CONFIG, .len = 12 + 4, .payload.config = {.len = 4}};
    front_say_with(f, &msg, NULL, 0);
    front_hear(f, VHOST_USER_GET_CONFIG, &reply);
    assert_int_equal(reply.len, 0);
    front_free(f);
}

static void a_device_that_is_not_ready_fails_the_request_that_starts_it(void **state)
{
    (void)state;
    struct front *f = front_unserved();
    f->loopback.prepare_result = -EAGAIN;
    front_serve_again(f);
    front_agree(f);
    front_set_memory(f);
    front_set_ring(f, 0);
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 1)), 1);
    f->loopback.prepare_result = 0;
    front_enable(f);
    front_round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void requests_of_a_killed_back_end_are_served_by_the_next(void **state)
{
    (void)state;
    struct front *f = front_unserved();
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pair[0]);
        f->loopback.hold = true;
        _exit(vu_serve(&f->backend, pair[1], -1, &f->why) < 0);
    }
    close(pair[1]);
    f->fd = pair[0];
    struct vhost_user_msg inflight;
    front_agree(f);
    int region = front_get_inflight(f, &inflight, 20);
    assert_true(region >= 0);
    inflight.request = VHOST_USER_SET_INFLIGHT_FD;
    assert_int_equal(front_ask_with(f, inflight, &region, 1), 0);
    front_set_memory(f);
    front_set_ring(f, 0);
    front_enable(f);
    front_offer(f, 3, "0123456789abcdef");
    front_offer(f, 1, "ABCDEFGHIJKLMNOP");
    front_kick(f);
    /* Both were taken once the kick was waited for beyond them. */
    const uint16_t *avail_event = (void *)&f->driver.used->ring[NUM];
    while (__atomic_load_n(avail_event, __ATOMIC_ACQUIRE) != 2)
        sched_yield();
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    front_hang_up(f);

    front_offer(f, 2, "qrstuvwxyz012345");
    front_serve_again(f);
    front_agree(f);
    assert_int_equal(front_ask_with(f, inflight, &region, 1), 0);
    front_set_memory(f);
    front_set_ring(f, f->driver.used->idx); /* all that a front-end can know */
    front_enable(f);
    front_reap(f, 3, "0123456789abcdef");
    front_reap(f, 1, "ABCDEFGHIJKLMNOP");
    front_reap(f, 2, "qrstuvwxyz012345");
    assert_int_equal(front_get_base(f, 0), 3);
    close(region);
    front_free(f);
}

static void an_in_flight_region_is_given_and_taken_only_as_it_can_be(void **state)
{
    (void)state;
    struct front *f = front_served();
    struct vhost_user_msg msg;
    front_set_up(f);
    int fd = front_get_inflight(f, &msg, 24);
    assert_true(fd >= 0);
    assert_true(msg.payload.inflight.mmap_size >= QUEUES * (16 + 16 * NUM));
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    msg.request = VHOST_USER_SET_INFLIGHT_FD;
    assert_int_equal(front_ask_with(f, msg, &fd, 1), 1); /* the ring is started */
    front_get_base(f, 0);
    assert_int_equal(front_ask_with(f, msg, NULL, 0), 1);
    msg.payload.inflight.n_queues = 200;
    assert_int_equal(front_ask_with(f, msg, &fd, 1), 1);
    close(fd);

    msg = (struct vhost_user_msg){.request = VHOST_USER_GET_INFLIGHT_FD, .len = 20};
    front_say_with(f, &msg, NULL, 0);
    assert_int_equal(front_hear(f, VHOST_USER_GET_INFLIGHT_FD, &msg), -1);
    assert_int_equal(msg.payload.inflight.mmap_size, 0);
    front_free(f);
}

static void what_is_written_is_logged_from_when_the_front_end_asks(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_set_up(f);
    const size_t bytes = (DRIVER_SEAM_GPA + DRIVER_REGION_BYTES) / PAGE_BYTES / 8;
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    uint8_t *bits = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct vhost_user_msg msg = {.request = VHOST_USER_SET_LOG_BASE,
                                 .len = sizeof(struct vhost_user_log),
                                 .payload.log = {.mmap_size = bytes}};
    struct vhost_user_msg reply;
    front_say_with(f, &msg, &fd, 1);
    front_hear(f, VHOST_USER_SET_LOG_BASE, &reply);
    int log_event = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(
        front_ask_with(f, (struct vhost_user_msg){.request = VHOST_USER_SET_LOG_FD}, &log_event, 1),
        0);
    front_round_trip(f, 0, "0123456789abcdef");
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(bits[i], 0);
    assert_int_equal(
        front_ask(f, u64_msg(VHOST_USER_SET_FEATURES, FEATURES | VHOST_FEATURE_LOG_ALL)), 0);
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(0)};
    addr.payload.addr.flags = VHOST_USER_VRING_LOG;
    assert_int_equal(front_ask(f, addr), 0);
    front_round_trip(f, 1, "ABCDEFGHIJKLMNOP");
    front_wait_readable(log_event);
    front_get_base(f, 0); /* the queue rests, so that all is logged */
    const size_t used = DRIVER_GPA / PAGE_BYTES + 2, data = DRIVER_BUFFERS / PAGE_BYTES;
    for (size_t page = 0; page < bytes * 8; page++)
        assert_int_equal(bits[page / 8] >> (page % 8) & 1, page == used || page == data);
    munmap(bits, bytes);
    close(fd);
    close(log_event);
    front_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_through_a_ring_that_was_set_up),
        cmocka_unit_test(a_ring_is_served_when_all_of_it_is_known_in_any_order),
        cmocka_unit_test(a_disabled_or_stopped_ring_rests),
        cmocka_unit_test(without_protocol_features_rings_need_not_be_enabled),
        cmocka_unit_test(a_driver_that_breaks_its_queue_is_reported_and_can_begin_anew),
        cmocka_unit_test(the_call_event_is_replaced_while_the_queue_runs),
        cmocka_unit_test(a_device_that_gives_up_is_reported),
        cmocka_unit_test(reset_brings_every_ring_to_rest),
        cmocka_unit_test(memory_comes_and_goes_while_queues_run),
        cmocka_unit_test(a_ring_whose_memory_went_away_waits_for_it),
        cmocka_unit_test(the_configuration_is_read_and_written_within_its_bounds),
        cmocka_unit_test(a_device_that_is_not_ready_fails_the_request_that_starts_it),
        cmocka_unit_test(requests_of_a_killed_back_end_are_served_by_the_next),
        cmocka_unit_test(an_in_flight_region_is_given_and_taken_only_as_it_can_be),
        cmocka_unit_test(what_is_written_is_logged_from_when_the_front_end_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
