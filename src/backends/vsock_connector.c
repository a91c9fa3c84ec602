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

/* What the device's process sends at its end instead of a question, if the socket is to be removed. */
#define REMOVE_BYTES 1

struct question {
    uint32_t number, port;
};

struct answer {
    struct question to;
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

/** send_answer() - @result: a descriptor or -errno. Returns 0 or -errno. */
static int send_answer(int fd, const struct question *question, int result)
{
    struct answer answer = {.to = *question, .code = result < 0 ? result : 0};
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
    return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/** answer_question() - returns 0, or -errno if the answer cannot be given. */
static int answer_question(int fd, const char *path, const struct question *question)
{
    _cleanup_close_ int connected = connect_to(path, question->port);
    int ret = send_answer(fd, question, connected);
    /* A descriptor may be one too many on its way; an error is none. */
    return ret < 0 && connected >= 0 ? send_answer(fd, question, ret) : ret;
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
    unsigned access = LANDLOCK_CONNECT | (remove ? LANDLOCK_REMOVE : 0);
    if (cage_back_end(&cage, path, access, &err) < 0) {
        log_error("%s", err.message);
        _exit(1);
    }
    struct question question;
    ssize_t n;
    while ((n = recv(fd, &question, sizeof(question), 0)) == (ssize_t)sizeof(question))
        if (answer_question(fd, path, &question) < 0)
            break;
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

int vsock_connector_ask(const struct vsock_connector *connector, uint32_t number, uint32_t port)
{
    const struct question question = {.number = number, .port = port};
    if (connector->fd < 0)
        return -ECONNREFUSED;
    ssize_t n = send(connector->fd, &question, sizeof(question), MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : 0;
}

/** received_fd() - what came with an answer. Returns -EMFILE if nothing did: there was no room for it here. */
static int received_fd(struct msghdr *msg)
{
    struct cmsghdr *head = CMSG_FIRSTHDR(msg);
    if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EMFILE;
    int fd;
    memcpy(&fd, CMSG_DATA(head), sizeof(fd));
    return fd;
}

int vsock_connector_answer(const struct vsock_connector *connector, struct vsock_answer *answer)
{
    struct answer got = {0};
    struct iovec iov = {&got, sizeof(got)};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = CMSG_LEN(sizeof(int))}; /* one, and no more */
    ssize_t n = recvmsg(connector->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
    int fd = received_fd(&msg);
    if (n != (ssize_t)sizeof(got) || got.code > 0 || (got.code < 0 && fd >= 0)) {
        cleanup_close(&fd);
        return n == 0 ? -EPIPE : -EPROTO;
    }
    *answer = (struct vsock_answer){
        .number = got.to.number, .port = got.to.port, .result = got.code < 0 ? got.code : fd};
    return 1;
}

void vsock_connector_leave(const struct vsock_connector *connector)
{
    (void)shutdown(connector->fd, SHUT_RDWR);
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
