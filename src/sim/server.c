/*
 * Connections and tokens. One thread: a request is answered before the next one is read, and before each of them those
 * tokens are looked at whose last copy was closed, so that a VMM that closes and goes on finds things closed.
 */
#include "sim/server.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define CLIENTS_MAX 1024u
#define TOKENS_AT_ONCE 64

struct connection {
    struct client client;
    struct server *server;
    struct loop_source *source;
    struct loop_source *exit_source;
    int pidfd;
    struct connection *next;
};

struct server {
    struct model *model;
    struct loop *loop;
    struct loop_source *door_source;
    struct loop_source *token_source;
    int door;
    int tokens; /* epoll of all tokens */
    struct connection *connections;
    size_t clients;
    void (*idle)(void *ctx);
    void *idle_ctx;
    struct sim_message_in in;
    struct sim_message_out out;
};

static void stop_watching(void *ctx, const struct object *object)
{
    const struct server *server = ctx;
    epoll_ctl(server->tokens, EPOLL_CTL_DEL, object->fd, NULL);
}

static void sweep_tokens(struct server *server)
{
    struct epoll_event events[TOKENS_AT_ONCE];
    int n;
    do {
        n = epoll_wait(server->tokens, events, TOKENS_AT_ONCE, 0);
        for (int i = 0; i < n; i++) {
            struct object *object = events[i].data.ptr;
            /* Nothing is ever said over a token: what is readable is its end, or a client that deserves no better. */
            model_object_closed(server->model, object);
        }
    } while (n == TOKENS_AT_ONCE);
}

static void on_tokens(void *ctx, uint32_t events)
{
    (void)events;
    sweep_tokens(ctx);
}

static void connection_free(struct connection *connection)
{
    struct server *server = connection->server;
    for (struct connection **p = &server->connections; *p; p = &(*p)->next) {
        if (*p == connection) {
            *p = connection->next;
            break;
        }
    }
    server->clients--;
    loop_remove(connection->source);
    loop_remove(connection->exit_source);
    close(connection->client.fd);
    if (connection->pidfd >= 0)
        close(connection->pidfd);
    if (connection->client.window)
        munmap(connection->client.window, SIM_WINDOW_SIZE);
    report_line(&server->model->report, "pid=%u gone", connection->client.pid);
    model_client_gone(server->model, &connection->client);
    free(connection->client.gone);
    free(connection);
    if (server->idle && !server->clients)
        server->idle(server->idle_ctx);
}

static void on_exit_of_client(void *ctx, uint32_t events)
{
    (void)events;
    struct connection *connection = ctx;
    sweep_tokens(connection->server);
    connection_free(connection);
}

/** send_reply() - one message with up to two descriptors. Returns 0 or -errno; never waits. */
static int send_reply(int fd, const void *data, size_t len, const int fds[2])
{
    int list[2];
    size_t n = 0;
    for (size_t i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            list[n++] = fds[i];
    }
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(list))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *cmsg = &control.align;
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(cmsg), list, n * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static void watch_token(struct server *server, uint32_t id)
{
    for (size_t i = 0; i < MODEL_OBJECTS_MAX; i++) {
        struct object *object = server->model->objects[i];
        if (!object || object->id != id)
            continue;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = object};
        epoll_ctl(server->tokens, EPOLL_CTL_ADD, object->fd, &event);
        return;
    }
}

static void on_request(void *ctx, uint32_t events)
{
    struct connection *connection = ctx;
    struct server *server = connection->server;
    sweep_tokens(server);
    ssize_t n =
        recv(connection->client.fd, &server->in, sizeof(server->in), MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(events & EPOLLHUP))
        return;
    if (n < (ssize_t)sizeof(server->in.head) || (size_t)n > sizeof(server->in)) {
        connection_free(connection); /* it ended, or speaks something else */
        return;
    }
    struct call call = {.model = server->model,
                        .client = &connection->client,
                        .in = &server->in,
                        .payload_len = (size_t)n - sizeof(server->in.head),
                        .out = &server->out};
    model_dispatch(&call);
    if (call.out->head.flags & SIM_REPLY_TOKEN)
        watch_token(server, (uint32_t)call.out->head.value[4]);
    int r = 0;
    if (!call.no_reply)
        r = send_reply(connection->client.fd, call.out, sizeof(call.out->head) + call.out_len,
                       call.fds);
    for (size_t i = 0; i < 2; i++) {
        if (call.fds[i] >= 0)
            close(call.fds[i]);
    }
    if (r)
        connection_free(connection);
}

/** make_window() - the memory through which this process's pages come; sealed, so that it stays as long as it is. */
static int make_window(struct client *client, int *fd)
{
    *fd = memfd_create("husk-sim-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return -errno;
    if (ftruncate(*fd, SIM_WINDOW_SIZE) < 0 ||
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    void *window = mmap(NULL, SIM_WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (window == MAP_FAILED)
        return -errno;
    client->window = window;
    return 0;
}

/** is_seqpacket() - whether @fd is a UNIX seqpacket socket; *pid: of the process that made it. */
static bool is_seqpacket(int fd, uint32_t *pid)
{
    int type = 0;
    int domain = 0;
    socklen_t len = sizeof(type);
    struct ucred cred;
    socklen_t cred_len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
        return false;
    len = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0)
        return false;
    *pid = (uint32_t)cred.pid;
    return true;
}

static bool asks_about_runs(const struct sim_faults *faults)
{
    for (size_t i = 0; i < faults->faults_len; i++) {
        if (faults->faults[i].call == SIM_CALL_RUN)
            return true;
    }
    return faults->exits_len > 0;
}

/** connect_client() - a process came in with its socket @fd, which becomes the server's. */
static void connect_client(struct server *server, int fd)
{
    uint32_t pid;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection || server->clients >= CLIENTS_MAX || !is_seqpacket(fd, &pid)) {
        free(connection);
        close(fd);
        return;
    }
    connection->server = server;
    connection->client = (struct client){.fd = fd, .pid = pid};
    connection->next = server->connections;
    server->connections = connection;
    server->clients++;
    connection->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    int window = -1;
    int r = make_window(&connection->client, &window);
    if (!r) {
        struct sim_reply hello = {
            .value[0] = (server->model->launch_only ? SIM_HELLO_LAUNCH_ONLY : 0u) |
                        (asks_about_runs(&server->model->faults) ? SIM_HELLO_ASK_RUN : 0u)};
        const int fds[2] = {window, -1};
        r = send_reply(fd, &hello, sizeof(hello), fds);
    }
    if (window >= 0)
        close(window);
    if (!r) {
        connection->source = loop_add(server->loop, fd, EPOLLIN, on_request, connection);
        if (connection->pidfd >= 0)
            connection->exit_source =
                loop_add(server->loop, connection->pidfd, EPOLLIN, on_exit_of_client, connection);
    }
    report_line(&server->model->report, "pid=%u connected", pid);
    if (r || !connection->source)
        connection_free(connection);
}

static void on_door(void *ctx, uint32_t events)
{
    (void)events;
    struct server *server = ctx;
    char byte;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(server->door, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        loop_remove(server->door_source); /* the last copy was closed: nobody will come any more */
        server->door_source = NULL;
        return;
    }
    struct cmsghdr *cmsg = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS ||
        cmsg->cmsg_len != CMSG_LEN(sizeof(int)))
        return;
    int fd;
    memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
    connect_client(server, fd);
}

struct server *server_new(struct model *model, struct loop *loop, int door, void (*idle)(void *ctx),
                          void *ctx, struct error *err)
{
    struct server *server = calloc(1, sizeof(*server));
    if (!server) {
        error_set(err, -ENOMEM, "out of memory for the simulator");
        return NULL;
    }
    *server = (struct server){
        .model = model, .loop = loop, .door = door, .idle = idle, .idle_ctx = ctx, .tokens = -1};
    server->tokens = epoll_create1(EPOLL_CLOEXEC);
    if (server->tokens >= 0)
        server->token_source = loop_add(loop, server->tokens, EPOLLIN, on_tokens, server);
    server->door_source = loop_add(loop, door, EPOLLIN, on_door, server);
    if (!server->token_source || !server->door_source) {
        error_set_errno(err, -errno, "could not watch the simulator's sockets");
        server_free(server);
        return NULL;
    }
    model->object_closed = stop_watching;
    model->object_closed_ctx = server;
    return server;
}

size_t server_clients(const struct server *server)
{
    return server->clients;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    server->idle = NULL;
    while (server->connections)
        connection_free(server->connections);
    model_release(server->model);
    server->model->object_closed = NULL;
    loop_remove(server->door_source);
    loop_remove(server->token_source);
    if (server->tokens >= 0)
        close(server->tokens);
    free(server);
}
