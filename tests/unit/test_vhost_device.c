#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "scripted_backend.h"
#include "virtio/device.h"
#include "virtio/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 64, QUEUES = 2 };
#define RAM_BYTES MIB(1)
#define USED_AT 0x3000

/* The transport's place is taken by this one, so that the driver's side is the test's. */
struct virtio_pci {
    struct virtio_pci_params params;
    struct virtio_pci_queue queues[QUEUES];
    uint64_t driver_features;
};

struct counters {
    unsigned connects, kills, resets, needs_reset, config_changes, interrupts;
};

struct fixture {
    struct vhost_user_device_params params;
    struct guest_memory memory;
    struct virtio_pci transport;
    struct vhost_user_device *device;
    struct scripted_backend connections[CONNECTIONS];
    int pidfd;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct counters n;
};

static struct fixture *the;

static void count(unsigned *counter)
{
    pthread_mutex_lock(&the->lock);
    (*counter)++;
    pthread_cond_broadcast(&the->changed);
    pthread_mutex_unlock(&the->lock);
}

/** reaches() - whether *@counter comes to @n within @timeout_ms. */
static bool reaches(const unsigned *counter, unsigned n, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nsec = until.tv_nsec + timeout_ms * 1000000LL;
    until.tv_sec += nsec / 1000000000;
    until.tv_nsec = nsec % 1000000000;
    pthread_mutex_lock(&the->lock);
    int ret = 0;
    while (*counter < n && ret == 0)
        ret = pthread_cond_timedwait(&the->changed, &the->lock, &until);
    bool there = *counter >= n;
    pthread_mutex_unlock(&the->lock);
    return there;
}

struct virtio_pci *virtio_pci_new(const struct virtio_pci_params *params, struct error *err)
{
    (void)err;
    the->transport.params = *params;
    return &the->transport;
}

void virtio_pci_free(struct virtio_pci *transport)
{
    (void)transport;
}

const struct virtio_pci_queue *virtio_pci_queue(const struct virtio_pci *transport, unsigned index)
{
    return &transport->queues[index];
}

uint64_t virtio_pci_features(const struct virtio_pci *transport)
{
    return transport->driver_features;
}

void virtio_pci_reset_done(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.resets);
}

void virtio_pci_config_changed(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.config_changes);
}

void virtio_pci_needs_reset(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.needs_reset);
}

void virtio_pci_interrupt_all(struct virtio_pci *transport)
{
    (void)transport;
    count(&the->n.interrupts);
}

static int connect_next(void *ctx, bool again, struct vhost_user_link *link, struct error *err)
{
    struct fixture *f = ctx;
    unsigned n = f->n.connects; /* written by this thread alone */
    if (n >= CONNECTIONS || again != (n > 0))
        return error_set(err, -ECONNREFUSED, "no more back-ends");
    link->socket_fd = scripted_start(&f->connections[n]);
    link->pidfd = take_fd(&f->pidfd);
    count(&f->n.connects);
    return 0;
}

static void kill_current(void *ctx)
{
    struct fixture *f = ctx;
    unsigned n = f->n.connects; /* written by this thread alone */
    if (n)
        scripted_kill(&f->connections[n - 1]);
    count(&f->n.kills);
}

static const struct vhost_user_device_ops ops = {connect_next, kill_current};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    pthread_condattr_t attributes;
    *state = the = f;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, &attributes);
    f->pidfd = -1;
    f->memory.fd = memfd_create("ram", MFD_CLOEXEC);
    f->memory.size = RAM_BYTES;
    f->memory.n_regions = 1;
    f->memory.regions[0] = (struct memory_region){.len = RAM_BYTES};
    if (ftruncate(f->memory.fd, RAM_BYTES) < 0)
        return -1;
    f->memory.base = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory.fd, 0);
    for (unsigned i = 0; i < QUEUES; i++)
        f->transport.queues[i] = (struct virtio_pci_queue){
            .enabled = true,
            .size = 16,
            .desc = 0x1000 + 0x8000 * i,
            .driver = 0x2000 + 0x8000 * i,
            .used = USED_AT + 0x8000 * i,
            .kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
            .call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        };
    f->transport.driver_features = VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM;
    f->params = (struct vhost_user_device_params){
        .name = "disk0",
        .virtio_id = 2,
        .n_queues = QUEUES,
        .queue_size = 16,
        .config_len = SCRIPTED_CONFIG_BYTES,
        .own_backend = true,
        .timeout_ms = 5000,
        .memory = &f->memory,
        .ops = &ops,
        .ctx = f,
    };
    return 0;
}

/** forget_device() - and all there was, for a device that begins anew. */
static void forget_device(struct fixture *f)
{
    vhost_user_device_free(f->device);
    f->device = NULL;
    for (unsigned i = 0; i < f->n.connects; i++)
        scripted_stop(&f->connections[i]);
    memset(f->connections, 0, sizeof(f->connections));
    f->n = (struct counters){0};
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    forget_device(f);
    for (unsigned i = 0; i < QUEUES; i++) {
        close(f->transport.queues[i].kick_fd);
        close(f->transport.queues[i].call_fd);
    }
    munmap(f->memory.base, RAM_BYTES);
    close(f->memory.fd);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static void create(struct fixture *f)
{
    struct error err = ERROR_INIT;
    f->device = vhost_user_device_new(&f->params, &err);
    if (!f->device)
        fail_msg("%s", err.message);
}

static void activate(struct fixture *f)
{
    f->transport.params.ops->activate(f->transport.params.device);
}

static void reset(struct fixture *f)
{
    f->transport.params.ops->reset(f->transport.params.device);
}

static void reset_and_wait(struct fixture *f)
{
    reset(f);
    assert_true(reaches(&f->n.resets, 1, 30000));
}

static struct fixture *create_active(struct fixture *f)
{
    create(f);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, QUEUES));
    return f;
}

static struct fixture *create_active_that_never_drains(struct fixture *f)
{
    f->params.timeout_ms = 1000;
    f->connections[0].fault = FAULT_SILENT;
    f->connections[0].fault_at = VHOST_USER_GET_VRING_BASE;
    return create_active(f);
}

static void used_index(struct fixture *f, unsigned queue, uint16_t index)
{
    store_le16(f->memory.base + f->transport.queues[queue].used + 2, index);
}

static bool kicked(const struct scripted_backend *b, unsigned queue)
{
    struct pollfd of = {.fd = b->queues[queue].kick_fd, .events = POLLIN};
    return poll(&of, 1, 5000) == 1;
}

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
    assert_true(reaches(&f->n.interrupts, 1, 30000));
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
    assert_true(reaches(&f->n.interrupts, 1, 30000));
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
    assert_true(reaches(&f->n.interrupts, 1, 20000));
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
        assert_true(reaches(&f->n.interrupts, 1, 30000));
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
    assert_true(reaches(&f->n.connects, 2, 30000));
    activate(f);
    assert_true(scripted_wait(&f->connections[1], VHOST_USER_SET_VRING_ENABLE, QUEUES));
    assert_int_equal(f->n.needs_reset, 0);
}

static void back_end_that_does_not_drain_is_killed_at_the_end_without_being_waited_for(void **state)
{
    struct fixture *f = create_active_that_never_drains(*state);
    vhost_user_device_end(f->device);
    assert_true(reaches(&f->n.kills, 1, 30000));
    assert_int_equal(f->n.resets, 0);
}

static void reset_with_foreign_back_end_that_hangs(struct fixture *f)
{
    f->params.own_backend = false;
    f->params.timeout_ms = 1000;
    f->connections[0].fault = FAULT_LATE;
    f->connections[0].fault_at = VHOST_USER_GET_VRING_BASE;
    create_active(f);
    reset(f);
    assert_true(reaches(&f->n.needs_reset, 1, 30000));
}

static void foreign_back_end_that_does_not_drain_holds_the_reset_until_it_does(void **state)
{
    struct fixture *f = *state;
    reset_with_foreign_back_end_that_hangs(f);
    assert_false(reaches(&f->n.resets, 1, 0));
    scripted_release(&f->connections[0]);
    assert_true(reaches(&f->n.resets, 1, 30000));
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
    assert_true(reaches(&f->n.resets, 1, 30000));
    assert_true(reaches(&f->n.connects, 2, 30000));
}

static void foreign_back_end_that_does_not_start_needs_a_reset(void **state)
{
    struct fixture *f = *state;
    f->params.own_backend = false;
    f->params.timeout_ms = 1000;
    f->connections[0].fault = FAULT_LATE;
    f->connections[0].fault_at = VHOST_USER_SET_MEM_TABLE;
    create(f);
    activate(f);
    assert_true(reaches(&f->n.needs_reset, 1, 30000));
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
    assert_true(reaches(&f->n.needs_reset, 1, 30000));
    reset_and_wait(f);
    assert_int_equal(scripted_saw(&f->connections[0], VHOST_USER_SET_VRING_ADDR), 1);
}

static void queue_that_the_driver_broke_needs_a_reset(void **state)
{
    struct fixture *f = create_active(*state);
    assert_int_equal(eventfd_write(f->connections[0].queues[1].err_fd, 1), 0);
    assert_true(reaches(&f->n.needs_reset, 1, 30000));
    reset_and_wait(f);
    activate(f);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_SET_VRING_ENABLE, 2 * QUEUES));
    assert_false(reaches(&f->n.needs_reset, 2, 100));
    assert_int_equal(f->n.connects, 1);
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
    assert_true(reaches(&f->n.config_changes, 1, 30000));
    f->transport.params.ops->config_read(f->device, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 9999);
}

static void configuration_written_by_the_driver_reaches_this_back_end_and_the_next(void **state)
{
    struct fixture *f = create_active(*state);
    f->transport.params.ops->config_write(f->device, 32, "\1", 1);
    assert_true(scripted_wait(&f->connections[0], VHOST_USER_GET_CONFIG, 2));
    scripted_kill(&f->connections[0]);
    assert_true(reaches(&f->n.interrupts, 1, 30000));
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
    assert_true(reaches(&f->n.interrupts, 1, 30000));
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
    assert_true(reaches(&f->n.interrupts, 1, 30000));
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
    assert_true(reaches(&f->n.connects, 3, 30000));
    /* After the one at once: 100, 200, 400, 800 ms. */
    assert_false(reaches(&f->n.connects, 7, 1000));
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
    assert_true(reaches(&f->n.interrupts, 1, 30000));
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
        TEST(configuration_that_changes_is_read_anew),
        TEST(configuration_written_by_the_driver_reaches_this_back_end_and_the_next),
        TEST(flood_from_the_back_end_holds_no_reset),
        TEST(back_end_that_speaks_unasked_is_replaced),
        TEST(end_of_the_process_counts_though_its_socket_is_open),
        TEST(back_end_that_keeps_dying_is_started_ever_more_slowly),
        TEST(eventfd_that_a_back_end_filled_blocks_nobody),
        TEST(device_goes_though_its_back_end_does_not_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
