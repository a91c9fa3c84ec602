/*
 * The requests of a vhost-user front-end, one function each. A table says what each message may look like, so that a
 * handler sees only the right length and number of descriptors.
 *
 * A request that fails is answered if the front-end wants an answer to it; otherwise the connection ends, because the
 * front-end would go on as if it had succeeded.
 */
#include "backends/server_internal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PROTOCOL_FEATURES                                                                     \
    (VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_LOG_SHMFD | VHOST_USER_PROTOCOL_REPLY_ACK | \
     VHOST_USER_PROTOCOL_CONFIG | VHOST_USER_PROTOCOL_RESET_DEVICE |                          \
     VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_BACKEND_REQ)

#define CONFIG_HEADER_BYTES offsetof(struct vhost_user_config, data)
#define MEM_TABLE_HEADER_BYTES offsetof(struct vhost_user_mem_table, regions)

static uint64_t offered_features(const struct vu_server *server)
{
    return server->backend->features | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_INDIRECT_DESC |
           VIRTIO_F_RING_EVENT_IDX | VHOST_FEATURE_LOG_ALL | VHOST_FEATURE_PROTOCOL_FEATURES;
}

static uint64_t protocol_features(const struct vu_server *server)
{
    return PROTOCOL_FEATURES |
           (server->backend->in_order ? 0 : (uint64_t)VHOST_USER_PROTOCOL_INFLIGHT_SHMFD);
}

static int answer_u64(struct vhost_user_msg *msg, uint64_t value)
{
    msg->len = sizeof(msg->payload.u64);
    msg->payload.u64 = value;
    return 0;
}

/** find_ring() - NULL with @err filled if the back-end has no queue @index. */
static struct ring *find_ring(struct vu_server *server, uint64_t index, struct error *err)
{
    if (index < server->n_rings)
        return &server->rings[index];
    error_set(err, -EINVAL, "there is no queue %llu, only %u", (unsigned long long)index,
              server->n_rings);
    return NULL;
}

/* --- Features. --- */

static int get_features(struct vu_server *server, struct vhost_user_msg *msg,
                        struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    (void)err;
    return answer_u64(msg, offered_features(server));
}

static int set_features(struct vu_server *server, struct vhost_user_msg *msg,
                        struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    uint64_t unknown = msg->payload.u64 & ~offered_features(server);
    if (unknown)
        return error_set(err, -EINVAL, "features %#llx were not offered",
                         (unsigned long long)unknown);
    rings_pause(server);
    server->features = msg->payload.u64;
    if (!(server->features & VHOST_FEATURE_PROTOCOL_FEATURES))
        for (unsigned i = 0; i < server->n_rings; i++)
            server->rings[i].enabled = true;
    return rings_resume(server, err);
}

static int get_protocol_features(struct vu_server *server, struct vhost_user_msg *msg,
                                 struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    (void)err;
    return answer_u64(msg, protocol_features(server));
}

static int set_protocol_features(struct vu_server *server, struct vhost_user_msg *msg,
                                 struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    uint64_t unknown = msg->payload.u64 & ~protocol_features(server);
    if (unknown)
        return error_set(err, -EINVAL, "protocol features %#llx were not offered",
                         (unsigned long long)unknown);
    server->protocol = msg->payload.u64;
    return 0;
}

static int get_queue_num(struct vu_server *server, struct vhost_user_msg *msg,
                         struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    (void)err;
    return answer_u64(msg, server->n_rings);
}

/** set_owner() - a connection has one owner here, the one that made it. */
static int set_owner(struct vu_server *server, struct vhost_user_msg *msg,
                     struct vhost_user_fds *fds, struct error *err)
{
    (void)server;
    (void)msg;
    (void)fds;
    (void)err;
    return 0;
}

/** reset_device() - RESET_DEVICE, and RESET_OWNER, which is to do no more than to disable all rings. */
static int reset_device(struct vu_server *server, struct vhost_user_msg *msg,
                        struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    (void)err;
    rings_pause(server);
    if (msg->request == VHOST_USER_RESET_DEVICE)
        rings_stopped(server);
    for (unsigned i = 0; i < server->n_rings; i++) {
        struct ring *ring = &server->rings[i];
        ring->enabled = false;
        if (msg->request == VHOST_USER_RESET_OWNER)
            continue;
        ring->started = false;
        vring_reset(&ring->queue);
    }
    return 0;
}

/** set_backend_req_fd() - the channel for what this end has to say. */
static int set_backend_req_fd(struct vu_server *server, struct vhost_user_msg *msg,
                              struct vhost_user_fds *fds, struct error *err)
{
    (void)msg;
    if (fds->n != 1)
        return error_set(err, -EPROTO, "%u descriptors came for the back-end's channel", fds->n);
    rings_pause(server);
    if (server->backend_fd >= 0)
        close(server->backend_fd);
    server->backend_fd = vhost_user_fds_take(fds);
    return rings_resume(server, err);
}

/* --- Guest memory. --- */

static int set_mem_table(struct vu_server *server, struct vhost_user_msg *msg,
                         struct vhost_user_fds *fds, struct error *err)
{
    const struct vhost_user_mem_table *table = &msg->payload.table;
    if (msg->len < MEM_TABLE_HEADER_BYTES || table->n_regions > VHOST_USER_MEM_REGIONS_MAX ||
        msg->len != MEM_TABLE_HEADER_BYTES + table->n_regions * sizeof(table->regions[0]))
        return error_set(err, -EPROTO, "%u bytes cannot hold %u memory regions", msg->len,
                         table->n_regions);
    if (fds->n != table->n_regions)
        return error_set(err, -EPROTO, "%u descriptors came for %u memory regions", fds->n,
                         table->n_regions);
    struct guest_map map = {.warned = server->map.warned};
    for (unsigned i = 0; i < table->n_regions; i++) {
        int ret = guest_map_add(&map, &table->regions[i], fds->fd[i], err);
        if (ret < 0) {
            guest_map_clear(&map);
            return ret;
        }
    }
    rings_pause(server);
    guest_map_clear(&server->map);
    server->map = map;
    return rings_resume(server, err);
}

static int get_max_mem_slots(struct vu_server *server, struct vhost_user_msg *msg,
                             struct vhost_user_fds *fds, struct error *err)
{
    (void)server;
    (void)fds;
    (void)err;
    return answer_u64(msg, GUEST_MAP_SLOTS);
}

static int add_mem_reg(struct vu_server *server, struct vhost_user_msg *msg,
                       struct vhost_user_fds *fds, struct error *err)
{
    if (fds->n != 1)
        return error_set(err, -EPROTO, "%u descriptors came for a memory region", fds->n);
    rings_pause(server);
    int ret = guest_map_add(&server->map, &msg->payload.mem_reg.region, fds->fd[0], err);
    int resumed = rings_resume(server, ret < 0 ? NULL : err);
    return ret < 0 ? ret : resumed;
}

static int rem_mem_reg(struct vu_server *server, struct vhost_user_msg *msg,
                       struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    rings_pause(server);
    int ret = guest_map_remove(&server->map, &msg->payload.mem_reg.region, err);
    int resumed = rings_resume(server, ret < 0 ? NULL : err);
    return ret < 0 ? ret : resumed;
}

static int set_log_base(struct vu_server *server, struct vhost_user_msg *msg,
                        struct vhost_user_fds *fds, struct error *err)
{
    if (fds->n != 1)
        return error_set(err, -EPROTO, "%u descriptors came for the dirty log", fds->n);
    struct dirty_log log = {0};
    int ret = dirty_log_map(&log, &msg->payload.log, fds->fd[0], err);
    if (ret < 0)
        return ret;
    rings_pause(server);
    dirty_log_unmap(&server->log);
    server->log = log;
    /* Always answered: the next thing a front-end does is to rely on it. */
    answer_u64(msg, 0);
    return rings_resume(server, err);
}

static int set_log_fd(struct vu_server *server, struct vhost_user_msg *msg,
                      struct vhost_user_fds *fds, struct error *err)
{
    (void)msg;
    if (fds->n != 1)
        return error_set(err, -EPROTO, "%u descriptors came for the log's event", fds->n);
    int ret = fd_set_nonblock(fds->fd[0]);
    if (ret < 0)
        return error_set_errno(err, ret, "the log's event");
    rings_pause(server);
    if (server->log_fd >= 0)
        close(server->log_fd);
    server->log_fd = vhost_user_fds_take(fds);
    return rings_resume(server, err);
}

/* --- Rings. --- */

static int set_vring_num(struct vu_server *server, struct vhost_user_msg *msg,
                         struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    uint32_t num = msg->payload.state.num;
    struct ring *ring = find_ring(server, msg->payload.state.index, err);
    if (!ring)
        return -EINVAL;
    if (num == 0 || num > ring->queue.num_max || (num & (num - 1)))
        return error_set(err, -EINVAL, "a queue cannot have %u descriptors; %u are the most", num,
                         ring->queue.num_max);
    ring_pause(server, ring);
    ring->queue.num = (uint16_t)num;
    ring->fresh = true;
    return rings_resume(server, err);
}

static int set_vring_addr(struct vu_server *server, struct vhost_user_msg *msg,
                          struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    const struct vhost_user_vring_addr *addr = &msg->payload.addr;
    struct ring *ring = find_ring(server, addr->index, err);
    if (!ring)
        return -EINVAL;
    if (addr->flags & ~VHOST_USER_VRING_LOG)
        return error_set(err, -EINVAL, "vring addresses with flags %#x", addr->flags);
    ring_pause(server, ring);
    ring->queue.addr = *addr;
    ring->queue.addr_set = true;
    return rings_resume(server, err);
}

static int set_vring_base(struct vu_server *server, struct vhost_user_msg *msg,
                          struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    struct ring *ring = find_ring(server, msg->payload.state.index, err);
    if (!ring)
        return -EINVAL;
    if (msg->payload.state.num > UINT16_MAX)
        return error_set(err, -EINVAL, "a split virtqueue cannot begin at %#x",
                         msg->payload.state.num);
    ring_pause(server, ring);
    ring->queue.last_avail = (uint16_t)msg->payload.state.num;
    ring->fresh = true;
    return rings_resume(server, err);
}

static int get_vring_base(struct vu_server *server, struct vhost_user_msg *msg,
                          struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    struct ring *ring = find_ring(server, msg->payload.state.index, err);
    if (!ring)
        return -EINVAL;
    ring_pause(server, ring);
    ring->started = false;
    msg->payload.state.num = ring->queue.last_avail;
    rings_stopped(server);
    /* A thread for all rings goes on with the others. */
    return server->backend->ops->run_all ? rings_resume(server, err) : 0;
}

static int set_vring_enable(struct vu_server *server, struct vhost_user_msg *msg,
                            struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    struct ring *ring = find_ring(server, msg->payload.state.index, err);
    if (!ring)
        return -EINVAL;
    if (msg->payload.state.num > 1)
        return error_set(err, -EINVAL, "a queue is enabled with 1 or disabled with 0, not with %u",
                         msg->payload.state.num);
    ring->enabled = msg->payload.state.num;
    if (!ring->enabled)
        ring_pause(server, ring);
    return rings_resume(server, err);
}

/**
 * replace_event() - kick, call or err of a ring: @fds[0], or none. An event that is written takes another's place while
 * the queue runs, for some front-ends change them whenever a vector is masked; all else wants the queue to rest.
 */
static int replace_event(struct vu_server *server, struct ring *ring, int *event,
                         struct vhost_user_fds *fds, struct error *err)
{
    int ret = fds->n ? fd_set_nonblock(fds->fd[0]) : 0;
    if (ret < 0)
        return error_set_errno(err, ret, "a queue's event");
    if (fds->n && *event >= 0 && event != &ring->queue.kick_fd)
        return dup3(fds->fd[0], *event, O_CLOEXEC) < 0
                   ? error_set_errno(err, -errno, "a queue's event")
                   : 0;
    ring_pause(server, ring);
    if (*event >= 0)
        close(*event);
    *event = vhost_user_fds_take(fds);
    return 0;
}

static int set_vring_event(struct vu_server *server, struct vhost_user_msg *msg,
                           struct vhost_user_fds *fds, struct error *err)
{
    uint64_t value = msg->payload.u64;
    if (value & ~(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NO_FD))
        return error_set(err, -EINVAL, "a queue's event with %#llx", (unsigned long long)value);
    struct ring *ring = find_ring(server, value & VHOST_USER_VRING_INDEX_MASK, err);
    if (!ring)
        return -EINVAL;
    if (fds->n != (value & VHOST_USER_VRING_NO_FD ? 0 : 1))
        return error_set(err, -EPROTO, "%u descriptors came for a queue's event", fds->n);
    struct vu_queue *queue = &ring->queue;
    int ret = replace_event(server, ring,
                            msg->request == VHOST_USER_SET_VRING_KICK   ? &queue->kick_fd
                            : msg->request == VHOST_USER_SET_VRING_CALL ? &queue->call_fd
                                                                        : &queue->err_fd,
                            fds, err);
    if (ret < 0)
        return ret;
    if (msg->request == VHOST_USER_SET_VRING_KICK && !ring->started)
        ring->started = ring->fresh = true;
    return rings_resume(server, err);
}

/* --- Configuration space. --- */

static int check_config(const struct vhost_user_msg *msg, struct error *err)
{
    const struct vhost_user_config *config = &msg->payload.config;
    if (msg->len < CONFIG_HEADER_BYTES || config->len != msg->len - CONFIG_HEADER_BYTES ||
        !range_within(config->offset, config->len, VHOST_USER_CONFIG_MAX))
        return error_set(err, -EPROTO, "%u bytes at %u of the configuration, in %u bytes",
                         config->len, config->offset, msg->len);
    return 0;
}

/** get_config() - a front-end may know of fields that this device does not: they read as zero. */
static int get_config(struct vu_server *server, struct vhost_user_msg *msg,
                      struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    const struct vu_backend *backend = server->backend;
    struct vhost_user_config *config = &msg->payload.config;
    int ret = check_config(msg, err);
    if (ret < 0)
        return ret;
    uint32_t len = config->offset < backend->config_len
                       ? MIN(config->len, backend->config_len - config->offset)
                       : 0;
    memset(config->data, 0, config->len);
    if (len && backend->ops->config_read)
        ret = backend->ops->config_read(backend->device, config->offset, config->data, len);
    if (ret < 0) {
        log_warn("%s: the configuration cannot be read: %s", backend->name, strerror(-ret));
        msg->len = 0; /* says so */
    }
    return 0;
}

static int set_config(struct vu_server *server, struct vhost_user_msg *msg,
                      struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    const struct vu_backend *backend = server->backend;
    const struct vhost_user_config *config = &msg->payload.config;
    int ret = check_config(msg, err);
    if (ret < 0)
        return ret;
    if (!range_within(config->offset, config->len, backend->config_len))
        return error_set(err, -EINVAL, "%u bytes at %u are not in the configuration of %u",
                         config->len, config->offset, backend->config_len);
    if (!backend->ops->config_write)
        return error_set(err, -EPERM, "the configuration cannot be written");
    ret = backend->ops->config_write(backend->device, config->offset, config->data, config->len);
    return ret < 0 ? error_set_errno(err, ret, "writing %u bytes at %u of the configuration",
                                     config->len, config->offset)
                   : 0;
}

/* --- In-flight region. --- */

/** check_inflight() - some front-ends send the padding behind the structure, some do not. */
static int check_inflight(const struct vhost_user_msg *msg, struct error *err)
{
    const size_t packed =
        offsetof(struct vhost_user_inflight, queue_size) + sizeof(msg->payload.inflight.queue_size);
    if (msg->len != packed && msg->len != sizeof(msg->payload.inflight))
        return error_set(err, -EPROTO, "an in-flight region described in %u bytes", msg->len);
    return 0;
}

static int get_inflight_fd(struct vu_server *server, struct vhost_user_msg *msg,
                           struct vhost_user_fds *fds, struct error *err)
{
    (void)fds;
    int ret = check_inflight(msg, err);
    if (ret < 0)
        return ret;
    server->reply_fd = inflight_create(&msg->payload.inflight, err);
    if (server->reply_fd < 0) {
        log_warn("%s: %s", server->backend->name, err->message);
        msg->payload.inflight.mmap_size = 0; /* says that there is none */
    }
    return 0;
}

static int set_inflight_fd(struct vu_server *server, struct vhost_user_msg *msg,
                           struct vhost_user_fds *fds, struct error *err)
{
    if (fds->n != 1)
        return error_set(err, -EPROTO, "%u descriptors came for the in-flight region", fds->n);
    for (unsigned i = 0; i < server->n_rings; i++)
        if (server->rings[i].started)
            return error_set(err, -EBUSY, "the in-flight region comes while queue %u is started",
                             i);
    struct inflight region = {0};
    int ret = check_inflight(msg, err);
    if (ret == 0)
        ret = inflight_map(&region, &msg->payload.inflight, fds->fd[0], err);
    if (ret < 0)
        return ret;
    inflight_unmap(&server->inflight);
    server->inflight = region;
    return 0;
}

/* --- What a message may look like, and what comes back. --- */

#define ANY_LENGTH UINT32_MAX

static const struct handler {
    /** handle() - @msg becomes the reply if there is one; descriptors left in @fds are closed. */
    int (*handle)(struct vu_server *server, struct vhost_user_msg *msg, struct vhost_user_fds *fds,
                  struct error *err);
    uint32_t len;      /* of the payload; ANY_LENGTH if the handler checks it */
    unsigned fds;      /* at most; the handler checks that there are enough */
    bool replies;      /* with a payload of its own */
    uint64_t protocol; /* feature it belongs to */
} handlers[] = {
    [VHOST_USER_GET_FEATURES] = {get_features, 0, 0, true, 0},
    [VHOST_USER_SET_FEATURES] = {set_features, 8, 0, false, 0},
    [VHOST_USER_SET_OWNER] = {set_owner, 0, 0, false, 0},
    [VHOST_USER_RESET_OWNER] = {reset_device, 0, 0, false, 0},
    [VHOST_USER_SET_MEM_TABLE] = {set_mem_table, ANY_LENGTH, VHOST_USER_MEM_REGIONS_MAX, false, 0},
    [VHOST_USER_SET_LOG_BASE] = {set_log_base, sizeof(struct vhost_user_log), 1, true,
                                 VHOST_USER_PROTOCOL_LOG_SHMFD},
    [VHOST_USER_SET_LOG_FD] = {set_log_fd, ANY_LENGTH, 1, false, 0},
    [VHOST_USER_SET_VRING_NUM] = {set_vring_num, sizeof(struct vhost_user_vring_state), 0, false,
                                  0},
    [VHOST_USER_SET_VRING_ADDR] = {set_vring_addr, sizeof(struct vhost_user_vring_addr), 0, false,
                                   0},
    [VHOST_USER_SET_VRING_BASE] = {set_vring_base, sizeof(struct vhost_user_vring_state), 0, false,
                                   0},
    [VHOST_USER_GET_VRING_BASE] = {get_vring_base, sizeof(struct vhost_user_vring_state), 0, true,
                                   0},
    [VHOST_USER_SET_VRING_KICK] = {set_vring_event, 8, 1, false, 0},
    [VHOST_USER_SET_VRING_CALL] = {set_vring_event, 8, 1, false, 0},
    [VHOST_USER_SET_VRING_ERR] = {set_vring_event, 8, 1, false, 0},
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {get_protocol_features, 0, 0, true, 0},
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {set_protocol_features, 8, 0, false, 0},
    [VHOST_USER_GET_QUEUE_NUM] = {get_queue_num, 0, 0, true, 0},
    [VHOST_USER_SET_VRING_ENABLE] = {set_vring_enable, sizeof(struct vhost_user_vring_state), 0,
                                     false, 0},
    [VHOST_USER_SET_BACKEND_REQ_FD] = {set_backend_req_fd, ANY_LENGTH, 1, false,
                                       VHOST_USER_PROTOCOL_BACKEND_REQ},
    [VHOST_USER_GET_CONFIG] = {get_config, ANY_LENGTH, 0, true, VHOST_USER_PROTOCOL_CONFIG},
    [VHOST_USER_SET_CONFIG] = {set_config, ANY_LENGTH, 0, false, VHOST_USER_PROTOCOL_CONFIG},
    [VHOST_USER_GET_INFLIGHT_FD] = {get_inflight_fd, ANY_LENGTH, 0, true,
                                    VHOST_USER_PROTOCOL_INFLIGHT_SHMFD},
    [VHOST_USER_SET_INFLIGHT_FD] = {set_inflight_fd, ANY_LENGTH, 1, false,
                                    VHOST_USER_PROTOCOL_INFLIGHT_SHMFD},
    [VHOST_USER_RESET_DEVICE] = {reset_device, 0, 0, false, VHOST_USER_PROTOCOL_RESET_DEVICE},
    [VHOST_USER_GET_MAX_MEM_SLOTS] = {get_max_mem_slots, 0, 0, true,
                                      VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS},
    [VHOST_USER_ADD_MEM_REG] = {add_mem_reg, sizeof(struct vhost_user_mem_reg), 1, false,
                                VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS},
    [VHOST_USER_REM_MEM_REG] = {rem_mem_reg, sizeof(struct vhost_user_mem_reg), 1, false,
                                VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS},
};

/** find_handler() - NULL with @err filled if the message is none that may come. */
static const struct handler *find_handler(const struct vu_server *server,
                                          const struct vhost_user_msg *msg,
                                          const struct vhost_user_fds *fds, struct error *err)
{
    const struct handler *handler =
        msg->request < ARRAY_SIZE(handlers) ? &handlers[msg->request] : NULL;
    if (!handler || !handler->handle)
        error_set(err, -EOPNOTSUPP, "the back-end does not know request %u", msg->request);
    else if (msg->flags & VHOST_USER_FLAG_REPLY)
        error_set(err, -EPROTO, "a reply came that nobody asked for");
    else if (handler->protocol & ~server->protocol)
        error_set(err, -EPROTO, "its protocol feature was not agreed upon");
    else if (handler->len != ANY_LENGTH && msg->len != handler->len)
        error_set(err, -EPROTO, "%u bytes came instead of %u", msg->len, handler->len);
    else if (fds->n > handler->fds)
        error_set(err, -EPROTO, "%u descriptors came, at most %u belong to it", fds->n,
                  handler->fds);
    else
        return handler;
    return NULL;
}

static int reply(struct vu_server *server, struct vhost_user_msg *msg, struct error *err)
{
    msg->flags = VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY;
    int ret = vhost_user_send(server->fd, msg, &server->reply_fd, server->reply_fd >= 0 ? 1 : 0,
                              SERVER_TIMEOUT_MS, err);
    if (server->reply_fd >= 0)
        close(server->reply_fd);
    server->reply_fd = -1;
    return ret;
}

int message_handle(struct vu_server *server, struct vhost_user_msg *msg, struct vhost_user_fds *fds,
                   struct error *err)
{
    const char *name = vhost_user_request_name(msg->request);
    bool wants_answer =
        msg->flags & VHOST_USER_FLAG_NEED_REPLY && server->protocol & VHOST_USER_PROTOCOL_REPLY_ACK;
    struct error why = ERROR_INIT;
    const struct handler *handler = find_handler(server, msg, fds, &why);
    bool replies = handler && handler->replies;
    int ret = handler ? handler->handle(server, msg, fds, &why) : why.code;
    vhost_user_fds_close(fds);
    log_debug("%s: %s: %s", server->backend->name, name, ret < 0 ? why.message : "done");
    if (ret == 0 && replies)
        return reply(server, msg, err);
    if (ret < 0 && (!wants_answer || replies))
        return error_set(err, ret, "%s: %s", name, why.message);
    if (!wants_answer)
        return 0;
    if (ret < 0)
        log_warn("%s: %s is refused: %s", server->backend->name, name, why.message);
    answer_u64(msg, ret < 0);
    return reply(server, msg, err);
}
