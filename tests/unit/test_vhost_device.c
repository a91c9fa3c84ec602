#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void back_end_gets_what_the_driver_set_up_but_not_access_platform(void **state)
{
    ((struct fixture *)*state)->params.isolated = true;
    struct fixture *f = create_active(*state);
    struct scripted_backend *b = &f->connections[0];
    assert_int_equal(f->transport.params.features,
                     BIT64(9) | BIT64(12) | (3ull << 28) | BIT64(33) | VIRTIO_F_VERSION_1);
    assert_int_equal(b->acked_features, VIRTIO_F_VERSION_1 | VHOST_FEATURE_PROTOCOL_FEATURES);
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_true(kicked(b, i));
        assert_int_equal(b->queues[i].size, 16);
        assert_int_equal(b->queues[i].base, 0);
    }
    assert_true(b->inflight_fd >= 0);
    reset_and_wait(f);
    assert_int_equal(scripted_saw(b, VHOST_USER_GET_VRING_BASE), QUEUES);
    assert_int_equal(scripted_saw(b, VHOST_USER_RESET_DEVICE), 1);
    assert_int_equal(f->n.connects, 1);
    assert_int_equal(f->n.kills, 0);
}

static void dead_back_end_is_started_again_and_goes_on_where_it_was(void **state)
{
    struct fixture *f = create_active(*state);
    used_index(f, 0, 7);
    used_index(f, 1, 0xffff);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
    struct scripted_backend *b = &f->connections[1];
    assert_int_equal(b->queues[0].base, 7);
    assert_int_equal(b->queues[1].base, 0xffff);
    assert_true(kicked(b, 0) && kicked(b, 1));
    assert_int_equal(scripted_saw(b, VHOST_USER_GET_INFLIGHT_FD), 0);
    struct stat before, after;
    assert_int_equal(fstat(f->connections[0].inflight_fd, &before), 0);
    assert_int_equal(fstat(b->inflight_fd, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(b->acked_features, f->connections[0].acked_features);
    assert_false(f->transport.params.features &
                 VIRTIO_F_ACCESS_PLATFORM); /* is for isolated guests */
    assert_int_equal(f->n.needs_reset, 0);
}

static void back_end_without_in_flight_region_goes_on_from_used_index(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 2; i++)
        f->connections[i].protocol = VHOST_USER_PROTOCOL_CONFIG | VHOST_USER_PROTOCOL_MQ;
    create_active(f);
    used_index(f, 0, 7);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
    assert_true(scripted_wait(&f->connections[1], VHOST_USER_SET_VRING_ENABLE, QUEUES));
    assert_int_equal(f->connections[1].queues[0].base, 7);
    assert_int_equal(scripted_saw(&f->connections[1], VHOST_USER_SET_INFLIGHT_FD), 0);
}

static void back_end_that_comes_back_as_another_is_refused(void **state)
{
    struct fixture *f = *state;
    f->connections[1].features = VIRTIO_F_VERSION_1 | VHOST_FEATURE_PROTOCOL_FEATURES;
    f->connections[2].capacity = 4096;
    f->connections[3].protocol = VHOST_USER_PROTOCOL_CONFIG | VHOST_USER_PROTOCOL_MQ;
    f->connections[4].n_queues = 1;
    f->connections[5].fault = FAULT_EMPTY;
    f->connections[5].fault_at = VHOST_USER_GET_CONFIG;
    create_active(f);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
    assert_int_equal(f->n.connects, 7);
    for (unsigned i = 1; i < 6; i++)
        assert_int_equal(scripted_saw(&f->connections[i], VHOST_USER_SET_FEATURES), 0);
    uint64_t capacity;
    f->transport.params.ops->config_read(f->device, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 2048);
}

static void first_back_end_that_is_not_enough_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    f->connections[0].n_queues = 1;
    assert_null(vhost_user_device_new(&f->params, &err));
    assert_non_null(strstr(err.message, "1 queues, not 2"));
}

static void back_end_that_dies_at_any_step_is_replaced(void **state)
{
    struct fixture *f = *state;
    static const uint32_t steps[] = {
        VHOST_USER_SET_FEATURES,     VHOST_USER_SET_MEM_TABLE,  VHOST_USER_GET_INFLIGHT_FD,
        VHOST_USER_SET_INFLIGHT_FD,  VHOST_USER_SET_VRING_NUM,  VHOST_USER_SET_VRING_BASE,
        VHOST_USER_SET_VRING_ADDR,   VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_KICK,
        VHOST_USER_SET_VRING_ENABLE,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        f->connections[0].fault = FAULT_CLOSE;
        f->connections[0].fault_at = steps[i];
        create(f);
        activate(f);
        assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
        assert_int_equal(f->n.connects, 2);
        assert_int_equal(scripted_saw(&f->connections[1], VHOST_USER_SET_VRING_ENABLE), QUEUES);
        forget_device(f);
    }
}

static void own_back_end_that_does_not_drain_is_killed_and_the_reset_ends(void **state)
{
    struct fixture *f = create_active_that_never_drains(*state);
    reset_and_wait(f);
    assert_int_equal(f->n.kills, 1);
    assert_true(reaches(&f->n.connects, 2, PATIENCE_MS));
    activate(f);
    assert_true(scripted_wait(&f->connections[1], VHOST_USER_SET_VRING_ENABLE, QUEUES));
    assert_int_equal(f->n.needs_reset, 0);
}

static void back_end_that_does_not_drain_is_killed_at_the_end_without_being_waited_for(void **state)
{
    struct fixture *f = create_active_that_never_drains(*state);
    vhost_user_device_end(f->device);
    assert_true(reaches(&f->n.kills, 1, PATIENCE_MS));
    assert_int_equal(f->n.resets, 0);
}

static void reset_with_foreign_back_end_that_hangs(struct fixture *f)
{
    f->params.own_backend = false;
    f->connections[0].fault = FAULT_LATE;
    f->connections[0].fault_at = VHOST_USER_GET_VRING_BASE;
    create_active(f);
    wait_ms(f, IMPATIENCE_MS);
    reset(f);
    assert_true(reaches(&f->n.needs_reset, 1, PATIENCE_MS));
    wait_ms(f, PATIENCE_MS);
}

static void foreign_back_end_that_does_not_drain_holds_the_reset_until_it_does(void **state)
{
    struct fixture *f = *state;
    reset_with_foreign_back_end_that_hangs(f);
    assert_false(reaches(&f->n.resets, 1, 0));
    scripted_release(&f->connections[0]);
    assert_true(reaches(&f->n.resets, 1, PATIENCE_MS));
    assert_int_equal(f->n.connects, 1);
    assert_int_equal(f->n.kills, 0);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, 2 * QUEUES));
}

static void foreign_back_end_that_is_gone_holds_no_reset(void **state)
{
    struct fixture *f = *state;
    reset_with_foreign_back_end_that_hangs(f);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.resets, 1, PATIENCE_MS));
    assert_true(reaches(&f->n.connects, 2, PATIENCE_MS));
}

static void foreign_back_end_that_does_not_start_needs_a_reset(void **state)
{
    struct fixture *f = *state;
    f->params.own_backend = false;
    f->connections[0].fault = FAULT_LATE;
    f->connections[0].fault_at = VHOST_USER_SET_MEM_TABLE;
    create(f);
    wait_ms(f, IMPATIENCE_MS);
    activate(f);
    assert_true(reaches(&f->n.needs_reset, 1, PATIENCE_MS));
    wait_ms(f, PATIENCE_MS);
    assert_int_equal(f->n.connects, 1);
    scripted_release(&f->connections[0]);
    reset_and_wait(f);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, QUEUES));
}

static void queue_outside_ram_needs_a_reset_and_is_told_to_nobody(void **state)
{
    struct fixture *f = *state;
    f->transport.queues[1].used = RAM_BYTES - 8;
    create(f);
    activate(f);
    assert_true(reaches(&f->n.needs_reset, 1, PATIENCE_MS));
    reset_and_wait(f);
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_SET_VRING_ADDR), 1);
}

static void queue_that_the_driver_broke_needs_a_reset(void **state)
{
    struct fixture *f = create_active(*state);
    assert_int_equal(eventfd_write(f->connections[0].queues[1].err_fd, 1), 0);
    assert_true(reaches(&f->n.needs_reset, 1, PATIENCE_MS));
    reset_and_wait(f);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, 2 * QUEUES));
    assert_false(reaches(&f->n.needs_reset, 2, 100));
    assert_int_equal(f->n.connects, 1);
    /* It is as new: what breaks now is told of as well. */
    assert_int_equal(eventfd_write(f->connections[0].queues[1].err_fd, 1), 0);
    assert_true(reaches(&f->n.needs_reset, 2, 30000));
}

static void after_a_reset_requests_of_the_driver_before_are_forgotten(void **state)
{
    struct fixture *f = create_active(*state);
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_GET_INFLIGHT_FD), 1);
    reset_and_wait(f);
    unsigned told = scripted_saw(&f->connections[0], VHOST_USER_SET_VRING_ENABLE);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, told + QUEUES));
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_GET_INFLIGHT_FD), 2);
}

static void queue_that_is_not_aligned_needs_a_reset(void **state)
{
    struct fixture *f = *state;
    const struct virtio_pci_queue before = f->transport.queues[1];
    /* virtio 1.2, 2.7: of the descriptors, of the driver's ring and of the device's */
    static const uint64_t off[][3] = {{8, 0, 0}, {0, 1, 0}, {0, 0, 2}};
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++) {
        f->transport.queues[1].desc = before.desc + off[i][0];
        f->transport.queues[1].driver = before.driver + off[i][1];
        f->transport.queues[1].used = before.used + off[i][2];
        create(f);
        activate(f);
        assert_true(reaches(&f->n.needs_reset, 1, 30000));
        assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_SET_VRING_ADDR), 1);
        forget_device(f);
    }
}

static void feature_that_is_not_to_be_offered_is_not(void **state)
{
    struct fixture *f = *state;
    f->params.features_off = BIT64(9);
    create_active(f);
    assert_int_equal(f->transport.params.features & (BIT64(9) | BIT64(12)), BIT64(12));
}

static void configuration_beyond_its_end_is_nothing_and_written_to_nobody(void **state)
{
    struct fixture *f = create_active(*state);
    const struct virtio_pci_ops *driver = f->transport.params.ops;
    uint8_t bytes[8], none[8] = {0};
    static const unsigned beyond[] = {VHOST_USER_CONFIG_MAX - 4, VHOST_USER_CONFIG_MAX,
                                      UINT32_MAX - 4};
    for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        memset(bytes, 0xee, sizeof(bytes));
        driver->config_read(f->device, beyond[i], bytes, sizeof(bytes));
        assert_memory_equal(bytes, none, sizeof(none));
        driver->config_write(f->device, beyond[i], bytes, 4 + 4 * (i == 0));
    }
    reset_and_wait(f); /* behind them */
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_SET_CONFIG), 0);
}

#define CONTROL_DATA 0x80000
#define CONTROL_ANSWER 0x80100

/** offer() - request @n of the control queue, which is queue @index. */
static void offer(struct fixture *f, unsigned index, uint16_t n, const uint8_t *request,
                  uint32_t len)
{
    const struct virtio_pci_queue *queue = &f->transport.queues[index];
    uint8_t *ram = f->memory.base;
    memcpy(ram + CONTROL_DATA, request, len);
    const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } descs[] = {{CONTROL_DATA, len, 1 /* next */, 1}, {CONTROL_ANSWER, 1, 2 /* write */, 0}};
    memcpy(ram + queue->desc, descs, sizeof(descs));
    store_le16(ram + queue->driver + 4 + 2 * n, 0);
    store_le16(ram + queue->driver + 2, (uint16_t)(n + 1));
    assert_int_equal(eventfd_write(queue->kick_fd, 1), 0);
}

static void assert_done(struct fixture *f, unsigned index)
{
    struct pollfd answered = {.fd = f->transport.queues[index].call_fd, .events = POLLIN};
    assert_int_equal(poll(&answered, 1, 30000), 1);
    assert_int_equal(f->memory.base[CONTROL_ANSWER], NET_CTRL_OK);
}

static void assert_mac(struct fixture *f, const uint8_t mac[static NET_MAC_BYTES])
{
    uint8_t shown[NET_MAC_BYTES];
    f->transport.params.ops->config_read(f->device, 0, shown, sizeof(shown));
    assert_memory_equal(shown, mac, NET_MAC_BYTES);
}

/** create_net() - a network device of @net, of whose features the driver agrees to @features. */
static void create_net(struct fixture *f, const struct vhost_user_net *net, uint64_t features)
{
    f->params.virtio_id = 1;
    f->params.n_queues = 2 * net->pairs + 1;
    f->params.config_len = sizeof(struct net_config_space);
    f->params.net = net;
    f->transport.driver_features |= features;
    create(f);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, 2 * net->pairs));
}

static void a_reset_takes_back_what_the_control_queue_was_told_and_ends_it(void **state)
{
    struct fixture *f = *state;
    static const struct vhost_user_net net = {.pairs = 1, .mac = {2, 0, 0, 0, 0, 1}};
    static const uint8_t request[] = {NET_CTRL_MAC, NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 2};
    create_net(f, &net, NET_F_CTRL_VQ | NET_F_CTRL_MAC_ADDR);
    assert_mac(f, net.mac);
    offer(f, 2, 0, request, sizeof(request));
    assert_done(f, 2);
    assert_mac(f, request + 2);
    reset_and_wait(f);
    assert_mac(f, net.mac);
    /* Of the driver before nothing is served any more. */
    offer(f, 2, 1, request, sizeof(request));
    for (unsigned i = 2; i <= 3; i++) {
        reset(f);
        assert_true(reaches(&f->n.resets, i, 30000));
    }
    assert_int_equal(load_le16(f->memory.base + f->transport.queues[2].used + 2), 1);
    assert_mac(f, net.mac);
}

static void after_a_reset_one_pair_of_queues_is_in_use_again(void **state)
{
    struct fixture *f = *state;
    static const struct vhost_user_net net = {.pairs = 2};
    static const uint8_t request[] = {NET_CTRL_MQ, NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0};
    const struct scripted_backend *b = &f->connections[0];
    create_net(f, &net, NET_F_CTRL_VQ | NET_F_MQ);
    assert_true(b->queues[1].enabled && !b->queues[2].enabled);
    offer(f, 4, 0, request, sizeof(request));
    assert_done(f, 4);
    assert_true(b->queues[2].enabled && b->queues[3].enabled);
    reset_and_wait(f);
    store_le16(f->memory.base + f->transport.queues[4].driver + 2, 0); /* a new driver's ring */
    unsigned told = scripted_saw(&f->connections[0], VHOST_USER_SET_VRING_ENABLE);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, told + 4));
    assert_true(b->queues[1].enabled && !b->queues[2].enabled && !b->queues[3].enabled);
}

static void configuration_that_changes_is_read_anew(void **state)
{
    struct fixture *f = create_active(*state);
    struct scripted_backend *b = &f->connections[0];
    uint64_t capacity = 0;
    pthread_mutex_lock(&b->lock);
    b->capacity = 9999;
    pthread_mutex_unlock(&b->lock);
    const uint32_t message[3] = {VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_FLAG_VERSION, 0};
    scripted_say(b, true, message, sizeof(message));
    assert_true(reaches(&f->n.config_changes, 1, PATIENCE_MS));
    f->transport.params.ops->config_read(f->device, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 9999);
}

static void configuration_written_by_the_driver_reaches_this_back_end_and_the_next(void **state)
{
    struct fixture *f = create_active(*state);
    f->transport.params.ops->config_write(f->device, 32, "\1", 1);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_GET_CONFIG, 2));
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
    assert_true(scripted_saw(&f->connections[1], VHOST_USER_SET_CONFIG));
}

static void flood_from_the_back_end_holds_no_reset(void **state)
{
    struct fixture *f = create_active(*state);
    static uint32_t flood[3 * 400];
    for (unsigned i = 0; i < ARRAY_SIZE(flood); i += 3) {
        flood[i] = i % 2 ? 77 : VHOST_USER_BACKEND_CONFIG_CHANGE_MSG;
        flood[i + 1] = VHOST_USER_FLAG_VERSION;
    }
    scripted_say(&f->connections[0], true, flood, sizeof(flood));
    reset_and_wait(f);
    assert_int_equal(f->n.connects, 1);
}

static void back_end_that_speaks_unasked_is_replaced(void **state)
{
    struct fixture *f = create_active(*state);
    const uint32_t message[3] = {VHOST_USER_GET_FEATURES,
                                 VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY, 0};
    scripted_say(&f->connections[0], false, message, sizeof(message));
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
    assert_int_equal(f->n.kills, 1);
}

static void end_of_the_process_counts_though_its_socket_is_open(void **state)
{
    struct fixture *f = *state;
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    f->pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    assert_true(f->pidfd >= 0);
    create_active(f);
    kill(child, SIGKILL);
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(f->n.connects, 2);
}

static void back_end_that_keeps_dying_is_started_ever_more_slowly(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 1; i < CONNECTIONS; i++) {
        f->connections[i].fault = FAULT_CLOSE;
        f->connections[i].fault_at = VHOST_USER_GET_FEATURES;
    }
    create_active(f);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.connects, 6, PATIENCE_MS));
    /* After the one at once. The clock counts whole milliseconds. */
    static const int64_t pauses[] = {100, 200, 400, 800};
    for (unsigned i = 0; i < ARRAY_SIZE(pauses); i++)
        assert_true(f->connected_ms[i + 2] - f->connected_ms[i + 1] >= pauses[i] - 1);
    /* A driver's reset is not held up by that. */
    reset_and_wait(f);
}

static void eventfd_that_a_back_end_filled_blocks_nobody(void **state)
{
    struct fixture *f = create_active(*state);
    int kick = f->connections[0].queues[0].kick_fd;
    assert_true(kicked(&f->connections[0], 0));
    assert_int_equal(fcntl(kick, F_SETFL, 0), 0);
    eventfd_t before;
    assert_int_equal(eventfd_read(kick, &before), 0);
    assert_int_equal(eventfd_write(kick, UINT64_MAX - 1), 0);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.interrupts, 1, PATIENCE_MS));
}

static void back_end_whose_state_is_lost_leaves_the_device_to_a_reset(void **state)
{
    struct fixture *f = *state;
    f->params.keeps_state = true;
    f->params.own_backend = false;
    create_active(f);
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.needs_reset, 1, PATIENCE_MS));
    assert_true(reaches(&f->n.connects, 2, PATIENCE_MS));
    reset_and_wait(f);
    assert_int_equal(scripted_saw(&f->connections[1], VHOST_USER_SET_VRING_ENABLE), 0);
    activate(f);
    assert_true(scripted_wait(&f->connections[1], VHOST_USER_SET_VRING_ENABLE, QUEUES));
    assert_int_equal(f->n.needs_reset, 1);
    /* An idle device has nothing to lose. */
    reset(f);
    assert_true(reaches(&f->n.resets, 2, PATIENCE_MS));
    scripted_kill(&f->connections[1]);
    assert_true(reaches(&f->n.connects, 3, PATIENCE_MS));
    assert_false(reaches(&f->n.needs_reset, 2, 100));
}

static void configuration_of_the_front_ends_own_is_asked_of_no_back_end(void **state)
{
    struct fixture *f = *state;
    f->params.config = "shared";
    f->params.config_len = sizeof("shared");
    f->connections[0].protocol = VHOST_USER_PROTOCOL_MQ;
    create_active(f);
    char config[sizeof("shared")];
    f->transport.params.ops->config_write(f->device, 0, "x", 1);
    reset_and_wait(f);
    f->transport.params.ops->config_read(f->device, 0, config, sizeof(config));
    assert_string_equal(config, "shared");
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_GET_CONFIG), 0);
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_SET_CONFIG), 0);
}

static void device_goes_though_its_back_end_does_not_answer(void **state)
{
    struct fixture *f = create_active_that_never_drains(*state);
    vhost_user_device_free(f->device);
    f->device = NULL;
    assert_int_equal(f->n.kills, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(back_end_gets_what_the_driver_set_up_but_not_access_platform),
        TEST(dead_back_end_is_started_again_and_goes_on_where_it_was),
        TEST(back_end_without_in_flight_region_goes_on_from_used_index),
        TEST(back_end_that_comes_back_as_another_is_refused),
        TEST(first_back_end_that_is_not_enough_is_an_error),
        TEST(back_end_that_dies_at_any_step_is_replaced),
        TEST(own_back_end_that_does_not_drain_is_killed_and_the_reset_ends),
        TEST(back_end_that_does_not_drain_is_killed_at_the_end_without_being_waited_for),
        TEST(foreign_back_end_that_does_not_drain_holds_the_reset_until_it_does),
        TEST(foreign_back_end_that_is_gone_holds_no_reset),
        TEST(foreign_back_end_that_does_not_start_needs_a_reset),
        TEST(queue_outside_ram_needs_a_reset_and_is_told_to_nobody),
        TEST(queue_that_the_driver_broke_needs_a_reset),
        TEST(after_a_reset_requests_of_the_driver_before_are_forgotten),
        TEST(queue_that_is_not_aligned_needs_a_reset),
        TEST(feature_that_is_not_to_be_offered_is_not),
        TEST(configuration_beyond_its_end_is_nothing_and_written_to_nobody),
        TEST(a_reset_takes_back_what_the_control_queue_was_told_and_ends_it),
        TEST(after_a_reset_one_pair_of_queues_is_in_use_again),
        TEST(configuration_that_changes_is_read_anew),
        TEST(configuration_written_by_the_driver_reaches_this_back_end_and_the_next),
        TEST(flood_from_the_back_end_holds_no_reset),
        TEST(back_end_that_speaks_unasked_is_replaced),
        TEST(end_of_the_process_counts_though_its_socket_is_open),
        TEST(back_end_that_keeps_dying_is_started_ever_more_slowly),
        TEST(eventfd_that_a_back_end_filled_blocks_nobody),
        TEST(back_end_whose_state_is_lost_leaves_the_device_to_a_reset),
        TEST(configuration_of_the_front_ends_own_is_asked_of_no_back_end),
        TEST(device_goes_though_its_back_end_does_not_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
