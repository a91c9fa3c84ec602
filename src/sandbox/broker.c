/* husk's end of the broker: what is checked before the fork, requests, and the end. */
#include "sandbox/broker.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/tap.h"
#include "husk_version.h"
#include "sandbox/broker_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define REPLY_TIMEOUT_MS 5000
/* Where no guest waits yet: the broker may not have begun, and makes a process. */
#define START_TIMEOUT_MS 30000
#define STOP_TIMEOUT_MS 5000

struct broker {
    pid_t pid;
    int pidfd;
    int fd;
    const struct vm_config *config;
    pthread_mutex_t lock; /* one request at a time */
    uint32_t sequence;
};

int broker_find_backend(char *program, struct error *err)
{
    static const char *const places[] = {"husk-backend",
                                         "../" HUSK_LIBEXECDIR "/husk/husk-backend"};
    char folder[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    if (n < 0)
        return error_set_errno(err, -errno, "could not find out where husk is installed");
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        int len = snprintf(program, PATH_MAX, "%s%s", folder, places[i]);
        if (len < PATH_MAX && access(program, X_OK) == 0)
            return 0;
    }
    return error_set(err, -ENOENT,
                     "husk-backend, which serves devices, is neither in %s nor in %s%s", folder,
                     folder, "../" HUSK_LIBEXECDIR "/husk");
}

/** check_disk() - whether disk @number's file is no other disk's, or both only read. */
static int check_disk(const struct vm_config *config, const struct source_identity *identities,
                      unsigned number, struct error *err)
{
    struct device_entry device = config_device(config, number);
    for (unsigned i = 0; i < number; i++) {
        struct device_entry other = config_device(config, i);
        if (other.kind != DEVICE_DISK || !source_same(&identities[i], &identities[number]) ||
            (device.disk->readonly && other.disk->readonly))
            continue;
        return error_set(
            err, -EBUSY,
            "--disk: %s: '%s' is the disk %s too; only readonly=on for both shares a file",
            device.id, device.disk->path, other.id);
    }
    return 0;
}

/** check_net() - whether the tap that network device @number was given open is no other device's. */
static int check_net(const struct vm_config *config, unsigned number, struct error *err)
{
    struct device_entry device = config_device(config, number);
    for (unsigned i = 0; i < number && device.net->fds.n; i++) {
        struct device_entry other = config_device(config, i);
        if (other.kind == DEVICE_NET && other.net->fds.n &&
            tap_same(device.net->fds.fds[0], other.net->fds.fds[0]))
            return error_set(err, -EBUSY, "--net: %s: fd=%d is of the tap that %s has too",
                             device.id, device.net->fds.fds[0], other.id);
    }
    return 0;
}

/** check_shared() - whether what is behind device @number is behind no device before it. */
static int check_shared(const struct vm_config *config, const struct source_identity *identities,
                        unsigned number, struct error *err)
{
    enum device_kind kind = config_device(config, number).kind;
    return kind == DEVICE_DISK  ? check_disk(config, identities, number, err)
           : kind == DEVICE_NET ? check_net(config, number, err)
                                : 0;
}

/** check_devices() - all that can be known about them before there is a broker. */
static int check_devices(const struct vm_config *config, struct source_identity *identities,
                         struct error *err)
{
    for (unsigned i = 0; i < config_n_devices(config); i++) {
        struct device_entry device = config_device(config, i);
        int ret = source_check(&device, &identities[i], err);
        if (ret == 0)
            ret = check_shared(config, identities, i, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static bool needs_backend(const struct vm_config *config)
{
    for (unsigned i = 0; i < config_n_devices(config); i++)
        if (!config_device(config, i).socket)
            return true;
    return false;
}

static void cleanup_broker(struct broker **broker)
{
    if (*broker)
        free(*broker);
}

/** fork_broker() - @broker's process, socket and pidfd. */
static int fork_broker(struct broker *broker, struct broker_context *context, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set_errno(err, -errno, "could not make the broker's socket");
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    broker->pid = fork();
    if (broker->pid < 0)
        return error_set_errno(err, -errno, "could not fork the broker");
    if (broker->pid == 0) {
        context->fd = theirs;
        broker_process(context);
    }
    broker->pidfd = pidfd_open(broker->pid, 0);
    if (broker->pidfd < 0) {
        int code = -errno;
        cleanup_close(&ours); /* which ends it */
        ours = -1;
        waitpid(broker->pid, NULL, 0);
        return error_set_errno(err, code, "could not watch the broker");
    }
    broker->fd = take_fd(&ours);
    broker->config = context->config;
    return 0;
}

/** release_devices() - what the broker has now, the VMM does not keep. */
static void release_devices(const struct vm_config *config)
{
    for (unsigned i = 0; i < config_n_devices(config); i++) {
        struct device_entry device = config_device(config, i);
        if (!device.socket && source_kind_of(&device)->release)
            source_kind_of(&device)->release(&device);
    }
}

bool broker_needed(const struct vm_config *config)
{
    for (unsigned i = 0; i < BROKER_CONSOLES; i++)
        if (broker_console(config, i))
            return true;
    return config_n_devices(config) > 0;
}

struct broker *broker_start(const struct vm_config *config, const struct broker_lent *lent,
                            struct error *err)
{
    struct broker_context context = {.config = config, .lent = *lent, .fd = -1};
    _cleanup_free_ struct source_identity *identities =
        calloc(1 + config_n_devices(config), sizeof(*identities));
    _cleanup_(cleanup_broker) struct broker *broker = calloc(1, sizeof(*broker));
    if (!broker || !identities) {
        error_set(err, -ENOMEM, "out of memory for the broker");
        return NULL;
    }
    context.identities = identities;
    if (check_devices(config, identities, err) < 0)
        return NULL;
    if (needs_backend(config) && broker_find_backend(context.program, err) < 0)
        return NULL;
    if (fork_broker(broker, &context, err) < 0)
        return NULL;
    release_devices(config);
    pthread_mutex_init(&broker->lock, NULL);
    return take_ptr(broker);
}

/** receive() - one reply with its descriptors. Returns 0; -ETIMEDOUT; -EPIPE if the broker is gone. */
static int receive(int fd, struct broker_reply *reply, int fds[BROKER_FDS_MAX], int timeout_ms)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(BROKER_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = reply, .iov_len = sizeof(*reply)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int ready = poll(&poll_fd, 1, timeout_ms);
    if (ready == 0)
        return -ETIMEDOUT;
    ssize_t n = ready < 0 ? -1 : recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN ? -EAGAIN : -errno;
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    return n == (ssize_t)sizeof(*reply) ? 0 : -EPIPE;
}

static void close_fds(int fds[BROKER_FDS_MAX])
{
    for (int i = 0; i < BROKER_FDS_MAX; i++) {
        cleanup_close(&fds[i]);
        fds[i] = -1;
    }
}

/** ask() - send @request and take its reply; the replies of requests that were given up are dropped. */
static int ask(struct broker *broker, struct broker_request *request, int fds[BROKER_FDS_MAX],
               struct error *err)
{
    struct broker_reply reply = {0};
    bool starts =
        request->op == BROKER_LISTEN || (request->op == BROKER_CONNECT && !request->again);
    int timeout_ms = starts ? START_TIMEOUT_MS : REPLY_TIMEOUT_MS;
    request->sequence = ++broker->sequence;
    if (send(broker->fd, request, sizeof(*request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return error_set_errno(err, -errno, "the broker process is gone");
    int64_t deadline = clock_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline - clock_ms();
        int ret = receive(broker->fd, &reply, fds, (int)MAX(left, 0));
        if (ret == 0 && reply.sequence == request->sequence)
            break;
        close_fds(fds);
        if (ret == -ETIMEDOUT)
            return error_set(err, ret, "the broker process did not answer within %d seconds",
                             timeout_ms / 1000);
        if (ret < 0 && ret != -EAGAIN)
            return error_set_errno(err, ret, "the broker process is gone");
    }
    if (reply.code == 0)
        return 0;
    if (reply.code > 0) {
        close_fds(fds);
        return error_set(err, -EPROTO, "the broker process answered with %d, which is no error",
                         (int)reply.code);
    }
    error_set(err, reply.code, "%.*s", (int)sizeof(reply.message) - 1, reply.message);
    if (reply.hint[0])
        error_hint(err, "%.*s", (int)sizeof(reply.hint) - 1, reply.hint);
    return reply.code;
}

int broker_connect(struct broker *broker, unsigned device, bool again, int *socket_fd, int *pidfd,
                   struct error *err)
{
    struct broker_request request = {.op = BROKER_CONNECT, .device = device, .again = again};
    int fds[BROKER_FDS_MAX] = {-1, -1};
    pthread_mutex_lock(&broker->lock);
    int ret = ask(broker, &request, fds, err);
    pthread_mutex_unlock(&broker->lock);
    if (ret == 0 && fds[0] < 0)
        ret = error_set(err, -EPROTO, "the broker process sent no descriptor");
    if (ret < 0) {
        close_fds(fds);
        return ret;
    }
    *socket_fd = fds[0];
    *pidfd = fds[1];
    return 0;
}

int broker_listen(struct broker *broker, const struct console_config *console, struct error *err)
{
    struct broker_request request = {.op = BROKER_LISTEN};
    while (request.device < BROKER_CONSOLES &&
           broker_console(broker->config, request.device) != console)
        request.device++;
    int fds[BROKER_FDS_MAX] = {-1, -1};
    pthread_mutex_lock(&broker->lock);
    int ret = ask(broker, &request, fds, err);
    pthread_mutex_unlock(&broker->lock);
    if (ret == 0 && fds[0] < 0)
        ret = error_set(err, -EPROTO, "the broker process sent no descriptor");
    return ret < 0 ? ret : fds[0];
}

void broker_kill(struct broker *broker, unsigned device)
{
    struct broker_request request = {.op = BROKER_KILL, .device = device};
    int fds[BROKER_FDS_MAX] = {-1, -1};
    struct error err = ERROR_INIT;
    pthread_mutex_lock(&broker->lock);
    if (ask(broker, &request, fds, &err) < 0)
        log_error("%s", err.message);
    pthread_mutex_unlock(&broker->lock);
    close_fds(fds);
}

void broker_stop(struct broker *broker)
{
    if (!broker)
        return;
    cleanup_close(&broker->fd);
    struct pollfd ended = {.fd = broker->pidfd, .events = POLLIN};
    int ready;
    do
        ready = poll(&ended, 1, STOP_TIMEOUT_MS);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        log_error("the broker process did not end within %d seconds and was killed",
                  STOP_TIMEOUT_MS / 1000);
        pidfd_send_signal(broker->pidfd, SIGKILL, NULL, 0);
    }
    waitpid(broker->pid, NULL, 0);
    cleanup_close(&broker->pidfd);
    pthread_mutex_destroy(&broker->lock);
    free(broker);
}
