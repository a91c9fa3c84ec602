/*
 * The broker's own process: one thread, waiting for requests and for the ends of back-ends. It holds its socket, one
 * pidfd a back-end, the log, and what lives no longer than somebody holds it: tap interfaces, and the end of the console's
 * socket. Nothing else that a device is made of stays open in it.
 */
#include "sandbox/broker_internal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A back-end whose connection was closed finishes what is under way, then ends by itself. */
#define END_GRACE_MS 2000
/* The same, where a request of husk's waits for it. */
#define RESTART_GRACE_MS 500
/* One that was killed may have to wait for the disk. */
#define KILL_WAIT_MS 1500
#define CONNECT_TIMEOUT_MS 2000

struct backend {
    pid_t pid; /* 0: none */
    int pidfd;
    bool killed; /* by the broker */
};

/* What stays open for a device's back-ends, or why it could not be had. */
struct held_source {
    struct source_fds fds;
    struct error err;
};

struct broker_state {
    const struct broker_context *context;
    struct backend *backends; /* one a device */
    struct held_source *held; /* one a device */
    unsigned n;
    struct broker_sockets sockets;
    struct namespaces namespaces;
};

static const char *id_of(const struct broker_state *state, unsigned device)
{
    return config_device(state->context->config, device).id;
}

/**
 * reap() - the back-end of @device has ended.
 *
 * One that somebody traces can be reaped only once its tracer has let go of it (ptrace(2)): then this waits a moment, and
 * is to be called again.
 */
static void reap(struct broker_state *state, unsigned device)
{
    static const struct timespec moment = {.tv_nsec = 1000000};
    struct backend *backend = &state->backends[device];
    int status = 0;
    if (waitpid(backend->pid, &status, WNOHANG) != backend->pid) {
        nanosleep(&moment, NULL);
        return;
    }
    int pid = (int)backend->pid;
    if (WIFSIGNALED(status) && !backend->killed)
        log_warn("%s: its back-end (pid %d) was ended by SIG%s", id_of(state, device), pid,
                 sigabbrev_np(WTERMSIG(status)));
    else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        log_warn("%s: its back-end (pid %d) gave up with exit status %d", id_of(state, device), pid,
                 WEXITSTATUS(status));
    else
        log_debug("%s: its back-end (pid %d) has ended", id_of(state, device), pid);
    cleanup_close(&backend->pidfd);
    *backend = (struct backend){.pidfd = -1};
}

/** wait_for_end() - of the back-end of @device, reaped. Returns whether it came within @timeout_ms. */
static bool wait_for_end(struct broker_state *state, unsigned device, int timeout_ms)
{
    struct backend *backend = &state->backends[device];
    int64_t deadline = clock_ms() + timeout_ms, left = timeout_ms;
    while (backend->pid && left >= 0) {
        struct pollfd ended = {.fd = backend->pidfd, .events = POLLIN};
        if (poll(&ended, 1, (int)left) == 1)
            reap(state, device);
        left = deadline - clock_ms() - 1;
    }
    return backend->pid == 0;
}

static void kill_backend(struct broker_state *state, unsigned device)
{
    struct backend *backend = &state->backends[device];
    if (!backend->pid)
        return;
    backend->killed = true;
    pidfd_send_signal(backend->pidfd, SIGKILL, NULL, 0);
}

/** end_previous() - the back-end that @device had is gone when this returns 0. */
static int end_previous(struct broker_state *state, unsigned device, bool again, struct error *err)
{
    if (wait_for_end(state, device, again ? 0 : RESTART_GRACE_MS))
        return 0;
    kill_backend(state, device);
    if (wait_for_end(state, device, KILL_WAIT_MS))
        return 0;
    return error_set(err, -EBUSY, "the back-end before (pid %d) was killed and has not ended yet",
                     (int)state->backends[device].pid);
}

static void __attribute__((noreturn))
become_backend(const struct broker_state *state, unsigned device, bool again, int socket_fd,
               const struct source_fds *fds, int status_fd)
{
    const struct broker_context *context = state->context;
    struct device_entry entry = config_device(context->config, device);
    pid_t pid;
    int ret = 0;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        ret = -errno;
    /* The broker may have ended before that: nothing comes then. */
    if (read(status_fd, &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
        _exit(1);
    struct pollfd broker = {.fd = status_fd};
    if (poll(&broker, 1, 0) != 0)
        _exit(1);
    if (ret == 0)
        ret = broker_backend_exec(context, &entry, again, socket_fd, fds, state->namespaces.root_fd,
                                  status_fd, pid);
    if (write(status_fd, &ret, sizeof(ret)) != (ssize_t)sizeof(ret))
        _exit(2);
    _exit(1);
}

/** wait_for_exec() - tell the new process its number; what it says on its socket, which exec closes. Returns 0 or -errno. */
static int wait_for_exec(int status_fd, pid_t pid)
{
    int code = 0;
    ssize_t n = send(status_fd, &pid, sizeof(pid), MSG_NOSIGNAL);
    if (n < 0)
        return -errno;
    do
        n = read(status_fd, &code, sizeof(code));
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(code) && code < 0 ? code : 0;
}

/** fork_backend() - of @device, with @fds. Returns husk's end of the connection, or -errno. */
static int fork_backend(struct broker_state *state, unsigned device, bool again,
                        const struct source_fds *fds, struct error *err)
{
    int pair[2], status[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set_errno(err, -errno, "could not make the back-end's socket");
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, status) < 0)
        return error_set_errno(err, -errno, "could not make the new process's socket");
    _cleanup_close_ int from_child = status[0], to_parent = status[1];

    _cleanup_close_ int pidfd = -1;
    pid_t pid = namespaces_fork(&pidfd);
    if (pid < 0)
        return error_set_errno(err, -errno, "could not fork");
    if (pid == 0) {
        close(from_child);
        become_backend(state, device, again, theirs, fds, to_parent);
    }
    cleanup_close(&to_parent);
    to_parent = -1;
    int ret = wait_for_exec(from_child, pid);
    if (ret < 0) {
        cleanup_close(&from_child); /* upon which it ends, however far it has come */
        cleanup_close(&ours);
        from_child = ours = -1;
        waitpid(pid, NULL, 0);
        return error_set_errno(err, ret, "could not start %s", state->context->program);
    }
    state->backends[device] = (struct backend){.pid = pid, .pidfd = take_fd(&pidfd)};
    log_info("%s: started its back-end, pid %d", id_of(state, device), (int)pid);
    return take_fd(&ours);
}

/** start_backend() - open what @device is made of, and start its back-end on that. Returns as fork_backend(). */
static int start_backend(struct broker_state *state, unsigned device, bool again, struct error *err)
{
    struct device_entry entry = config_device(state->context->config, device);
    int ret = end_previous(state, device, again, err);
    if (ret < 0)
        return ret;
    if (source_kind_of(&entry)->hold) {
        const struct held_source *held = &state->held[device];
        if (held->err.code) {
            *err = held->err;
            return err->code;
        }
        return fork_backend(state, device, again, &held->fds, err);
    }
    struct source_fds fds = SOURCE_FDS_INIT;
    ret = source_kind_of(&entry)->open(&entry, &state->context->identities[device], &fds, err);
    if (ret == 0)
        ret = fork_backend(state, device, again, &fds, err);
    source_fds_close(&fds);
    return ret;
}

static void send_reply(int fd, const struct broker_reply *reply, const int *fds)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(BROKER_FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)reply, .iov_len = sizeof(*reply)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (reply->n_fds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(reply->n_fds * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(reply->n_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, reply->n_fds * sizeof(int));
    }
    /* If it cannot be sent, husk is gone or has given this request up. */
    if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("a reply of the broker's was not taken: %s", strerror(errno));
}

/** answer() - do what @request asks for, and reply. */
static void answer(struct broker_state *state, const struct broker_request *request)
{
    const struct broker_context *context = state->context;
    struct broker_reply reply = {.sequence = request->sequence};
    struct error err = ERROR_INIT;
    _cleanup_close_ int connection = -1;
    int fds[BROKER_FDS_MAX] = {-1, -1};
    if (request->op == BROKER_LISTEN) {
        connection = broker_sockets_take(&state->sockets, request->device, &err);
    } else if (request->device >= state->n) {
        error_set(&err, -ENODEV, "there is no device %u", request->device);
    } else if (request->op == BROKER_KILL) {
        kill_backend(state, request->device);
    } else if (request->op == BROKER_CONNECT) {
        const char *socket = config_device(context->config, request->device).socket;
        connection = socket ? source_connect(socket, CONNECT_TIMEOUT_MS, &err)
                            : start_backend(state, request->device, request->again != 0, &err);
    } else {
        error_set(&err, -EINVAL, "there is no request %u", request->op);
    }
    if (connection >= 0) {
        fds[reply.n_fds++] = connection;
        if (request->op == BROKER_CONNECT && state->backends[request->device].pid)
            fds[reply.n_fds++] = state->backends[request->device].pidfd;
    }
    reply.code = err.code;
    memcpy(reply.message, err.message, sizeof(reply.message));
    memcpy(reply.hint, err.hint, sizeof(reply.hint));
    send_reply(context->fd, &reply, fds);
}

/** serve() - until husk closes its end of the socket. */
static void serve(struct broker_state *state, struct pollfd *polls)
{
    for (;;) {
        polls[0] = (struct pollfd){.fd = state->context->fd, .events = POLLIN};
        for (unsigned i = 0; i < state->n; i++)
            polls[1 + i] = (struct pollfd){.fd = state->backends[i].pidfd, .events = POLLIN};
        if (poll(polls, 1 + state->n, -1) < 0)
            continue;
        for (unsigned i = 0; i < state->n; i++)
            if (polls[1 + i].revents)
                reap(state, i);
        if (!polls[0].revents)
            continue;
        struct broker_request request;
        ssize_t n = recv(state->context->fd, &request, sizeof(request), MSG_DONTWAIT);
        if (n == (ssize_t)sizeof(request))
            answer(state, &request);
        else if (n >= 0 || (errno != EAGAIN && errno != EINTR))
            return;
    }
}

static void end_all(struct broker_state *state)
{
    int64_t deadline = clock_ms() + END_GRACE_MS;
    for (unsigned i = 0; i < state->n; i++)
        wait_for_end(state, i, (int)MAX(deadline - clock_ms(), 0));
    for (unsigned i = 0; i < state->n; i++)
        kill_backend(state, i);
    for (unsigned i = 0; i < state->n; i++)
        if (!wait_for_end(state, i, KILL_WAIT_MS))
            log_warn("%s: its back-end was killed and has not ended yet", id_of(state, i));
}

/** remove_made() - the sockets that were made for devices. */
static void remove_made(const struct broker_state *state)
{
    for (unsigned i = 0; i < state->n; i++) {
        const struct source_fds *fds = &state->held[i].fds;
        if (fds->made_path)
            unix_listener_remove(fds->made_path, &fds->made);
    }
}

/** hold_sources() - while the descriptors that husk was given are still there. */
static void hold_sources(struct broker_state *state)
{
    for (unsigned i = 0; i < state->n; i++) {
        struct device_entry entry = config_device(state->context->config, i);
        const struct source_kind *kind = source_kind_of(&entry);
        if (!entry.socket && kind->hold)
            kind->hold(&entry, &state->context->lent, &state->held[i].fds, &state->held[i].err);
    }
}

/** close_others() - every descriptor above standard error but the log, the broker's socket and what it holds. */
static int close_others(const struct broker_state *state)
{
    unsigned n = 0;
    _cleanup_free_ int *kept =
        calloc(3 + BROKER_CONSOLES + (size_t)state->n * SOURCE_FDS_MAX, sizeof(*kept));
    if (!kept)
        return -ENOMEM;
    kept[n++] = log_fd();
    kept[n++] = state->context->fd;
    kept[n++] = state->namespaces.root_fd;
    for (unsigned i = 0; i < state->n; i++)
        for (unsigned j = 0; j < state->held[i].fds.n; j++)
            kept[n++] = state->held[i].fds.fds[j];
    for (unsigned i = 0; i < BROKER_CONSOLES; i++)
        kept[n++] = state->sockets.listeners[i].fd;
    fd_close_others(kept, n);
    return 0;
}

/** detach() - from the terminal and its signals. The broker ends with husk by its socket alone: it has to clean up. */
static int detach(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    setsid();
    prctl(PR_SET_NAME, "husk-broker");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    return 0;
}

void broker_process(const struct broker_context *context)
{
    unsigned n = config_n_devices(context->config);
    struct broker_state state = {
        .context = context,
        .n = n,
        .namespaces = NAMESPACES_NONE,
        .backends = calloc(1 + n, sizeof(*state.backends)),
        .held = calloc(1 + n, sizeof(*state.held)),
    };
    struct error err = ERROR_INIT;
    struct pollfd *polls = calloc(1 + n, sizeof(*polls));
    int ret = state.backends && state.held && polls ? 0 : -ENOMEM;
    if (ret == 0) {
        hold_sources(&state);
        ret = detach();
    }
    if (ret == 0) {
        namespaces_enter_broker("husk-broker", &state.namespaces);
        broker_sockets_open(context->config, &state.sockets);
        ret = close_others(&state);
        if (ret == 0 && broker_cage(context, &err) < 0) {
            log_error("%s", err.message);
            ret = err.code;
        }
        if (ret < 0)
            broker_sockets_remove(context->config, &state.sockets);
    }
    if (ret < 0) {
        if (state.held)
            remove_made(&state);
        log_error("the broker could not start: %s", strerror(-ret));
        _exit(1);
    }
    for (unsigned i = 0; i < n; i++)
        state.backends[i].pidfd = -1;
    serve(&state, polls);
    broker_sockets_remove(context->config, &state.sockets);
    remove_made(&state);
    end_all(&state);
    _exit(0);
}
