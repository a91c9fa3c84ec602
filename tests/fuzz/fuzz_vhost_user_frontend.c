/*
 * What a back-end sends, on the connection and on its own channel, while the front-end says all that it ever says. The
 * input: length of the connection's bytes, where in them descriptors come along, how many (16 bits each), those bytes,
 * the channel's bytes. Descriptors must not leak.
 */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "virtio/frontend.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_BYTES 6
#define INPUT_MAX 4096
#define TIMEOUT_MS 1000
#define QUEUES 2

static void check(bool holds)
{
    if (!holds)
        abort();
}

/** say() - @len bytes of @bytes to @fd, with @n_fds descriptors. */
static void say(int fd, const uint8_t *bytes, size_t len, unsigned n_fds)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * 16)] = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[16];
    if (len == 0)
        return;
    if (n_fds > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *of = CMSG_FIRSTHDR(&header);
        of->cmsg_level = SOL_SOCKET;
        of->cmsg_type = SCM_RIGHTS;
        of->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        for (unsigned i = 0; i < n_fds; i++)
            fds[i] = fd;
        memcpy(CMSG_DATA(of), fds, sizeof(int) * n_fds);
    }
    check(sendmsg(fd, &header, MSG_NOSIGNAL) == (ssize_t)len);
}

/** find_channel() - the back-end's end of its own channel, among what the front-end has said so far; -1 if none. */
static int find_channel(int peer)
{
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    int channel = -1;
    while (vhost_user_recv(peer, &msg, &fds, 0, NULL) > 0) {
        if (msg.request == VHOST_USER_SET_BACKEND_REQ_FD && channel < 0)
            channel = vhost_user_fds_take(&fds);
        vhost_user_fds_close(&fds);
    }
    return channel;
}

static void live(struct vhost_user_frontend *f)
{
    static uint8_t ram[PAGE_BYTES];
    struct guest_memory memory = {
        .fd = STDERR_FILENO,
        .base = ram,
        .size = sizeof(ram),
        .regions = {{.len = sizeof(ram)}},
        .n_regions = 1,
    };
    struct vhost_user_inflight where = {.n_queues = QUEUES, .queue_size = 16};
    uint8_t config[60];
    frontend_get_config(f, 0, config, sizeof(config), NULL);
    frontend_set_config(f, 32, config, 1, NULL);
    frontend_set_features(f, f->features, NULL);
    frontend_set_memory(f, &memory, NULL);
    int fd = frontend_get_inflight(f, &where, NULL);
    if (fd >= 0) {
        frontend_set_inflight(f, &where, fd, NULL);
        close(fd);
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        struct vhost_user_queue queue = {.index = i,
                                         .size = 16,
                                         .kick_fd = STDERR_FILENO,
                                         .call_fd = STDERR_FILENO,
                                         .err_fd = STDERR_FILENO};
        frontend_start_queue(f, &queue, NULL);
    }
    for (unsigned i = 0; i < QUEUES; i++)
        frontend_stop_queue(f, i, NULL);
    frontend_reset(f, NULL);
    while (f->backend_fd >= 0 && frontend_backend_request(f, NULL) == 0)
        continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD_BYTES || size > INPUT_MAX)
        return 0;
    const uint8_t *bytes = data + HEAD_BYTES;
    size_t all = size - HEAD_BYTES;
    size_t len = MIN(load_le16(data), all);
    size_t at = MIN(load_le16(data + 2), len);
    unsigned n_fds = load_le16(data + 4) % 12;

    int probe = dup(STDERR_FILENO);
    close(probe);
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    say(pair[1], bytes, at, 0);
    say(pair[1], bytes + at, len - at, n_fds);
    shutdown(pair[1], SHUT_WR); /* nothing is ever waited for */

    struct vhost_user_frontend frontend;
    if (frontend_open(&frontend, pair[0], TIMEOUT_MS, NULL) == 0) {
        _cleanup_close_ int channel = find_channel(pair[1]);
        if (channel >= 0) {
            say(channel, bytes + len, all - len, n_fds / 4);
            shutdown(channel, SHUT_WR);
        }
        live(&frontend);
        frontend_close(&frontend);
    }
    close(pair[1]);
    int after = dup(STDERR_FILENO);
    close(after);
    check(after == probe);
    return 0;
}
