#include "scripted_backend.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ALL_FEATURES                                                                          \
    ((1ull << 9) | (1ull << 12) | (1ull << 28) | (1ull << 29) | (1ull << 32) | (1ull << 33) | \
     VHOST_FEATURE_PROTOCOL_FEATURES | VHOST_FEATURE_LOG_ALL)
#define ALL_PROTOCOL                                                                       \
    (VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_REPLY_ACK | VHOST_USER_PROTOCOL_CONFIG | \
     VHOST_USER_PROTOCOL_BACKEND_REQ | VHOST_USER_PROTOCOL_INFLIGHT_SHMFD |                \
     VHOST_USER_PROTOCOL_RESET_DEVICE)

/** fill_reply() - the answer to @msg into it; @fd: what comes along. Returns false if it has none of its own. */
static bool fill_reply(struct scripted_backend *b, struct vhost_user_msg *msg, int *fd)
{
    switch (msg->request) {
    case VHOST_USER_GET_FEATURES:
        msg->payload.u64 = b->features ? b->features : ALL_FEATURES;
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        msg->payload.u64 = b->protocol ? b->protocol : ALL_PROTOCOL;
        break;
    case VHOST_USER_GET_QUEUE_NUM:
        msg->payload.u64 = b->n_queues ? b->n_queues : SCRIPTED_QUEUES;
        break;
    case VHOST_USER_GET_CONFIG: {
        uint64_t capacity = b->capacity ? b->capacity : 2048;
        memset(msg->payload.config.data, 0, VHOST_USER_CONFIG_MAX);
        memcpy(msg->payload.config.data, &capacity, sizeof(capacity));
        return true; /* as long as it was asked for */
    }
    case VHOST_USER_GET_INFLIGHT_FD:
        *fd = memfd_create("in-flight", MFD_CLOEXEC);
        msg->payload.inflight.mmap_size = 4096;
        return true;
    case VHOST_USER_GET_VRING_BASE:
        b->queues[msg->payload.state.index % SCRIPTED_QUEUES].stopped = true;
        return true;
    default:
        return false;
    }
    msg->len = sizeof(uint64_t);
    return true;
}

/** note() - what @msg says, and its descriptors. */
static void note(struct scripted_backend *b, const struct vhost_user_msg *msg,
                 struct vhost_user_fds *fds)
{
    struct scripted_queue *queue = &b->queues[msg->payload.state.index % SCRIPTED_QUEUES];
    if (b->n_seen < SCRIPTED_SEEN_MAX)
        b->seen[b->n_seen++] = msg->request;
    switch (msg->request) {
    case VHOST_USER_SET_FEATURES:
        b->acked_features = msg->payload.u64;
        break;
    case VHOST_USER_SET_MEM_TABLE:
        b->table = msg->payload.table;
        b->n_table_fds = fds->n;
        break;
    case VHOST_USER_SET_VRING_NUM:
        queue->size = msg->payload.state.num;
        break;
    case VHOST_USER_SET_VRING_BASE:
        queue->base = msg->payload.state.num;
        break;
    case VHOST_USER_SET_VRING_ENABLE:
        queue->enabled = msg->payload.state.num;
        break;
    case VHOST_USER_SET_VRING_CALL:
        queue->has_call = fds->n == 1;
        break;
    case VHOST_USER_SET_VRING_KICK:
        queue->has_kick = fds->n == 1;
        cleanup_close(&queue->kick_fd);
        queue->kick_fd = vhost_user_fds_take(fds);
        break;
    case VHOST_USER_SET_VRING_ERR:
        cleanup_close(&queue->err_fd);
        queue->err_fd = vhost_user_fds_take(fds);
        break;
    case VHOST_USER_SET_INFLIGHT_FD:
        b->inflight = msg->payload.inflight;
        cleanup_close(&b->inflight_fd);
        b->inflight_fd = vhost_user_fds_take(fds);
        break;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        b->channel_fd = vhost_user_fds_take(fds);
        break;
    default:
        break;
    }
    vhost_user_fds_close(fds);
    pthread_cond_broadcast(&b->changed);
}

static void ask_on_channel(struct scripted_backend *b, bool wait)
{
    struct vhost_user_msg msg = {
        .request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
        .flags = VHOST_USER_FLAG_VERSION | (wait ? VHOST_USER_FLAG_NEED_REPLY : 0),
    };
    struct vhost_user_fds fds;
    if (vhost_user_send(b->channel_fd, &msg, NULL, 0, 1000, NULL) == 0 && wait &&
        vhost_user_recv(b->channel_fd, &msg, &fds, 5000, NULL) > 0)
        vhost_user_fds_close(&fds);
}

static void wait_for_release(struct scripted_backend *b)
{
    pthread_mutex_lock(&b->lock);
    while (!b->released && !b->closed)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

/** spoil() - do the fault before or to the answer; returns false if there is to be no answer. */
static bool spoil(struct scripted_backend *b, struct vhost_user_msg *msg)
{
    static const uint8_t half[6] = {1, 0, 0, 0, 1, 0};
    switch (b->fault) {
    case FAULT_SILENT:
        return false;
    case FAULT_LATE:
        wait_for_release(b);
        return true;
    case FAULT_CLOSE:
        shutdown(b->fd, SHUT_RDWR);
        return false;
    case FAULT_OTHER_REQUEST:
        msg->request++;
        return true;
    case FAULT_NO_REPLY_FLAG:
        msg->flags &= ~VHOST_USER_FLAG_REPLY;
        return true;
    case FAULT_VERSION:
        msg->flags ^= 3;
        return true;
    case FAULT_EMPTY:
        msg->len = 0;
        return true;
    case FAULT_LONG:
        msg->len += 8;
        return true;
    case FAULT_HUGE: {
        uint32_t header[3] = {msg->request, msg->flags, UINT32_MAX};
        scripted_say(b, false, header, sizeof(header));
        return false;
    }
    case FAULT_HALF:
        scripted_say(b, false, half, sizeof(half));
        return false;
    case FAULT_REFUSE:
        msg->payload.u64 = 1;
        return true;
    case FAULT_WRONG_INDEX:
        msg->payload.config.offset ^= 1;
        return true;
    case FAULT_CHANNEL_FIRST:
        ask_on_channel(b, true);
        return true;
    case FAULT_CHANNEL_FLOOD:
        for (unsigned i = 0; i < 2000; i++)
            ask_on_channel(b, false);
        return false;
    case FAULT_CHANNEL_HALF:
        scripted_say(b, true, half, sizeof(half));
        return true;
    default:
        return true;
    }
}

static void answer(struct scripted_backend *b, struct vhost_user_msg *msg)
{
    int fd = -1;
    pthread_mutex_lock(&b->lock);
    bool has_reply = fill_reply(b, msg, &fd);
    pthread_mutex_unlock(&b->lock);
    if (!has_reply) {
        msg->payload.u64 = 0;
        msg->len = sizeof(uint64_t);
        has_reply = (msg->flags & VHOST_USER_FLAG_NEED_REPLY) != 0;
    }
    bool spoilt = b->fault != FAULT_NONE && msg->request == b->fault_at;
    int fds[3] = {fd, b->fd, b->fd};
    unsigned n_fds = fd >= 0;
    if (spoilt && b->fault == FAULT_DESCRIPTORS) {
        fds[0] = b->fd;
        n_fds = 3;
    }
    msg->flags = VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_REPLY;
    if (spoilt && !spoil(b, msg))
        has_reply = false;
    if (has_reply)
        vhost_user_send(b->fd, msg, fds, n_fds, 1000, NULL);
    cleanup_close(&fd);
}

static void *serve(void *opaque)
{
    struct scripted_backend *b = opaque;
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    while (vhost_user_recv(b->fd, &msg, &fds, -1, NULL) > 0) {
        pthread_mutex_lock(&b->lock);
        note(b, &msg, &fds);
        pthread_mutex_unlock(&b->lock);
        answer(b, &msg);
    }
    return NULL;
}

int scripted_start(struct scripted_backend *b)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    b->fd = pair[0];
    b->channel_fd = b->inflight_fd = -1;
    for (unsigned i = 0; i < SCRIPTED_QUEUES; i++)
        b->queues[i].kick_fd = b->queues[i].err_fd = -1;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, &attributes);
    b->runs = pthread_create(&b->thread, NULL, serve, b) == 0;
    return pair[1];
}

void scripted_kill(struct scripted_backend *b)
{
    if (!b->runs)
        return;
    pthread_mutex_lock(&b->lock);
    b->closed = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    shutdown(b->fd, SHUT_RDWR);
}

void scripted_stop(struct scripted_backend *b)
{
    scripted_kill(b);
    if (b->runs)
        pthread_join(b->thread, NULL);
    b->runs = false;
    cleanup_close(&b->fd);
    cleanup_close(&b->channel_fd);
    cleanup_close(&b->inflight_fd);
    for (unsigned i = 0; i < SCRIPTED_QUEUES; i++) {
        cleanup_close(&b->queues[i].kick_fd);
        cleanup_close(&b->queues[i].err_fd);
        b->queues[i].kick_fd = b->queues[i].err_fd = -1;
    }
    b->fd = b->channel_fd = b->inflight_fd = -1;
}

void scripted_release(struct scripted_backend *b)
{
    pthread_mutex_lock(&b->lock);
    b->released = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static unsigned count(const struct scripted_backend *b, uint32_t request)
{
    unsigned n = 0;
    for (unsigned i = 0; i < b->n_seen; i++)
        n += b->seen[i] == request;
    return n;
}

unsigned scripted_saw(struct scripted_backend *b, uint32_t request)
{
    pthread_mutex_lock(&b->lock);
    unsigned n = count(b, request);
    pthread_mutex_unlock(&b->lock);
    return n;
}

bool scripted_wait(struct scripted_backend *b, uint32_t request, unsigned times)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&b->lock);
    int ret = 0;
    while (count(b, request) < times && ret == 0)
        ret = pthread_cond_timedwait(&b->changed, &b->lock, &until);
    pthread_mutex_unlock(&b->lock);
    return ret == 0;
}

void scripted_say(struct scripted_backend *b, bool channel, const void *bytes, size_t len)
{
    if (send(channel ? b->channel_fd : b->fd, bytes, len, MSG_NOSIGNAL) < 0)
        return; /* gone: the test sees that elsewhere */
}
