/* Source of what is sent when: the vhost-user specification (docs/interop/vhost-user.rst of QEMU). */
#include "virtio/frontend.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "virtio/pci.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>

#define PROTOCOL_FEATURES                                                                  \
    (VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_REPLY_ACK | VHOST_USER_PROTOCOL_CONFIG | \
     VHOST_USER_PROTOCOL_BACKEND_REQ | VHOST_USER_PROTOCOL_INFLIGHT_SHMFD |                \
     VHOST_USER_PROTOCOL_RESET_DEVICE)

/* The rest of a request that has begun to come on the back-end's own channel is there at once, or the channel is closed:
 * nothing else may wait for it. */
#define CHANNEL_TIMEOUT_MS 100

#define CONFIG_HEAD offsetof(struct vhost_user_config, data)

static int time_left(const struct vhost_user_frontend *f)
{
    int64_t left = f->deadline_ms - clock_ms();
    return left > 0 ? (int)left : 0;
}

void frontend_begin(struct vhost_user_frontend *f, int timeout_ms)
{
    f->deadline_ms = clock_ms() + timeout_ms;
}

/** send_request() - @msg with its version, and NEED_REPLY if @ack. */
static int send_request(struct vhost_user_frontend *f, struct vhost_user_msg *msg, bool ack,
                        const int *fds, unsigned n_fds, struct error *err)
{
    if (f->fd < 0)
        return error_set(err, -ENOTCONN, "the back-end is not connected");
    msg->flags = VHOST_USER_FLAG_VERSION | (ack ? VHOST_USER_FLAG_NEED_REPLY : 0);
    int ret = vhost_user_send(f->fd, msg, fds, n_fds, time_left(f), err);
    /* Half of it may have gone. */
    return ret == -ETIMEDOUT ? error_set(err, -EPROTO, "the back-end takes no more messages") : ret;
}

/** await_answer() - until there is something to read, serving the back-end's own channel meanwhile. */
static int await_answer(struct vhost_user_frontend *f, struct error *err)
{
    for (;;) {
        struct pollfd fds[] = {
            {.fd = f->fd, .events = POLLIN},
            {.fd = f->backend_fd, .events = POLLIN},
        };
        int left = time_left(f);
        int n = poll(fds, ARRAY_SIZE(fds), left);
        if (n < 0 && errno != EINTR)
            return error_set_errno(err, -errno, "could not wait for the back-end");
        if (n > 0 && fds[0].revents)
            return 0;
        if (left == 0)
            return error_set(err, -ETIMEDOUT, "the back-end does not answer");
        if (n > 0 && fds[1].revents)
            frontend_backend_request(f, NULL);
    }
}

/** recv_message() - the next one, in the time that is left. */
static int recv_message(struct vhost_user_frontend *f, struct vhost_user_msg *msg,
                        struct vhost_user_fds *fds, struct error *err)
{
    int ret = await_answer(f, err);
    if (ret < 0)
        return ret;
    ret = vhost_user_recv(f->fd, msg, fds, time_left(f), err);
    if (ret == 0)
        return error_set(err, -ECONNRESET, "the back-end closed the connection");
    if (ret == -ETIMEDOUT)
        return error_set(err, -EPROTO, "the back-end answered by less than a message");
    return ret < 0 ? ret : 0;
}

int frontend_settle(struct vhost_user_frontend *f, struct error *err)
{
    if (!f->owed)
        return 0;
    struct vhost_user_msg msg;
    struct vhost_user_fds fds = {.n = 0};
    int ret = recv_message(f, &msg, &fds, err);
    vhost_user_fds_close(&fds);
    if (ret == 0)
        f->owed = false;
    return ret;
}

/** recv_reply() - to @request, into @msg; @fd: the descriptor that came along, NULL if there must be none. */
static int recv_reply(struct vhost_user_frontend *f, uint32_t request, struct vhost_user_msg *msg,
                      int *fd, struct error *err)
{
    struct vhost_user_fds fds = {.n = 0};
    int ret = recv_message(f, msg, &fds, err);
    if (ret == -ETIMEDOUT)
        f->owed = true;
    const uint32_t flags = VHOST_USER_FLAG_REPLY;
    if (ret == 0 && (msg->request != request || !(msg->flags & flags)))
        ret = error_set(err, -EPROTO, "the back-end answered by %s%s",
                        vhost_user_request_name(msg->request),
                        msg->flags & flags ? "" : ", which is no reply");
    if (ret == 0 && fd)
        *fd = vhost_user_fds_take(&fds);
    vhost_user_fds_close(&fds);
    return ret;
}

/** exchange() - send, and receive the answer. */
static int exchange(struct vhost_user_frontend *f, struct vhost_user_msg *msg, bool ack,
                    const int *fds, unsigned n_fds, int *fd, struct error *err)
{
    uint32_t request = msg->request;
    /* What is owed comes first; without it the answer to this one would be taken for the next. */
    int ret = frontend_settle(f, err);
    if (ret == 0)
        ret = send_request(f, msg, ack, fds, n_fds, err);
    if (ret == 0)
        ret = recv_reply(f, request, msg, fd, err);
    return ret < 0 ? error_context(err, "%s", vhost_user_request_name(request)) : 0;
}

/** tell() - a message without an answer of its own; with REPLY_ACK the back-end says whether it has done it. */
static int tell(struct vhost_user_frontend *f, struct vhost_user_msg *msg, const int *fds,
                unsigned n_fds, struct error *err)
{
    uint32_t request = msg->request;
    if (!(f->protocol_features & VHOST_USER_PROTOCOL_REPLY_ACK))
        return send_request(f, msg, false, fds, n_fds, err);
    int ret = exchange(f, msg, true, fds, n_fds, NULL, err);
    if (ret < 0)
        return ret;
    if (msg->len != sizeof(msg->payload.u64))
        return error_set(err, -EPROTO, "%s: an answer of %" PRIu32 " bytes, not 8",
                         vhost_user_request_name(request), msg->len);
    if (msg->payload.u64 != 0)
        return error_set(err, -EREMOTEIO, "%s: the back-end refused",
                         vhost_user_request_name(request));
    return 0;
}

/** query() - a message that has an answer, of @reply_len bytes; @fd: what must come along, or NULL. */
static int query(struct vhost_user_frontend *f, struct vhost_user_msg *msg, uint32_t reply_len,
                 int *fd, struct error *err)
{
    uint32_t request = msg->request;
    int ret = exchange(f, msg, false, NULL, 0, fd, err);
    if (ret == 0 && msg->len != reply_len)
        ret = error_set(err, -EPROTO, "%s: an answer of %" PRIu32 " bytes, not %" PRIu32,
                        vhost_user_request_name(request), msg->len, reply_len);
    return ret;
}

static int tell_u64(struct vhost_user_frontend *f, uint32_t request, uint64_t value, int fd,
                    struct error *err)
{
    struct vhost_user_msg msg = {.request = request, .len = sizeof(uint64_t), .payload.u64 = value};
    return tell(f, &msg, &fd, fd >= 0, err);
}

static int tell_state(struct vhost_user_frontend *f, uint32_t request, unsigned index, uint32_t num,
                      struct error *err)
{
    struct vhost_user_msg msg = {
        .request = request,
        .len = sizeof(struct vhost_user_vring_state),
        .payload.state = {.index = index, .num = num},
    };
    return tell(f, &msg, NULL, 0, err);
}

static int query_u64(struct vhost_user_frontend *f, uint32_t request, uint64_t *value,
                     struct error *err)
{
    struct vhost_user_msg msg = {.request = request};
    int ret = query(f, &msg, sizeof(uint64_t), NULL, err);
    if (ret == 0)
        *value = msg.payload.u64;
    return ret;
}

/** offer_channel() - a socket for what the back-end has to say unasked. */
static int offer_channel(struct vhost_user_frontend *f, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set_errno(err, -errno, "could not make a socket");
    _cleanup_close_ int theirs = pair[1];
    f->backend_fd = pair[0];
    struct vhost_user_msg msg = {.request = VHOST_USER_SET_BACKEND_REQ_FD};
    return tell(f, &msg, &theirs, 1, err);
}

static int negotiate(struct vhost_user_frontend *f, struct error *err)
{
    uint64_t protocol = 0;
    int ret = query_u64(f, VHOST_USER_GET_FEATURES, &f->features, err);
    if (ret < 0)
        return ret;
    if (!(f->features & VIRTIO_F_VERSION_1))
        return error_set(err, -ENOTSUP, "the back-end knows virtio before 1.0 only");
    if (!(f->features & VHOST_FEATURE_PROTOCOL_FEATURES))
        return error_set(err, -ENOTSUP, "the back-end has no protocol features");
    ret = query_u64(f, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol, err);
    if (ret < 0)
        return ret;
    protocol &= PROTOCOL_FEATURES;
    ret = tell_u64(f, VHOST_USER_SET_PROTOCOL_FEATURES, protocol, -1, err);
    f->protocol_features = protocol;
    f->n_queues = 1;
    if (ret == 0 && (protocol & VHOST_USER_PROTOCOL_MQ))
        ret = query_u64(f, VHOST_USER_GET_QUEUE_NUM, &f->n_queues, err);
    if (ret == 0) {
        struct vhost_user_msg msg = {.request = VHOST_USER_SET_OWNER};
        ret = tell(f, &msg, NULL, 0, err);
    }
    if (ret == 0 && (protocol & VHOST_USER_PROTOCOL_BACKEND_REQ))
        ret = offer_channel(f, err);
    return ret;
}

int frontend_open(struct vhost_user_frontend *f, int fd, int timeout_ms, struct error *err)
{
    *f = VHOST_USER_FRONTEND_INIT;
    f->fd = fd;
    frontend_begin(f, timeout_ms);
    int ret = negotiate(f, err);
    if (ret < 0)
        frontend_close(f);
    return ret;
}

void frontend_close(struct vhost_user_frontend *f)
{
    cleanup_close(&f->fd);
    cleanup_close(&f->backend_fd);
    *f = VHOST_USER_FRONTEND_INIT;
}

int frontend_get_config(struct vhost_user_frontend *f, uint32_t offset, void *data, uint32_t len,
                        struct error *err)
{
    if (len > VHOST_USER_CONFIG_MAX)
        return error_set(err, -EINVAL, "a configuration of %" PRIu32 " bytes", len);
    struct vhost_user_msg msg = {
        .request = VHOST_USER_GET_CONFIG,
        .len = (uint32_t)CONFIG_HEAD + len,
        .payload.config = {.offset = offset, .len = len},
    };
    int ret = query(f, &msg, (uint32_t)CONFIG_HEAD + len, NULL, err);
    if (ret < 0)
        return ret;
    /* A back-end that cannot says so by an empty answer (the length above), or by another size in it. */
    if (msg.payload.config.offset != offset || msg.payload.config.len != len)
        return error_set(err, -EPROTO,
                         "GET_CONFIG: answered by %" PRIu32 " bytes at %" PRIu32 ", not %" PRIu32
                         " at %" PRIu32,
                         msg.payload.config.len, msg.payload.config.offset, len, offset);
    memcpy(data, msg.payload.config.data, len);
    return 0;
}

int frontend_set_config(struct vhost_user_frontend *f, uint32_t offset, const void *data,
                        uint32_t len, struct error *err)
{
    if (len > VHOST_USER_CONFIG_MAX)
        return error_set(err, -EINVAL, "a configuration of %" PRIu32 " bytes", len);
    struct vhost_user_msg msg = {
        .request = VHOST_USER_SET_CONFIG,
        .len = (uint32_t)CONFIG_HEAD + len,
        .payload.config = {.offset = offset, .len = len},
    };
    memcpy(msg.payload.config.data, data, len);
    return tell(f, &msg, NULL, 0, err);
}

int frontend_set_features(struct vhost_user_frontend *f, uint64_t features, struct error *err)
{
    return tell_u64(f, VHOST_USER_SET_FEATURES, features | VHOST_FEATURE_PROTOCOL_FEATURES, -1,
                    err);
}

int frontend_set_memory(struct vhost_user_frontend *f, const struct guest_memory *memory,
                        struct error *err)
{
    struct vhost_user_msg msg = {.request = VHOST_USER_SET_MEM_TABLE};
    struct vhost_user_mem_table *table = &msg.payload.table;
    int fds[VHOST_USER_MEM_REGIONS_MAX];
    for (unsigned i = 0; i < memory->n_regions; i++) {
        const struct memory_region *region = &memory->regions[i];
        table->regions[i] = (struct vhost_user_region){
            .gpa = region->gpa,
            .len = region->len,
            .user_addr = (uint64_t)(uintptr_t)(memory->base + region->offset),
            .offset = region->offset,
        };
        fds[i] = memory->fd;
    }
    table->n_regions = memory->n_regions;
    msg.len = (uint32_t)(offsetof(struct vhost_user_mem_table, regions) +
                         memory->n_regions * sizeof(table->regions[0]));
    return tell(f, &msg, fds, memory->n_regions, err);
}

int frontend_get_inflight(struct vhost_user_frontend *f, struct vhost_user_inflight *where,
                          struct error *err)
{
    if (!(f->protocol_features & VHOST_USER_PROTOCOL_INFLIGHT_SHMFD))
        return error_set(err, -ENOTSUP, "the back-end keeps no in-flight region");
    struct vhost_user_msg msg = {
        .request = VHOST_USER_GET_INFLIGHT_FD,
        .len = sizeof(*where),
        .payload.inflight = {.n_queues = where->n_queues, .queue_size = where->queue_size},
    };
    int fd = -1;
    int ret = query(f, &msg, sizeof(*where), &fd, err);
    if (ret == 0 && fd < 0)
        ret = error_set(err, -EPROTO, "GET_INFLIGHT_FD: no descriptor came along, or several");
    if (ret < 0) {
        cleanup_close(&fd);
        return ret;
    }
    *where = msg.payload.inflight;
    return fd;
}

int frontend_set_inflight(struct vhost_user_frontend *f, const struct vhost_user_inflight *where,
                          int fd, struct error *err)
{
    struct vhost_user_msg msg = {
        .request = VHOST_USER_SET_INFLIGHT_FD,
        .len = sizeof(*where),
        .payload.inflight = *where,
    };
    return tell(f, &msg, &fd, 1, err);
}

int frontend_start_queue(struct vhost_user_frontend *f, const struct vhost_user_queue *queue,
                         struct error *err)
{
    struct vhost_user_msg addresses = {
        .request = VHOST_USER_SET_VRING_ADDR,
        .len = sizeof(struct vhost_user_vring_addr),
        .payload.addr = {.index = queue->index,
                         .desc = queue->desc,
                         .avail = queue->driver,
                         .used = queue->used},
    };
    int ret = tell_state(f, VHOST_USER_SET_VRING_NUM, queue->index, queue->size, err);
    if (ret == 0)
        ret = tell_state(f, VHOST_USER_SET_VRING_BASE, queue->index, queue->base, err);
    if (ret == 0)
        ret = tell(f, &addresses, NULL, 0, err);
    if (ret == 0)
        ret = tell_u64(f, VHOST_USER_SET_VRING_CALL, queue->index, queue->call_fd, err);
    if (ret == 0)
        ret = tell_u64(f, VHOST_USER_SET_VRING_ERR, queue->index, queue->err_fd, err);
    if (ret == 0)
        ret = tell_u64(f, VHOST_USER_SET_VRING_KICK, queue->index, queue->kick_fd, err);
    if (ret == 0)
        ret = tell_state(f, VHOST_USER_SET_VRING_ENABLE, queue->index, !queue->off, err);
    return ret < 0 ? error_context(err, "queue %u", queue->index) : 0;
}

int frontend_enable_queue(struct vhost_user_frontend *f, unsigned index, bool enable,
                          struct error *err)
{
    int ret = tell_state(f, VHOST_USER_SET_VRING_ENABLE, index, enable, err);
    return ret < 0 ? error_context(err, "queue %u", index) : 0;
}

int frontend_stop_queue(struct vhost_user_frontend *f, unsigned index, struct error *err)
{
    struct vhost_user_msg msg = {
        .request = VHOST_USER_GET_VRING_BASE,
        .len = sizeof(struct vhost_user_vring_state),
        .payload.state = {.index = index},
    };
    int ret = query(f, &msg, sizeof(struct vhost_user_vring_state), NULL, err);
    if (ret == 0 && msg.payload.state.index != index)
        ret = error_set(err, -EPROTO, "GET_VRING_BASE: answered for queue %" PRIu32,
                        msg.payload.state.index);
    return ret < 0 ? error_context(err, "queue %u", index) : 0;
}

int frontend_reset(struct vhost_user_frontend *f, struct error *err)
{
    struct vhost_user_msg msg = {.request = VHOST_USER_RESET_DEVICE};
    if (!(f->protocol_features & VHOST_USER_PROTOCOL_RESET_DEVICE))
        return 0;
    return tell(f, &msg, NULL, 0, err);
}

/** answer_request() - take one request from the channel, and acknowledge it if it wants that. 1, 0 at the end, -errno. */
static int answer_request(struct vhost_user_frontend *f, struct error *err)
{
    struct vhost_user_msg msg;
    struct vhost_user_fds fds = {.n = 0};
    int ret = vhost_user_recv(f->backend_fd, &msg, &fds, CHANNEL_TIMEOUT_MS, err);
    vhost_user_fds_close(&fds); /* no request that husk understands has any */
    if (ret <= 0)
        return ret;
    bool known = msg.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG;
    if (known)
        f->config_changed = true;
    if (!(msg.flags & VHOST_USER_FLAG_NEED_REPLY))
        return 1;
    struct vhost_user_msg reply = {
        .request = msg.request,
        .flags = VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY,
        .len = sizeof(uint64_t),
        .payload.u64 = !known,
    };
    ret = vhost_user_send(f->backend_fd, &reply, NULL, 0, CHANNEL_TIMEOUT_MS, err);
    return ret < 0 ? ret : 1;
}

int frontend_backend_request(struct vhost_user_frontend *f, struct error *err)
{
    int ret = answer_request(f, err);
    if (ret > 0)
        return 0;
    cleanup_close(&f->backend_fd);
    f->backend_fd = -1;
    return ret == 0 ? error_set(err, -ECONNRESET, "the back-end closed its channel") : ret;
}
