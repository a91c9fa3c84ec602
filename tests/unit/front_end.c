#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front_end.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

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
    loopback->runs++;
    while (!loopback->give_up) {
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

static void *serve(void *arg)
{
    struct front *f = arg;
    f->result = vu_serve(&f->backend, f->served_fd, f->stop_fd, &f->why);
    return NULL;
}

void front_serve_again(struct front *f)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->fd = pair[0];
    f->served_fd = pair[1];
    f->why = ERROR_INIT;
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    f->running = true;
}

struct front *front_unserved(void)
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

struct front *front_served(void)
{
    struct front *f = front_unserved();
    front_serve_again(f);
    return f;
}

int front_hang_up(struct front *f)
{
    close(f->fd);
    f->fd = -1;
    if (f->running)
        pthread_join(f->thread, NULL);
    f->running = false;
    return f->result;
}

void front_free(struct front *f)
{
    if (f->fd >= 0)
        front_hang_up(f);
    ring_driver_close(&f->driver);
    close(f->stop_fd);
    close(f->kick);
    close(f->call);
    close(f->err);
    free(f);
}

void front_say_with(struct front *f, struct vhost_user_msg *msg, const int *fds, unsigned n)
{
    struct error err = ERROR_INIT;
    msg->flags |= VHOST_USER_FLAG_VERSION;
    assert_int_equal(vhost_user_send(f->fd, msg, fds, n, PATIENCE_MS, &err), 0);
}

int front_hear(struct front *f, uint32_t request, struct vhost_user_msg *reply)
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

uint64_t front_ask_with(struct front *f, struct vhost_user_msg msg, const int *fds, unsigned n)
{
    struct vhost_user_msg reply;
    msg.flags = VHOST_USER_FLAG_NEED_REPLY;
    front_say_with(f, &msg, fds, n);
    assert_int_equal(front_hear(f, msg.request, &reply), -1);
    assert_int_equal(reply.len, 8);
    return reply.payload.u64;
}

struct vhost_user_msg u64_msg(uint32_t request, uint64_t value)
{
    return (struct vhost_user_msg){.request = request, .len = 8, .payload.u64 = value};
}

struct vhost_user_msg state_msg(uint32_t request, uint32_t index, uint32_t num)
{
    return (struct vhost_user_msg){
        .request = request, .len = 8, .payload.state = {.index = index, .num = num}};
}

uint64_t front_ask(struct front *f, struct vhost_user_msg msg)
{
    return front_ask_with(f, msg, NULL, 0);
}

uint64_t front_get_u64(struct front *f, uint32_t request)
{
    struct vhost_user_msg msg = {.request = request};
    front_say_with(f, &msg, NULL, 0);
    assert_int_equal(front_hear(f, request, &msg), -1);
    assert_int_equal(msg.len, 8);
    return msg.payload.u64;
}

uint32_t front_get_base(struct front *f, uint32_t index)
{
    struct vhost_user_msg msg = state_msg(VHOST_USER_GET_VRING_BASE, index, 0);
    front_say_with(f, &msg, NULL, 0);
    front_hear(f, VHOST_USER_GET_VRING_BASE, &msg);
    assert_int_equal(msg.payload.state.index, index);
    return msg.payload.state.num;
}

struct vhost_user_msg front_table_msg(const struct front *f, unsigned n)
{
    struct vhost_user_msg msg = {.request = VHOST_USER_SET_MEM_TABLE, .len = 8 + n * 32};
    msg.payload.table.n_regions = n;
    memcpy(msg.payload.table.regions, f->driver.regions, n * sizeof(f->driver.regions[0]));
    return msg;
}

struct vhost_user_msg front_region_msg(const struct front *f, uint32_t request, unsigned i)
{
    struct vhost_user_msg msg = {.request = request, .len = sizeof(struct vhost_user_mem_reg)};
    msg.payload.mem_reg.region = f->driver.regions[i];
    return msg;
}

void front_agree(struct front *f)
{
    assert_int_equal(front_get_u64(f, VHOST_USER_GET_FEATURES), FEATURES | VHOST_FEATURE_LOG_ALL);
    assert_int_equal(front_get_u64(f, VHOST_USER_GET_PROTOCOL_FEATURES), PROTOCOL);
    struct vhost_user_msg msg = u64_msg(VHOST_USER_SET_PROTOCOL_FEATURES, PROTOCOL);
    front_say_with(f, &msg, NULL, 0);
    assert_int_equal(front_ask(f, (struct vhost_user_msg){.request = VHOST_USER_SET_OWNER}), 0);
    assert_int_equal(front_ask(f, u64_msg(VHOST_USER_SET_FEATURES, FEATURES)), 0);
}

void front_set_memory(struct front *f)
{
    const int fds[] = {f->driver.memfd, f->driver.memfd, f->driver.memfd};
    assert_int_equal(front_ask_with(f, front_table_msg(f, 3), fds, 3), 0);
}

void front_set_ring(struct front *f, uint32_t base)
{
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(0)};
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_NUM, 0, NUM)), 0);
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_BASE, 0, base)), 0);
    assert_int_equal(front_ask(f, addr), 0);
    assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_CALL, 0), &f->call, 1), 0);
    assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_ERR, 0), &f->err, 1), 0);
    assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_KICK, 0), &f->kick, 1), 0);
}

void front_enable(struct front *f)
{
    assert_int_equal(front_ask(f, state_msg(VHOST_USER_SET_VRING_ENABLE, 0, 1)), 0);
}

void front_set_up(struct front *f)
{
    front_agree(f);
    front_set_memory(f);
    front_set_ring(f, 0);
    front_enable(f);
}

void front_wait_readable(int fd)
{
    struct pollfd of = {fd, POLLIN, 0};
    assert_int_equal(poll(&of, 1, PATIENCE_MS), 1);
    uint64_t count;
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}

void front_kick(struct front *f)
{
    const uint64_t one = 1;
    assert_int_equal(write(f->kick, &one, sizeof(one)), sizeof(one));
}

void front_offer(struct front *f, unsigned slot, const char *text)
{
    uint64_t at = DRIVER_BUFFERS + slot * 64u;
    memcpy(ring_driver_at(&f->driver, at), text, 16);
    memset(ring_driver_at(&f->driver, at + 32), 0, 16);
    uint16_t head = (uint16_t)(2 * slot);
    ring_driver_set(&f->driver, head, at, 16, VRING_DESC_F_NEXT, (uint16_t)(head + 1));
    ring_driver_set(&f->driver, (uint16_t)(head + 1), at + 32, 16, VRING_DESC_F_WRITE, 0);
    ring_driver_offer(&f->driver, head);
}

void front_reap(struct front *f, unsigned slot, const char *text)
{
    struct vring_used_elem elem;
    /* used_event: tell me of the next one. */
    __atomic_store_n(&f->driver.avail->ring[NUM], f->driver.next_used, __ATOMIC_SEQ_CST);
    while (!ring_driver_reap(&f->driver, &elem))
        front_wait_readable(f->call);
    assert_int_equal(elem.id, 2 * slot);
    assert_int_equal(elem.len, 16);
    assert_memory_equal(ring_driver_at(&f->driver, DRIVER_BUFFERS + slot * 64u + 32), text, 16);
}

void front_round_trip(struct front *f, unsigned slot, const char *text)
{
    front_offer(f, slot, text);
    front_kick(f);
    front_reap(f, slot, text);
}

int front_get_inflight(struct front *f, struct vhost_user_msg *msg, uint32_t len)
{
    *msg = (struct vhost_user_msg){.request = VHOST_USER_GET_INFLIGHT_FD,
                                   .len = len,
                                   .payload.inflight = {.n_queues = QUEUES, .queue_size = NUM}};
    front_say_with(f, msg, NULL, 0);
    int fd = front_hear(f, VHOST_USER_GET_INFLIGHT_FD, msg);
    assert_int_equal(msg->len, len);
    return fd;
}
