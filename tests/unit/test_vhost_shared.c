#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front_end.h"

#include "base/log.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A device with one thread for its two queues, which notes what it was called with. */
struct shared {
    atomic_uint runs, stops, serving;
    atomic_bool inside, overlap; /* run_all() runs; twice at once, or while stopped() did */
    bool give_up;
    struct front *front;
    int events[QUEUES]; /* kick of ring 1, err of ring 1 */
};

/* Each kick of a queue is answered with a call; a ring is not looked at. */
static void run_all(void *device, struct vu_queue *const *queues)
{
    struct shared *shared = device;
    if (atomic_exchange(&shared->inside, true))
        shared->overlap = true;
    struct pollfd of[] = {{.fd = -1}, {.fd = -1}, {.fd = -1, .events = POLLIN}};
    unsigned serving = 0;
    for (unsigned i = 0; i < QUEUES; i++) {
        if (!queues[i])
            continue;
        assert_int_equal(vu_queue_index(queues[i]), i);
        serving |= 1u << i;
        of[i] = (struct pollfd){.fd = vu_queue_kick_fd(queues[i]), .events = POLLIN};
        of[2].fd = vu_queue_stop_fd(queues[i]);
    }
    shared->serving = serving;
    shared->runs++;
    while (!shared->give_up && poll(of, 3, -1) > 0 && !of[2].revents)
        for (unsigned i = 0; i < QUEUES; i++) {
            uint64_t count;
            if (of[i].revents & POLLIN && read(of[i].fd, &count, sizeof(count)) > 0)
                (void)!write(queues[i]->call_fd, &count, sizeof(count));
        }
    shared->inside = false;
}

static void stopped(void *device)
{
    struct shared *shared = device;
    if (shared->inside)
        shared->overlap = true;
    shared->stops++;
}

static const struct vu_backend_ops ops = {.run_all = run_all, .stopped = stopped};

static int set_up(void **state)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    assert_non_null(shared);
    shared->front = front_unserved();
    shared->front->backend.ops = &ops;
    shared->front->backend.device = shared;
    for (unsigned i = 0; i < QUEUES; i++)
        shared->events[i] = eventfd(0, EFD_NONBLOCK);
    *state = shared;
    return 0;
}

static int tear_down(void **state)
{
    struct shared *shared = *state;
    front_free(shared->front);
    assert_false(shared->overlap);
    for (unsigned i = 0; i < QUEUES; i++)
        close(shared->events[i]);
    free(shared);
    return 0;
}

/* Ring 1, at the place of ring 0, which no one reads either; calls are ring 0's. */
static void set_ring_1(struct shared *shared)
{
    struct front *f = shared->front;
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(1)};
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_NUM, 1, NUM)), 0);
    assert_int_equal(front_ask(f, addr), 0);
    assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_CALL, 1), &f->call, 1), 0);
    assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_ERR, 1), &shared->events[1], 1),
                     0);
    assert_int_equal(
        front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_KICK, 1), &shared->events[0], 1), 0);
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 1, 1)), 0);
}

static void kick_and_wait(struct shared *shared, unsigned index)
{
    const uint64_t one = 1;
    int kick = index ? shared->events[0] : shared->front->kick;
    assert_int_equal(write(kick, &one, sizeof(one)), sizeof(one));
    front_wait_readable(shared->front->call);
}

static void one_thread_serves_every_queue_that_runs(void **state)
{
    struct shared *shared = *state;
    struct front *f = shared->front;
    front_serve_again(f);
    front_set_up(f);
    kick_and_wait(shared, 0);
    assert_int_equal(shared->serving, 1);
    set_ring_1(shared);
    kick_and_wait(shared, 1);
    kick_and_wait(shared, 0);
    assert_int_equal(shared->serving, 3);
    assert_int_equal(shared->runs, 2);
    assert_int_equal(shared->stops, 0);
}

static void a_message_of_no_queue_disturbs_nothing(void **state)
{
    struct shared *shared = *state;
    front_serve_again(shared->front);
    front_set_up(shared->front);
    kick_and_wait(shared, 0);
    assert_int_equal(front_get_u64(shared->front, VHOST_USER_GET_QUEUE_NUM), QUEUES);
    assert_int_equal(front_ask(shared->front, state_msg(VHOST_USER_SET_VRING_NUM, 1, NUM)), 0);
    kick_and_wait(shared, 0);
    assert_int_equal(shared->runs, 1);
}

static void a_queue_that_is_stopped_leaves_and_the_device_is_told(void **state)
{
    struct shared *shared = *state;
    front_serve_again(shared->front);
    front_set_up(shared->front);
    set_ring_1(shared);
    kick_and_wait(shared, 1);
    front_get_base(shared->front, 1);
    assert_int_equal(shared->stops, 1);
    kick_and_wait(shared, 0);
    assert_int_equal(shared->serving, 1);
    front_get_base(shared->front, 0);
    assert_int_equal(shared->stops, 2);
    assert_false(shared->inside);
}

static void a_queue_that_is_disabled_rests_and_the_device_keeps_its_state(void **state)
{
    struct shared *shared = *state;
    front_serve_again(shared->front);
    front_set_up(shared->front);
    set_ring_1(shared);
    assert_int_equal(front_ask(shared->front, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 0)), 0);
    kick_and_wait(shared, 1);
    assert_int_equal(shared->serving, 2);
    front_set_memory(shared->front);
    kick_and_wait(shared, 1);
    assert_int_equal(shared->stops, 0);
}

static void the_end_of_the_connection_and_a_reset_are_told(void **state)
{
    struct shared *shared = *state;
    front_serve_again(shared->front);
    front_set_up(shared->front);
    kick_and_wait(shared, 0);
    assert_int_equal(
        front_ask(shared->front, (struct vhost_user_msg){.request = VHOST_USER_RESET_DEVICE}), 0);
    assert_int_equal(shared->stops, 1);
    assert_false(shared->inside);
    assert_int_equal(front_hang_up(shared->front), 0);
    assert_int_equal(shared->stops, 2);
}

static void a_device_that_gives_up_is_reported_for_each_queue(void **state)
{
    struct shared *shared = *state;
    struct front *f = shared->front;
    shared->give_up = true;
    log_set_level((enum log_level) - 1);
    front_serve_again(f);
    front_set_up(f);
    front_wait_readable(f->err);
    set_ring_1(shared);
    front_wait_readable(shared->events[1]);
    shared->give_up = false;
    front_get_base(f, 0);
    front_set_ring(f, 0);
    kick_and_wait(shared, 0);
    assert_int_equal(shared->serving, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_thread_serves_every_queue_that_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_of_no_queue_disturbs_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_queue_that_is_stopped_leaves_and_the_device_is_told,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_queue_that_is_disabled_rests_and_the_device_keeps_its_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_the_connection_and_a_reset_are_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_device_that_gives_up_is_reported_for_each_queue, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
