#include "virtio/vhost_user.h"

#include "base/bytes.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

_Static_assert(offsetof(struct vhost_user_msg, payload) == 16,
               "the payload is aligned in memory, not on the wire");
_Static_assert(sizeof(struct vhost_user_region) == 32, "a memory region has 32 bytes on the wire");
_Static_assert(sizeof(struct vhost_user_vring_addr) == 40,
               "vring addresses have 40 bytes on the wire");
_Static_assert(sizeof(struct vhost_user_mem_table) == 8 + 8 * 32,
               "a memory table has eight regions at most");

#define CONTROL_BYTES CMSG_SPACE(sizeof(int) * VHOST_USER_MEM_REGIONS_MAX)

/* Where a transfer stands, and when it has to be over. */
struct transfer {
    int fd;
    uint64_t deadline_ms; /* of CLOCK_MONOTONIC; UINT64_MAX for never */
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct transfer transfer_until(int fd, int timeout_ms)
{
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : now_ms() + (uint64_t)timeout_ms;
    return (struct transfer){.fd = fd, .deadline_ms = deadline};
}

/** wait_for() - until @events may succeed. Returns 0, -ETIMEDOUT or another -errno. */
static int wait_for(const struct transfer *transfer, short events)
{
    for (;;) {
        int left = -1;
        if (transfer->deadline_ms != UINT64_MAX) {
            uint64_t now = now_ms();
            left =
                now < transfer->deadline_ms ? (int)MIN(transfer->deadline_ms - now, 1u << 30) : 0;
        }
        struct pollfd of = {.fd = transfer->fd, .events = events};
        int n = poll(&of, 1, left);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

void vhost_user_fds_close(struct vhost_user_fds *fds)
{
    for (unsigned i = 0; i < fds->n; i++)
        if (fds->fd[i] >= 0)
            close(fds->fd[i]);
    fds->n = 0;
}

int vhost_user_fds_take(struct vhost_user_fds *fds)
{
    if (fds->n != 1) {
        vhost_user_fds_close(fds);
        return -1;
    }
    fds->n = 0;
    return fds->fd[0];
}

const char *vhost_user_request_name(uint32_t request)
{
    static const char *const names[] = {
        [VHOST_USER_GET_FEATURES] = "GET_FEATURES",
        [VHOST_USER_SET_FEATURES] = "SET_FEATURES",
        [VHOST_USER_SET_OWNER] = "SET_OWNER",
        [VHOST_USER_RESET_OWNER] = "RESET_OWNER",
        [VHOST_USER_SET_MEM_TABLE] = "SET_MEM_TABLE",
        [VHOST_USER_SET_LOG_BASE] = "SET_LOG_BASE",
        [VHOST_USER_SET_LOG_FD] = "SET_LOG_FD",
        [VHOST_USER_SET_VRING_NUM] = "SET_VRING_NUM",
        [VHOST_USER_SET_VRING_ADDR] = "SET_VRING_ADDR",
        [VHOST_USER_SET_VRING_BASE] = "SET_VRING_BASE",
        [VHOST_USER_GET_VRING_BASE] = "GET_VRING_BASE",
        [VHOST_USER_SET_VRING_KICK] = "SET_VRING_KICK",
        [VHOST_USER_SET_VRING_CALL] = "SET_VRING_CALL",
        [VHOST_USER_SET_VRING_ERR] = "SET_VRING_ERR",
        [VHOST_USER_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
        [VHOST_USER_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
        [VHOST_USER_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
        [VHOST_USER_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
        [VHOST_USER_NET_SET_MTU] = "NET_SET_MTU",
        [VHOST_USER_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
        [VHOST_USER_GET_CONFIG] = "GET_CONFIG",
        [VHOST_USER_SET_CONFIG] = "SET_CONFIG",
        [VHOST_USER_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
        [VHOST_USER_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
        [VHOST_USER_RESET_DEVICE] = "RESET_DEVICE",
        [VHOST_USER_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
        [VHOST_USER_ADD_MEM_REG] = "ADD_MEM_REG",
        [VHOST_USER_REM_MEM_REG] = "REM_MEM_REG",
        [VHOST_USER_SET_DEVICE_STATE_FD] = "SET_DEVICE_STATE_FD",
        [VHOST_USER_CHECK_DEVICE_STATE] = "CHECK_DEVICE_STATE",
    };
    return request < ARRAY_SIZE(names) && names[request] ? names[request] : "an unknown request";
}

/** add_fds() - put @n descriptors into the control part of @header, which @control has room for. */
static void add_fds(struct msghdr *header, void *control, const int *fds, unsigned n)
{
    if (n == 0)
        return;
    header->msg_control = control;
    header->msg_controllen = CMSG_SPACE(sizeof(int) * n);
    struct cmsghdr *of = CMSG_FIRSTHDR(header);
    of->cmsg_level = SOL_SOCKET;
    of->cmsg_type = SCM_RIGHTS;
    of->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(of), fds, sizeof(int) * n);
}

static int send_all(const struct transfer *transfer, const uint8_t *bytes, size_t len,
                    const int *fds, unsigned n_fds)
{
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES] = {0};
    while (len > 0) {
        struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
        struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
        add_fds(&header, control, fds, n_fds);
        ssize_t sent = sendmsg(transfer->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes += sent;
            len -= (size_t)sent;
            n_fds = 0; /* they went with the first byte */
            continue;
        }
        int ret = sent == 0 || errno == EAGAIN ? wait_for(transfer, POLLOUT)
                  : errno == EINTR             ? 0
                                               : -errno;
        if (ret < 0)
            return ret;
    }
    return 0;
}

int vhost_user_send(int socket_fd, const struct vhost_user_msg *msg, const int *fds, unsigned n_fds,
                    int timeout_ms, struct error *err)
{
    const char *name = vhost_user_request_name(msg->request);
    if (n_fds > VHOST_USER_MEM_REGIONS_MAX || msg->len > sizeof(msg->payload))
        return error_set(err, -EINVAL, "%s cannot be sent with %u bytes and %u descriptors", name,
                         msg->len, n_fds);
    uint8_t bytes[VHOST_USER_HEADER_BYTES + sizeof(msg->payload)];
    memcpy(bytes, &msg->request, 4);
    memcpy(bytes + 4, &msg->flags, 4);
    memcpy(bytes + 8, &msg->len, 4);
    memcpy(bytes + VHOST_USER_HEADER_BYTES, &msg->payload, msg->len);
    struct transfer transfer = transfer_until(socket_fd, timeout_ms);
    int ret = send_all(&transfer, bytes, VHOST_USER_HEADER_BYTES + msg->len, fds, n_fds);
    return ret < 0 ? error_set_errno(err, ret, "could not send %s", name) : 0;
}

/** keep_fds() - collect the descriptors in @header. Returns -EPROTO if there are more than a message may have. */
static int keep_fds(struct msghdr *header, struct vhost_user_fds *fds)
{
    int ret = header->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
    for (struct cmsghdr *of = CMSG_FIRSTHDR(header); of; of = CMSG_NXTHDR(header, of)) {
        if (of->cmsg_level != SOL_SOCKET || of->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (of->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(of) + i * sizeof(int), sizeof(fd));
            if (fds->n < VHOST_USER_MEM_REGIONS_MAX) {
                fds->fd[fds->n++] = fd;
            } else {
                close(fd);
                ret = -EPROTO;
            }
        }
    }
    return ret;
}

/**
 * recv_all() - exactly @len bytes. Returns 1; 0 if the peer had closed before the first; -ECONNRESET if it closed
 * later; another -errno. Descriptors are added to @fds, whatever is returned.
 */
static int recv_all(const struct transfer *transfer, void *to, size_t len,
                    struct vhost_user_fds *fds)
{
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
    uint8_t *bytes = to;
    size_t have = 0;
    while (have < len) {
        struct iovec iov = {.iov_base = bytes + have, .iov_len = len - have};
        struct msghdr header = {.msg_iov = &iov,
                                .msg_iovlen = 1,
                                .msg_control = control,
                                .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(transfer->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        int ret = 0;
        if (n > 0) {
            have += (size_t)n;
            ret = keep_fds(&header, fds);
        } else if (n == 0) {
            return have == 0 ? 0 : -ECONNRESET;
        } else if (errno == EAGAIN) {
            ret = wait_for(transfer, POLLIN);
        } else if (errno != EINTR) {
            ret = -errno;
        }
        if (ret < 0)
            return ret;
    }
    return 1;
}

static int receive(const struct transfer *transfer, struct vhost_user_msg *msg,
                   struct vhost_user_fds *fds, struct error *err)
{
    uint8_t header[VHOST_USER_HEADER_BYTES];
    int ret = recv_all(transfer, header, sizeof(header), fds);
    if (ret <= 0)
        return ret < 0 ? error_set_errno(err, ret, "no vhost-user message came") : 0;
    memcpy(&msg->request, header, 4);
    memcpy(&msg->flags, header + 4, 4);
    memcpy(&msg->len, header + 8, 4);
    const char *name = vhost_user_request_name(msg->request);
    if ((msg->flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_FLAG_VERSION)
        return error_set(err, -EPROTO,
                         "a vhost-user message (%s) of version %u came, not of version 1", name,
                         msg->flags & VHOST_USER_FLAG_VERSION_MASK);
    if (msg->len > sizeof(msg->payload))
        return error_set(err, -EPROTO,
                         "a vhost-user message (%s) of %u bytes came; %zu are the most", name,
                         msg->len, sizeof(msg->payload));
    if (msg->len == 0)
        return 1;
    ret = recv_all(transfer, &msg->payload, msg->len, fds);
    if (ret == 0)
        ret = -ECONNRESET;
    return ret < 0
               ? error_set_errno(err, ret, "%s came without all of its %u bytes", name, msg->len)
               : 1;
}

int vhost_user_recv(int socket_fd, struct vhost_user_msg *msg, struct vhost_user_fds *fds,
                    int timeout_ms, struct error *err)
{
    struct transfer transfer = transfer_until(socket_fd, timeout_ms);
    memset(msg, 0, sizeof(*msg));
    fds->n = 0;
    int ret = receive(&transfer, msg, fds, err);
    if (ret <= 0)
        vhost_user_fds_close(fds);
    return ret;
}
