#include "backends/vsock_connector.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/cage.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the device's process sends at its end instead of a port, if the socket is to be removed. */
#define REMOVE_BYTES 1

struct answer {
    int32_t code; /* 0, with a descriptor; or -errno */
};

/** connect_to() - "@path_@port". A listener whose backlog is full refuses: nobody waits. Returns the socket or -errno. */
static int connect_to(const char *path, uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", path, port);
    if (len < 0 || (size_t)len >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return take_fd(&fd);
}

static void send_answer(int fd, int result)
{
    struct answer answer = {.code = result < 0 ? result : 0};
    struct iovec iov = {&answer, sizeof(answer)};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (result >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        control.head = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), &result, sizeof(result));
    }
    (void)!sendmsg(fd, &msg, MSG_NOSIGNAL);
}

/**
 * serve() - until the device's process has closed its end. With anything else of that process's left open, its peers would
 * not notice at once that it is gone.
 */
_Noreturn static void serve(int fd, const char *path, bool remove, const struct vu_backend *of)
{
    int keep[] = {fd, log_fd()};
    fd_close_others(keep, ARRAY_SIZE(keep));
    struct error err = ERROR_INIT;
    struct cage cage = {.role = CAGE_CONNECTOR,
                        .extra = CAGE_CONNECTS,
                        .seccomp = of->seccomp,
                        .name = of->name,
                        .root_fd = -1};
    prctl(PR_SET_NAME, "vsock-connect");
    log_remember_pid();
    if (cage_back_end(&cage, remove ? path : NULL, &err) < 0) {
        log_error("%s", err.message);
        _exit(1);
    }
    uint32_t port;
    ssize_t n;
    while ((n = recv(fd, &port, sizeof(port), 0)) == (ssize_t)sizeof(port)) {
        _cleanup_close_ int connected = connect_to(path, port);
        send_answer(fd, connected);
    }
    if (remove && n == REMOVE_BYTES)
        unlink(path);
    _exit(0);
}

int vsock_connector_start(struct vsock_connector *connector, const char *path, bool remove,
                          const struct vu_backend *of, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set_errno(err, -errno, "could not make a socket");
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0)
        return error_set_errno(err, -errno, "could not fork");
    if (pid == 0) {
        close(ours);
        serve(theirs, path, remove, of);
    }
    *connector = (struct vsock_connector){.fd = take_fd(&ours), .pid = pid};
    return 0;
}

int vsock_connector_ask(const struct vsock_connector *connector, uint32_t port)
{
    if (connector->fd < 0)
        return -ECONNREFUSED;
    ssize_t n = send(connector->fd, &port, sizeof(port), MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : 0;
}

int vsock_connector_answer(const struct vsock_connector *connector)
{
    struct answer answer = {0};
    struct iovec iov = {&answer, sizeof(answer)};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(connector->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    if (n != (ssize_t)sizeof(answer))
        return -EPIPE;
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    if (answer.code < 0 || !head || head->cmsg_type != SCM_RIGHTS)
        return answer.code < 0 ? answer.code : -EPROTO;
    int fd;
    memcpy(&fd, CMSG_DATA(head), sizeof(fd));
    return fd;
}

void vsock_connector_stop(struct vsock_connector *connector)
{
    if (connector->fd < 0)
        return;
    static const char remove[REMOVE_BYTES];
    (void)!send(connector->fd, remove, sizeof(remove), MSG_NOSIGNAL);
    close(connector->fd);
    connector->fd = -1;
    waitpid(connector->pid, NULL, 0);
}
