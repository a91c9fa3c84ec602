#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ring_driver.h"

#include "backends/server_internal.h"
#include "base/bytes.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUM 16u
#define QUEUES 2u
#define PATIENCE_MS 10000
#define DEVICE_FEATURE 1ull
#define FEATURES                                                                                   \
    (DEVICE_FEATURE | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_INDIRECT_DESC | VIRTIO_F_RING_EVENT_IDX | \
     VHOST_FEATURE_PROTOCOL_FEATURES)
#define PROTOCOL                                                                              \
    (VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_LOG_SHMFD | VHOST_USER_PROTOCOL_REPLY_ACK | \
     VHOST_USER_PROTOCOL_BACKEND_REQ | VHOST_USER_PROTOCOL_CONFIG |                           \
     VHOST_USER_PROTOCOL_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_RESET_DEVICE |                  \
     VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS)

/* --- A device that copies what it reads to what it writes. --- */

struct loopback {
    int prepare_result;
    unsigned prepared;
    bool hold; /* takes requests and gives none back */
    uint8_t config[16];
};

static int loopback_prepare(void *device, struct error *err)
{
    struct loopback *loopback = device;
    loopback->prepared++;
    return loopback->prepare_result ? error_set(err, loopback->prepare_result, "not now") : 0;
}

static uint32_t copy(const struct vu_chain *chain)
{
    uint8_t bytes[256];
    size_t have = 0, given = 0;
    for (unsigned i = 0; i < chain->n_out; i++)
        for (size_t j = 0; j < chain->iov[i].iov_len && have < sizeof(bytes); j++)
            bytes[have++] = ((uint8_t *)chain->iov[i].iov_base)[j];
    for (unsigned i = chain->n_out; i < chain->n_out + chain->n_in; i++)
        for (size_t j = 0; j < chain->iov[i].iov_len && given < have; j++)
            ((uint8_t *)chain->iov[i].iov_base)[j] = bytes[given++];
    return (uint32_t)given;
}

static void loopback_run(void *device, struct vu_queue *queue)
{
    struct loopback *loopback = device;
    struct iovec iov[VU_CHAIN_IOV_MAX];
    struct vu_chain chain = {.iov = iov, .iov_max = VU_CHAIN_IOV_MAX};
    for (;;) {
        int ret;
        while ((ret = vu_queue_pop(queue, &chain)) > 0)
            if (!loopback->hold)
                vu_queue_push(queue, &chain, copy(&chain));
        vu_queue_notify(queue);
        if (ret < 0)
            return;
        if (vu_queue_want_kicks(queue, true))
            continue;
        struct pollfd of[] = {{vu_queue_kick_fd(queue), POLLIN, 0},
                              {vu_queue_stop_fd(queue), POLLIN, 0}};
        poll(of, 2, -1);
        if (of[1].revents)
            return;
        uint64_t count;
        (void)!read(of[0].fd, &count, sizeof(count));
    }
}

static int loopback_read(void *device, uint32_t offset, void *data, uint32_t len)
{
    struct loopback *loopback = device;
    assert_true(range_within(offset, len, sizeof(loopback->config)));
    if (loopback->config[0] == 0xee)
        return -EIO;
    memcpy(data, loopback->config + offset, len);
    return 0;
}

static int loopback_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
    struct loopback *loopback = device;
    assert_true(range_within(offset, len, sizeof(loopback->config)));
    if (offset == 0)
        return -EPERM;
    memcpy(loopback->config + offset, data, len);
    return 0;
}

static const struct vu_backend_ops loopback_ops = {
    .prepare = loopback_prepare,
    .run = loopback_run,
    .config_read = loopback_read,
    .config_write = loopback_write,
};

/* --- The front-end. --- */

struct front {
    struct loopback loopback;
    struct vu_backend backend;
    struct ring_driver driver;
    int fd, served_fd, stop_fd;
    int kick, call, err;
    pthread_t thread;
    bool running;
    int result;
    struct error why;
};

static void *serve(void *arg)
{
    struct front *f = arg;
    f->result = vu_serve(&f->backend, f->served_fd, f->stop_fd, &f->why);
    return NULL;
}

static void serve_again(struct front *f)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->fd = pair[0];
    f->served_fd = pair[1];
    f->why = ERROR_INIT;
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    f->running = true;
}

/** unserved() - a front-end and a back-end that nobody runs yet. */
static struct front *unserved(void)
{
    struct front *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    log_set_level(LOG_ERROR);
    f->fd = -1;
    f->backend = (struct vu_backend){.name = "loopback",
                                     .ops = &loopback_ops,
                                     .device = &f->loopback,
                                     .features = DEVICE_FEATURE,
                                     .n_queues = QUEUES,
                                     .queue_size = 64,
                                     .config_len = sizeof(f->loopback.config)};
    for (unsigned i = 0; i < sizeof(f->loopback.config); i++)
        f->loopback.config[i] = (uint8_t)(i + 1);
    f->stop_fd = eventfd(0, EFD_NONBLOCK);
    f->kick = eventfd(0, EFD_NONBLOCK);
    f->call = eventfd(0, EFD_NONBLOCK);
    f->err = eventfd(0, EFD_NONBLOCK);
    ring_driver_open(&f->driver, NUM);
    return f;
}

static struct front *served(void)
{
    struct front *f = unserved();
    serve_again(f);
    return f;
}

/** hang_up() - close the connection; returns what serving it came to. */
static int hang_up(struct front *f)
{
    close(f->fd);
    f->fd = -1;
    if (f->running)
        pthread_join(f->thread, NULL);
    f->running = false;
    return f->result;
}

static void front_free(struct front *f)
{
    if (f->fd >= 0)
        hang_up(f);
    ring_driver_close(&f->driver);
    close(f->stop_fd);
    close(f->kick);
    close(f->call);
    close(f->err);
    free(f);
}

static void say_with(struct front *f, struct vhost_user_msg *msg, const int *fds, unsigned n)
{
    struct error err = ERROR_INIT;
    msg->flags |= VHOST_USER_FLAG_VERSION;
    assert_int_equal(vhost_user_send(f->fd, msg, fds, n, PATIENCE_MS, &err), 0);
}

/** hear() - the reply to @request. Returns its first descriptor or -1. */
static int hear(struct front *f, uint32_t request, struct vhost_user_msg *reply)
{
    struct error err = ERROR_INIT;
    struct vhost_user_fds fds;
    int ret = vhost_user_recv(f->fd, reply, &fds, PATIENCE_MS, &err);
    if (ret != 1)
        fail_msg("no reply to %s: %s", vhost_user_request_name(request), err.message);
    assert_int_equal(reply->request, request);
    assert_int_equal(reply->flags, VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY);
    return vhost_user_fds_take(&fds);
}

/** ask_with() - a message that wants an answer: 0 done, 1 refused. */
static uint64_t ask_with(struct front *f, struct vhost_user_msg msg, const int *fds, unsigned n)
{
    struct vhost_user_msg reply;
    msg.flags = VHOST_USER_FLAG_NEED_REPLY;
    say_with(f, &msg, fds, n);
    assert_int_equal(hear(f, msg.request, &reply), -1);
    assert_int_equal(reply.len, 8);
    return reply.payload.u64;
}

static struct vhost_user_msg u64_msg(uint32_t request, uint64_t value)
{
    return (struct vhost_user_msg){.request = request, .len = 8, .payload.u64 = value};
}

static struct vhost_user_msg state_msg(uint32_t request, uint32_t index, uint32_t num)
{
    return (struct vhost_user_msg){
        .request = request, .len = 8, .payload.state = {.index = index, .num = num}};
}

static uint64_t ask(struct front *f, struct vhost_user_msg msg)
{
    return ask_with(f, msg, NULL, 0);
}

static uint64_t get_u64(struct front *f, uint32_t request)
{
    struct vhost_user_msg msg = {.request = request};
    say_with(f, &msg, NULL, 0);
    assert_int_equal(hear(f, request, &msg), -1);
    assert_int_equal(msg.len, 8);
    return msg.payload.u64;
}

static uint32_t get_base(struct front *f, uint32_t index)
{
    struct vhost_user_msg msg = state_msg(VHOST_USER_GET_VRING_BASE, index, 0);
    say_with(f, &msg, NULL, 0);
    hear(f, VHOST_USER_GET_VRING_BASE, &msg);
    assert_int_equal(msg.payload.state.index, index);
    return msg.payload.state.num;
}

static struct vhost_user_msg table_msg(const struct front *f, unsigned n)
{
    struct vhost_user_msg msg = {.request = VHOST_USER_SET_MEM_TABLE, .len = 8 + n * 32};
    msg.payload.table.n_regions = n;
    memcpy(msg.payload.table.regions, f->driver.regions, n * sizeof(f->driver.regions[0]));
    return msg;
}

static struct vhost_user_msg region_msg(const struct front *f, uint32_t request, unsigned i)
{
    struct vhost_user_msg msg = {.request = request, .len = sizeof(struct vhost_user_mem_reg)};
    msg.payload.mem_reg.region = f->driver.regions[i];
    return msg;
}

static void agree(struct front *f)
{
    assert_int_equal(get_u64(f, VHOST_USER_GET_FEATURES), FEATURES | VHOST_FEATURE_LOG_ALL);
    assert_int_equal(get_u64(f, VHOST_USER_GET_PROTOCOL_FEATURES), PROTOCOL);
    struct vhost_user_msg msg = u64_msg(VHOST_USER_SET_PROTOCOL_FEATURES, PROTOCOL);
    say_with(f, &msg, NULL, 0);
    assert_int_equal(ask(f, (struct vhost_user_msg){.request = VHOST_USER_SET_OWNER}), 0);
    assert_int_equal(ask(f, u64_msg(VHOST_USER_SET_FEATURES, FEATURES)), 0);
}

static void set_memory(struct front *f)
{
    const int fds[] = {f->driver.memfd, f->driver.memfd, f->driver.memfd};
    assert_int_equal(ask_with(f, table_msg(f, 3), fds, 3), 0);
}

/** set_ring() - all of ring 0 but for enabling it. */
static void set_ring(struct front *f, uint32_t base)
{
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(0)};
    assert_int_equal(ask(f, state_msg(VHOST_USER_SET_VRING_NUM, 0, NUM)), 0);
    assert_int_equal(ask(f, state_msg(VHOST_USER_SET_VRING_BASE, 0, base)), 0);
    assert_int_equal(ask(f, addr), 0);
    assert_int_equal(ask_with(f, u64_msg(VHOST_USER_SET_VRING_CALL, 0), &f->call, 1), 0);
    assert_int_equal(ask_with(f, u64_msg(VHOST_USER_SET_VRING_ERR, 0), &f->err, 1), 0);
    assert_int_equal(ask_with(f, u64_msg(VHOST_USER_SET_VRING_KICK, 0), &f->kick, 1), 0);
}

static void enable(struct front *f)
{
    assert_int_equal(ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 1)), 0);
}

static void set_up(struct front *f)
{
    agree(f);
    set_memory(f);
    set_ring(f, 0);
    enable(f);
}

static void wait_readable(int fd)
{
    struct pollfd of = {fd, POLLIN, 0};
    assert_int_equal(poll(&of, 1, PATIENCE_MS), 1);
    uint64_t count;
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}

static void kick(struct front *f)
{
    const uint64_t one = 1;
    assert_int_equal(write(f->kick, &one, sizeof(one)), sizeof(one));
}

/** offer() - a request that copies 16 bytes of @text; descriptors 2 * @slot and the one behind it. */
static void offer(struct front *f, unsigned slot, const char *text)
{
    uint64_t at = DRIVER_BUFFERS + slot * 64u;
    memcpy(ring_driver_at(&f->driver, at), text, 16);
    memset(ring_driver_at(&f->driver, at + 32), 0, 16);
    uint16_t head = (uint16_t)(2 * slot);
    ring_driver_set(&f->driver, head, at, 16, VRING_DESC_F_NEXT, (uint16_t)(head + 1));
    ring_driver_set(&f->driver, (uint16_t)(head + 1), at + 32, 16, VRING_DESC_F_WRITE, 0);
    ring_driver_offer(&f->driver, head);
}

/** reap() - wait until a request is given back, and see that it is @slot's. */
static void reap(struct front *f, unsigned slot, const char *text)
{
    struct vring_used_elem elem;
    /* used_event: tell me of the next one. */
    __atomic_store_n(&f->driver.avail->ring[NUM], f->driver.next_used, __ATOMIC_SEQ_CST);
    while (!ring_driver_reap(&f->driver, &elem))
        wait_readable(f->call);
    assert_int_equal(elem.id, 2 * slot);
    assert_int_equal(elem.len, 16);
    assert_memory_equal(ring_driver_at(&f->driver, DRIVER_BUFFERS + slot * 64u + 32), text, 16);
}

static void round_trip(struct front *f, unsigned slot, const char *text)
{
    offer(f, slot, text);
    kick(f);
    reap(f, slot, text);
}

/* --- What it promises. --- */

static void requests_go_through_a_ring_that_was_set_up(void **state)
{
    (void)state;
    struct front *f = served();
    set_up(f);
    assert_int_equal(f->loopback.prepared, 1);
    for (unsigned n = 0; n < 100; n++)
        round_trip(f, n % 8, n % 2 ? "0123456789abcdef" : "fedcba9876543210");
    assert_int_equal(get_base(f, 0), 100);
    assert_int_equal(hang_up(f), 0);
    assert_int_equal(f->loopback.prepared, 1);
    front_free(f);
}

static void a_ring_is_served_when_all_of_it_is_known_in_any_order(void **state)
{
    (void)state;
    struct front *f = served();
    agree(f);
    offer(f, 0, "0123456789abcdef");
    enable(f);
    set_ring(f, 0);
    struct vring_used_elem elem;
    assert_false(ring_driver_reap(&f->driver, &elem));
    set_memory(f);
    kick(f);
    reap(f, 0, "0123456789abcdef");
    front_free(f);
}

static void a_disabled_or_stopped_ring_rests(void **state)
{
    (void)state;
    struct front *f = served();
    struct vring_used_elem elem;
    set_up(f);
    round_trip(f, 0, "0123456789abcdef");
    assert_int_equal(ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 0)), 0);
    offer(f, 1, "ABCDEFGHIJKLMNOP");
    kick(f);
    assert_int_equal(get_u64(f, VHOST_USER_GET_QUEUE_NUM), QUEUES); /* a while has passed */
    assert_false(ring_driver_reap(&f->driver, &elem));
    enable(f);
    reap(f, 1, "ABCDEFGHIJKLMNOP");
    assert_int_equal(get_base(f, 0), 2);
    offer(f, 2, "qrstuvwxyz012345");
    kick(f);
    assert_int_equal(get_u64(f, VHOST_USER_GET_QUEUE_NUM), QUEUES);
    assert_false(ring_driver_reap(&f->driver, &elem));
    set_ring(f, 2);
    reap(f, 2, "qrstuvwxyz012345");
    front_free(f);
}

static void without_protocol_features_rings_need_not_be_enabled(void **state)
{
    (void)state;
    struct front *f = served();
    agree(f);
    assert_int_equal(
        ask(f, u64_msg(VHOST_USER_SET_FEATURES, FEATURES & ~VHOST_FEATURE_PROTOCOL_FEATURES)), 0);
    set_memory(f);
    set_ring(f, 0);
    round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void a_driver_that_breaks_its_queue_is_reported_and_can_begin_anew(void **state)
{
    (void)state;
    struct front *f = served();
    set_up(f);
    log_set_level((enum log_level) - 1);
    ring_driver_set(&f->driver, 0, 0, 16, 0, 0); /* not in guest memory */
    ring_driver_offer(&f->driver, 0);
    kick(f);
    wait_readable(f->err);
    assert_int_equal(get_base(f, 0), 0);
    assert_int_equal(f->driver.used->idx, 0);
    f->driver.avail->idx = f->driver.next_avail = 0;
    set_ring(f, 0);
    round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void reset_brings_every_ring_to_rest(void **state)
{
    (void)state;
    struct front *f = served();
    struct vring_used_elem elem;
    set_up(f);
    round_trip(f, 0, "0123456789abcdef");
    assert_int_equal(ask(f, (struct vhost_user_msg){.request = VHOST_USER_RESET_DEVICE}), 0);
    offer(f, 1, "ABCDEFGHIJKLMNOP");
    kick(f);
    assert_int_equal(get_base(f, 0), 0);
    assert_false(ring_driver_reap(&f->driver, &elem));
    memset(f->driver.used, 0, 4);
    f->driver.avail->idx = f->driver.next_avail = f->driver.next_used = 0;
    set_ring(f, 0);
    enable(f);
    round_trip(f, 2, "0123456789abcdef");
    front_free(f);
}

static void memory_comes_and_goes_while_queues_run(void **state)
{
    (void)state;
    struct front *f = served();
    agree(f);
    assert_int_equal(get_u64(f, VHOST_USER_GET_MAX_MEM_SLOTS), GUEST_MAP_SLOTS);
    assert_int_equal(ask_with(f, region_msg(f, VHOST_USER_ADD_MEM_REG, 0), &f->driver.memfd, 1), 0);
    set_ring(f, 0);
    enable(f);
    for (unsigned n = 0; n < 20; n++) {
        /* Half of the requests are under way while the table changes. */
        offer(f, 0, "0123456789abcdef");
        kick(f);
        assert_int_equal(ask_with(f, region_msg(f, VHOST_USER_ADD_MEM_REG, 2), &f->driver.memfd, 1),
                         0);
        reap(f, 0, "0123456789abcdef");
        ring_driver_set(&f->driver, 3, DRIVER_FAR_GPA, 16, VRING_DESC_F_WRITE, 0);
        f->driver.desc[2] = f->driver.desc[0];
        f->driver.desc[2].next = 3;
        ring_driver_offer(&f->driver, 2);
        kick(f);
        struct vring_used_elem elem;
        __atomic_store_n(&f->driver.avail->ring[NUM], f->driver.next_used, __ATOMIC_SEQ_CST);
        while (!ring_driver_reap(&f->driver, &elem))
            wait_readable(f->call);
        assert_memory_equal(ring_driver_at(&f->driver, DRIVER_FAR_GPA), "0123456789abcdef", 16);
        memset(ring_driver_at(&f->driver, DRIVER_FAR_GPA), 0, 16);
        assert_int_equal(ask(f, region_msg(f, VHOST_USER_REM_MEM_REG, 2)), 0);
    }
    /* What is gone is gone; what never was cannot go. */
    assert_int_equal(ask(f, region_msg(f, VHOST_USER_REM_MEM_REG, 2)), 1);
    assert_int_equal(ask_with(f, region_msg(f, VHOST_USER_ADD_MEM_REG, 0), &f->driver.memfd, 1), 1);
    round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static void a_ring_whose_memory_went_away_waits_for_it(void **state)
{
    (void)state;
    struct front *f = served();
    set_up(f);
    round_trip(f, 0, "0123456789abcdef");
    log_set_level((enum log_level) - 1);
    assert_int_equal(ask(f, region_msg(f, VHOST_USER_REM_MEM_REG, 0)), 0);
    wait_readable(f->err);
    offer(f, 1, "ABCDEFGHIJKLMNOP");
    kick(f);
    assert_int_equal(ask_with(f, region_msg(f, VHOST_USER_ADD_MEM_REG, 0), &f->driver.memfd, 1), 0);
    reap(f, 1, "ABCDEFGHIJKLMNOP");
    front_free(f);
}

static void the_configuration_is_read_and_written_within_its_bounds(void **state)
{
    (void)state;
    struct front *f = served();
    agree(f);
    struct vhost_user_msg msg = {.request = VHOST_USER_GET_CONFIG,
                                 .len = 12 + 24,
                                 .payload.config = {.offset = 4, .len = 24}};
    struct vhost_user_msg reply;
    say_with(f, &msg, NULL, 0);
    hear(f, VHOST_USER_GET_CONFIG, &reply);
    assert_int_equal(reply.len, 12 + 24);
    assert_int_equal(reply.payload.config.len, 24);
    for (unsigned i = 0; i < 24; i++)
        assert_int_equal(reply.payload.config.data[i], i < 12 ? i + 5 : 0);

    msg = (struct vhost_user_msg){.request = VHOST_USER_SET_CONFIG,
                                  .len = 12 + 2,
                                  .payload.config = {.offset = 14, .len = 2, .data = {7, 8}}};
    assert_int_equal(ask(f, msg), 0);
    assert_int_equal(f->loopback.config[15], 8);
    msg.payload.config.offset = 15; /* over its end */
    assert_int_equal(ask(f, msg), 1);
    msg.payload.config.offset = UINT32_MAX;
    assert_int_equal(ask(f, msg), 1);
    msg.payload.config.offset = 0; /* the device says no */
    assert_int_equal(ask(f, msg), 1);
    msg.payload.config = (struct vhost_user_config){.offset = 14, .len = 3};
    assert_int_equal(ask(f, msg), 1);

    f->loopback.config[0] = 0xee;
    msg = (struct vhost_user_msg){
        .request = VHOST_USER_GET_CONFIG, .len = 12 + 4, .payload.config = {.len = 4}};
    say_with(f, &msg, NULL, 0);
    hear(f, VHOST_USER_GET_CONFIG, &reply);
    assert_int_equal(reply.len, 0);
    front_free(f);
}

static void a_device_that_is_not_ready_fails_the_request_that_starts_it(void **state)
{
    (void)state;
    struct front *f = unserved();
    f->loopback.prepare_result = -EAGAIN;
    serve_again(f);
    agree(f);
    set_memory(f);
    set_ring(f, 0);
    assert_int_equal(ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 1)), 1);
    f->loopback.prepare_result = 0;
    enable(f);
    round_trip(f, 0, "0123456789abcdef");
    front_free(f);
}

static int get_inflight(struct front *f, struct vhost_user_msg *msg, uint32_t len)
{
    *msg = (struct vhost_user_msg){.request = VHOST_USER_GET_INFLIGHT_FD,
                                   .len = len,
                                   .payload.inflight = {.n_queues = QUEUES, .queue_size = NUM}};
    say_with(f, msg, NULL, 0);
    int fd = hear(f, VHOST_USER_GET_INFLIGHT_FD, msg);
    assert_int_equal(msg->len, len);
    return fd;
}

static void requests_of_a_killed_back_end_are_served_by_the_next(void **state)
{
    (void)state;
    struct front *f = unserved();
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
    agree(f);
    int region = get_inflight(f, &inflight, 20);
    assert_true(region >= 0);
    inflight.request = VHOST_USER_SET_INFLIGHT_FD;
    assert_int_equal(ask_with(f, inflight, &region, 1), 0);
    set_memory(f);
    set_ring(f, 0);
    enable(f);
    offer(f, 3, "0123456789abcdef");
    offer(f, 1, "ABCDEFGHIJKLMNOP");
    kick(f);
    /* Both were taken once the kick was waited for beyond them. */
    const uint16_t *avail_event = (void *)&f->driver.used->ring[NUM];
    while (__atomic_load_n(avail_event, __ATOMIC_ACQUIRE) != 2)
        sched_yield();
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    hang_up(f);

    offer(f, 2, "qrstuvwxyz012345");
    serve_again(f);
    agree(f);
    assert_int_equal(ask_with(f, inflight, &region, 1), 0);
    set_memory(f);
    set_ring(f, f->driver.used->idx); /* all that a front-end can know */
    enable(f);
    reap(f, 3, "0123456789abcdef");
    reap(f, 1, "ABCDEFGHIJKLMNOP");
    reap(f, 2, "qrstuvwxyz012345");
    assert_int_equal(get_base(f, 0), 3);
    close(region);
    front_free(f);
}

static void an_in_flight_region_is_given_and_taken_only_as_it_can_be(void **state)
{
    (void)state;
    struct front *f = served();
    struct vhost_user_msg msg;
    set_up(f);
    int fd = get_inflight(f, &msg, 24);
    assert_true(fd >= 0);
    assert_true(msg.payload.inflight.mmap_size >= QUEUES * (16 + 16 * NUM));
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    msg.request = VHOST_USER_SET_INFLIGHT_FD;
    assert_int_equal(ask_with(f, msg, &fd, 1), 1); /* the ring is started */
    get_base(f, 0);
    assert_int_equal(ask_with(f, msg, NULL, 0), 1);
    msg.payload.inflight.n_queues = 200;
    assert_int_equal(ask_with(f, msg, &fd, 1), 1);
    close(fd);

    msg = (struct vhost_user_msg){.request = VHOST_USER_GET_INFLIGHT_FD, .len = 20};
    say_with(f, &msg, NULL, 0);
    assert_int_equal(hear(f, VHOST_USER_GET_INFLIGHT_FD, &msg), -1);
    assert_int_equal(msg.payload.inflight.mmap_size, 0);
    front_free(f);
}

static void what_is_written_is_logged_from_when_the_front_end_asks(void **state)
{
    (void)state;
    struct front *f = served();
    set_up(f);
    const size_t bytes = (DRIVER_SEAM_GPA + DRIVER_REGION_BYTES) / PAGE_BYTES / 8;
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    uint8_t *bits = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct vhost_user_msg msg = {.request = VHOST_USER_SET_LOG_BASE,
                                 .len = sizeof(struct vhost_user_log),
                                 .payload.log = {.mmap_size = bytes}};
    struct vhost_user_msg reply;
    say_with(f, &msg, &fd, 1);
    hear(f, VHOST_USER_SET_LOG_BASE, &reply);
    int log_event = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(
        ask_with(f, (struct vhost_user_msg){.request = VHOST_USER_SET_LOG_FD}, &log_event, 1), 0);
    round_trip(f, 0, "0123456789abcdef");
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(bits[i], 0);
    assert_int_equal(ask(f, u64_msg(VHOST_USER_SET_FEATURES, FEATURES | VHOST_FEATURE_LOG_ALL)), 0);
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(0)};
    addr.payload.addr.flags = VHOST_USER_VRING_LOG;
    assert_int_equal(ask(f, addr), 0);
    round_trip(f, 1, "ABCDEFGHIJKLMNOP");
    wait_readable(log_event);
    get_base(f, 0); /* the queue rests, so that all is logged */
    const size_t used = DRIVER_GPA / PAGE_BYTES + 2, data = DRIVER_BUFFERS / PAGE_BYTES;
    for (size_t page = 0; page < bytes * 8; page++)
        assert_int_equal(bits[page / 8] >> (page % 8) & 1, page == used || page == data);
    munmap(bits, bytes);
    close(fd);
    close(log_event);
    front_free(f);
}

/* --- Messages that are wrong. --- */

struct wrong {
    struct vhost_user_msg msg;
    unsigned n_fds;
};

static void messages_that_are_wrong_are_refused_and_harm_nothing(void **state)
{
    (void)state;
    struct front *f = served();
    set_up(f);
    struct vhost_user_msg huge = table_msg(f, 1), nine = table_msg(f, 3), longer = table_msg(f, 1);
    huge.payload.table.regions[0].len = DRIVER_RAM_BYTES + 1;
    nine.payload.table.n_regions = 9;
    longer.len += 8;
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(QUEUES)};
    struct vhost_user_msg flags = addr;
    flags.payload.addr = ring_driver_addr(1);
    flags.payload.addr.flags = 2;
    const struct wrong wrongs[] = {
        {u64_msg(VHOST_USER_SET_FEATURES, FEATURES | 1ull << 33), 0},
        {u64_msg(VHOST_USER_SET_FEATURES, FEATURES), 1},
        {state_msg(VHOST_USER_SET_VRING_NUM, QUEUES, NUM), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 0), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 48), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 128), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 0x10010), 0},
        {state_msg(VHOST_USER_SET_VRING_BASE, UINT32_MAX, 0), 0},
        {state_msg(VHOST_USER_SET_VRING_BASE, 1, 0x10000), 0},
        {state_msg(VHOST_USER_SET_VRING_ENABLE, 1, 2), 0},
        {state_msg(VHOST_USER_SET_VRING_ENABLE, QUEUES, 1), 0},
        {addr, 0},
        {flags, 0},
        {u64_msg(VHOST_USER_SET_VRING_KICK, 1), 0},
        {u64_msg(VHOST_USER_SET_VRING_KICK, 1), 2},
        {u64_msg(VHOST_USER_SET_VRING_CALL, 1 | VHOST_USER_VRING_NO_FD), 1},
        {u64_msg(VHOST_USER_SET_VRING_ERR, 1 | 1ull << 9), 1},
        {u64_msg(VHOST_USER_SET_VRING_KICK, 255), 1},
        {huge, 1},
        {nine, 3},
        {longer, 1},
        {table_msg(f, 2), 1},
        {table_msg(f, 1), 2},
        {{.request = VHOST_USER_SET_MEM_TABLE, .len = 4}, 0},
        {region_msg(f, VHOST_USER_ADD_MEM_REG, 0), 0},
        {region_msg(f, VHOST_USER_REM_MEM_REG, 0), 2},
        {{.request = VHOST_USER_SET_LOG_FD}, 0},
        {{.request = VHOST_USER_SET_BACKEND_REQ_FD}, 0},
        {{.request = VHOST_USER_SET_CONFIG, .len = 11}, 0},
        {{.request = VHOST_USER_SET_INFLIGHT_FD, .len = 8}, 1},
        {{.request = VHOST_USER_SET_OWNER, .len = 1}, 0},
        {{.request = VHOST_USER_NET_SET_MTU, .len = 8}, 0},
        {{.request = VHOST_USER_SET_DEVICE_STATE_FD, .len = 8}, 1},
        {{.request = 0}, 0},
        {{.request = 77}, 0},
        {{.request = UINT32_MAX}, 8},
    };
    int fds[VHOST_USER_MEM_REGIONS_MAX];
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = f->driver.memfd;
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        if (ask_with(f, wrongs[i].msg, fds, wrongs[i].n_fds) == 0)
            fail_msg("number %zu was not refused", i);
        round_trip(f, (unsigned)(i % 8), "0123456789abcdef");
    }
    assert_int_equal(hang_up(f), 0);
    front_free(f);
}

static void a_wrong_message_that_wants_no_answer_ends_the_connection(void **state)
{
    (void)state;
    struct vhost_user_msg reply_bit = {.request = VHOST_USER_SET_OWNER,
                                       .flags = VHOST_USER_FLAG_REPLY};
    struct vhost_user_msg unasked = {.request = VHOST_USER_GET_MAX_MEM_SLOTS};
    struct vhost_user_msg log_of_old = u64_msg(VHOST_USER_SET_LOG_BASE, 0);
    struct vhost_user_msg wrongs[] = {
        state_msg(VHOST_USER_GET_VRING_BASE, QUEUES, 0),
        state_msg(VHOST_USER_SET_VRING_NUM, 0, 3),
        {.request = VHOST_USER_GET_FEATURES, .len = 4},
        {.request = VHOST_USER_GET_FEATURES, .flags = 2}, /* becomes version 3 */
        u64_msg(VHOST_USER_SET_PROTOCOL_FEATURES, PROTOCOL | 1ull << 63),
        reply_bit,
        unasked,
        log_of_old,
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        struct front *f = served();
        say_with(f, &wrongs[i], NULL, 0);
        struct pollfd of = {f->fd, POLLIN, 0};
        assert_int_equal(poll(&of, 1, PATIENCE_MS), 1);
        char byte;
        assert_int_equal(recv(f->fd, &byte, 1, 0), 0);
        assert_true(hang_up(f) < 0);
        assert_string_not_equal(f->why.message, "");
        front_free(f);
    }
}

static void a_message_cut_short_ends_the_connection(void **state)
{
    (void)state;
    const uint32_t bytes[] = {VHOST_USER_SET_FEATURES, VHOST_USER_FLAG_VERSION, 8, 0};
    for (size_t len = 1; len < sizeof(bytes); len++) {
        struct front *f = served();
        assert_int_equal(write(f->fd, bytes, len), len);
        assert_true(hang_up(f) < 0);
        front_free(f);
    }
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void a_connection_leaves_no_descriptor_behind(void **state)
{
    (void)state;
    struct front *f = unserved();
    unsigned before = open_descriptors();
    for (unsigned n = 0; n < 3; n++) {
        struct vhost_user_msg msg;
        int pair[2];
        f->driver.next_avail = f->driver.next_used = 0;
        memset(f->driver.avail, 0, 4);
        memset(f->driver.used, 0, 4);
        serve_again(f);
        set_up(f);
        round_trip(f, 0, "0123456789abcdef");
        close(get_inflight(f, &msg, 20));
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        msg = (struct vhost_user_msg){.request = VHOST_USER_SET_BACKEND_REQ_FD};
        assert_int_equal(ask_with(f, msg, &pair[1], 1), 0);
        close(pair[0]);
        close(pair[1]);
        const int many[] = {f->kick, f->call, f->err};
        assert_int_equal(ask_with(f, u64_msg(VHOST_USER_SET_VRING_CALL, 0), many, 3), 1);
        assert_int_equal(hang_up(f), 0);
        assert_int_equal(open_descriptors(), before);
    }
    front_free(f);
}

static void the_front_end_hears_of_another_configuration(void **state)
{
    (void)state;
    struct vu_queue queue;
    struct error err = ERROR_INIT;
    int pair[2];
    assert_int_equal(vring_init(&queue, "test", 0, NUM), 0);
    assert_int_equal(vu_queue_config_changed(&queue, &err), -ENOTCONN);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    queue.backend_fd = pair[1];
    assert_int_equal(vu_queue_config_changed(&queue, &err), 0);
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    assert_int_equal(vhost_user_recv(pair[0], &msg, &fds, 0, &err), 1);
    assert_int_equal(msg.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    assert_int_equal(msg.len, 0);
    /* A front-end that reads nothing stops nobody. */
    int ret;
    while ((ret = vu_queue_config_changed(&queue, &err)) == 0)
        ;
    assert_int_equal(ret, -ETIMEDOUT);
    close(pair[0]);
    close(pair[1]);
    vring_release(&queue);
}

static void stopping_ends_a_connection_in_use(void **state)
{
    (void)state;
    struct front *f = served();
    const uint64_t one = 1;
    set_up(f);
    round_trip(f, 0, "0123456789abcdef");
    assert_int_equal(write(f->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(f->thread, NULL);
    f->running = false;
    assert_int_equal(f->result, 0);
    front_free(f);
}

/* --- Listening. --- */

struct listener {
    struct front *front;
    char path[64];
    int result;
};

static void *listen_for_all(void *arg)
{
    struct listener *l = arg;
    l->result = vu_serve_path(&l->front->backend, l->path, l->front->stop_fd, &l->front->why);
    return NULL;
}

static void connect_to(struct listener *l)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, l->path, strlen(l->path));
    l->front->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(l->front->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        assert_true(errno == ENOENT || errno == ECONNREFUSED);
        sched_yield();
    }
}

static void one_front_end_after_another_is_served_at_a_path(void **state)
{
    (void)state;
    struct listener l = {.front = unserved()}, second = l;
    struct front *f = l.front;
    char folder[] = "/tmp/husk-server-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(l.path, sizeof(l.path), "%s/socket", folder);
    memcpy(second.path, l.path, sizeof(l.path));
    /* What a back-end that was killed leaves behind. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, l.path, strlen(l.path));
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof(address)), 0);
    close(stale);

    assert_int_equal(pthread_create(&f->thread, NULL, listen_for_all, &l), 0);
    for (unsigned n = 0; n < 3; n++) {
        connect_to(&l);
        agree(f);
        close(f->fd);
    }
    f->fd = -1;
    listen_for_all(&second);
    assert_int_equal(second.result, -EADDRINUSE);
    const uint64_t one = 1;
    assert_int_equal(write(f->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(f->thread, NULL);
    assert_int_equal(l.result, 0);
    assert_int_equal(access(l.path, F_OK), -1);

    snprintf(l.path, sizeof(l.path), "%s/not/there", folder);
    listen_for_all(&l);
    assert_int_equal(l.result, -ENOENT);
    assert_int_equal(rmdir(folder), 0);
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
        cmocka_unit_test(reset_brings_every_ring_to_rest),
        cmocka_unit_test(memory_comes_and_goes_while_queues_run),
        cmocka_unit_test(a_ring_whose_memory_went_away_waits_for_it),
        cmocka_unit_test(the_configuration_is_read_and_written_within_its_bounds),
        cmocka_unit_test(a_device_that_is_not_ready_fails_the_request_that_starts_it),
        cmocka_unit_test(requests_of_a_killed_back_end_are_served_by_the_next),
        cmocka_unit_test(an_in_flight_region_is_given_and_taken_only_as_it_can_be),
        cmocka_unit_test(what_is_written_is_logged_from_when_the_front_end_asks),
        cmocka_unit_test(messages_that_are_wrong_are_refused_and_harm_nothing),
        cmocka_unit_test(a_wrong_message_that_wants_no_answer_ends_the_connection),
        cmocka_unit_test(a_message_cut_short_ends_the_connection),
        cmocka_unit_test(a_connection_leaves_no_descriptor_behind),
        cmocka_unit_test(the_front_end_hears_of_another_configuration),
        cmocka_unit_test(stopping_ends_a_connection_in_use),
        cmocka_unit_test(one_front_end_after_another_is_served_at_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
