/* The host's side of streams: UNIX sockets that host programs connect to, or that the guest is connected to. */
#include "backends/vsock.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long a host program may take to say what it wants, and the guest to answer. */
#define HELLO_MS 10000
#define ANSWER_MS 5000
/* The guest's ends of streams that are over. */
#define CLOSING_MS 2000
/* How long a host program may take to read what the guest sent before it closed. */
#define DRAINING_MS 60000
/* What a guest sent right before it ended: a reset waits for that long. */
#define FLUSH_MS 1000

static void on_host(void *ctx, uint32_t events);

void vsock_host_watch(struct vsock_connection *connection)
{
    bool reads = connection->state == VSOCK_HELLO ||
                 (connection->state == VSOCK_OPEN && !connection->readable &&
                  !(connection->our_shut & VSOCK_SHUT_SEND));
    uint32_t events =
        (reads ? (uint32_t)EPOLLIN : 0) | (connection->out.len ? (uint32_t)EPOLLOUT : 0);
    if (connection->source)
        (void)loop_modify(connection->source, events);
}

/** take_fd_of_host() - the connection has a host's side from now on. Returns 0 or -errno; @fd is its own in either case. */
static int take_host(struct vsock_connection *connection, int fd)
{
    connection->fd = fd;
    connection->source = loop_add(connection->device->loop, fd, 0, on_host, connection);
    return connection->source ? 0 : -errno;
}

/** leave_host() - nothing comes from there or goes there any more. */
static void leave_host(struct vsock_connection *connection)
{
    loop_remove(connection->source);
    connection->source = NULL;
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    connection->readable = false;
    vsock_buffer_drop(&connection->out, connection->out.len);
}

/** fail() - the guest is to know that there is no connection. */
static void fail(struct vsock_connection *connection)
{
    leave_host(connection);
    connection->state = VSOCK_CLOSING;
    connection->our_shut = VSOCK_SHUT_BOTH;
    connection->deadline_ms = 0;
    vsock_owe_only_reset(connection);
}

static void hear_hello(struct vsock_connection *connection)
{
    uint32_t port;
    int ret = vsock_hello_read(&connection->hello, connection->fd, &port);
    if (ret < 0)
        vsock_drop(connection);
    if (ret <= 0)
        return;
    vsock_rename(connection, port, vsock_free_port(connection->device, port));
    connection->state = VSOCK_REQUESTED;
    connection->deadline_ms = vsock_now_ms() + ANSWER_MS;
    vsock_host_watch(connection);
    vsock_owe(connection, VSOCK_OWES_REQUEST);
}

/** finish_shut() - what the guest will not do any more, once the bytes before it are gone. */
static void finish_shut(struct vsock_connection *connection)
{
    if (connection->fd < 0 || connection->out.len)
        return;
    if ((connection->guest_shut & VSOCK_SHUT_BOTH) == VSOCK_SHUT_BOTH)
        fail(connection); /* a RST is the answer to the end of both (virtio 1.2, 5.10.6.4) */
    else if (connection->guest_shut & VSOCK_SHUT_SEND)
        (void)shutdown(connection->fd, SHUT_WR);
}

void vsock_host_shut(struct vsock_connection *connection)
{
    if (connection->guest_shut & VSOCK_SHUT_RECEIVE && connection->fd >= 0) {
        connection->our_shut |= VSOCK_SHUT_SEND;
        connection->readable = false;
        (void)shutdown(connection->fd, SHUT_RD); /* a host program that writes is to know */
    }
    finish_shut(connection);
    if (connection->our_shut == VSOCK_SHUT_BOTH && connection->fd >= 0)
        vsock_host_gone(connection);
    vsock_host_watch(connection);
}

bool vsock_host_closed(const struct vsock_connection *connection)
{
    struct pollfd look = {.fd = connection->fd};
    return poll(&look, 1, 0) > 0 && look.revents & (POLLHUP | POLLERR);
}

void vsock_host_gone(struct vsock_connection *connection)
{
    if (connection->state != VSOCK_OPEN) { /* the guest has not accepted it */
        fail(connection);
        return;
    }
    leave_host(connection);
    connection->our_shut = VSOCK_SHUT_BOTH;
    connection->state = VSOCK_CLOSING;
    connection->deadline_ms = vsock_now_ms() + CLOSING_MS;
    vsock_owe(connection, VSOCK_OWES_SHUTDOWN);
}

/**
 * unheard() - the host program reads nothing any more. What it has sent, and may go on to send, is the guest's still, who is
 * told that it need not send.
 */
static void unheard(struct vsock_connection *connection)
{
    vsock_buffer_drop(&connection->out, connection->out.len);
    connection->our_shut |= VSOCK_SHUT_RECEIVE;
    if (connection->our_shut == VSOCK_SHUT_BOTH)
        vsock_host_gone(connection);
    else
        vsock_owe(connection, VSOCK_OWES_SHUTDOWN);
}

/** has_left_bytes() - whether there is something to read from a host program that has gone. */
static bool has_left_bytes(const struct vsock_connection *connection)
{
    char byte;
    return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/** leave_unanswered() - the host program has gone before the guest accepted; what it sent waits for that. */
static void leave_unanswered(struct vsock_connection *connection)
{
    if (has_left_bytes(connection))
        loop_remove(take_ptr(connection->source)); /* which has no more to tell */
    else
        vsock_host_gone(connection);
}

void vsock_host_accepted(struct vsock_connection *connection)
{
    char line[32];
    int len = snprintf(line, sizeof(line), "OK %u\n", connection->host_port);
    connection->state = VSOCK_OPEN;
    connection->deadline_ms = 0;
    /* A socket that nothing was sent on takes so few bytes. */
    if (send(connection->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len) {
        vsock_host_watch(connection);
    } else if (has_left_bytes(connection)) {
        loop_remove(take_ptr(connection->source));
        connection->readable = true;
        unheard(connection);
    } else {
        fail(connection);
    }
}

/** send_out() - what the guest sent and nobody has read. Returns false if nobody will. */
static bool send_out(struct vsock_connection *connection)
{
    struct iovec iov[2];
    unsigned n;
    while ((n = vsock_buffer_get(&connection->out, iov)) > 0) {
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
        ssize_t sent = sendmsg(connection->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        vsock_buffer_drop(&connection->out, (size_t)sent);
        connection->credit.forwarded += (uint32_t)sent;
    }
    return true;
}

static void forward(struct vsock_connection *connection)
{
    if (!send_out(connection))
        unheard(connection);
    if (vsock_credit_due(&connection->credit))
        vsock_owe(connection, VSOCK_OWES_CREDIT);
    finish_shut(connection);
}

void vsock_host_end(struct vsock_connection *connection)
{
    if (!connection->out.len || !(connection->guest_shut & VSOCK_SHUT_SEND)) {
        vsock_drop(connection);
        return;
    }
    connection->state = VSOCK_DRAINING;
    connection->owed = 0;
    connection->readable = false;
    connection->deadline_ms = vsock_now_ms() + DRAINING_MS;
    vsock_host_watch(connection);
}

/** drain() - to a host program that takes its time. */
static void drain(struct vsock_connection *connection)
{
    if (!send_out(connection) || !connection->out.len)
        vsock_drop(connection);
}

/** send_all_out() - of all connections; @polls: those that host programs have no room for yet. Returns how many. */
static nfds_t send_all_out(struct vsock_device *device, struct pollfd *polls)
{
    nfds_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(device->buckets); i++)
        for (struct vsock_connection *c = device->buckets[i]; c; c = c->next)
            if (c->fd >= 0 && c->out.len && send_out(c) && c->out.len)
                polls[n++] = (struct pollfd){.fd = c->fd, .events = POLLOUT};
    return n;
}

void vsock_host_flush(struct vsock_device *device)
{
    struct pollfd polls[VSOCK_CONNECTIONS_MAX];
    uint64_t now = vsock_now_ms(), deadline = now + FLUSH_MS;
    nfds_t n;
    while (now < deadline && (n = send_all_out(device, polls)) > 0) {
        (void)poll(polls, n, (int)(deadline - now));
        now = vsock_now_ms();
    }
}

void vsock_host_write(struct vsock_connection *connection, struct vsock_iov *data)
{
    if (connection->our_shut & VSOCK_SHUT_RECEIVE)
        return; /* on its way when the host program went */
    if (!connection->out.len) {
        struct msghdr msg = {.msg_iov = data->iov, .msg_iovlen = data->n};
        ssize_t sent = data->n ? sendmsg(connection->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            unheard(connection);
            return;
        }
        if (sent > 0) {
            connection->credit.forwarded += (uint32_t)sent;
            vsock_iov_skip(data, (size_t)sent);
        }
    }
    if (data->n && vsock_buffer_put(&connection->out, data) < 0)
        fail(connection);
    else if (vsock_credit_due(&connection->credit))
        vsock_owe(connection, VSOCK_OWES_CREDIT);
    vsock_host_watch(connection);
}

static void on_host(void *ctx, uint32_t events)
{
    struct vsock_connection *connection = ctx;
    if (connection->state == VSOCK_HELLO) {
        hear_hello(connection);
        return;
    }
    if (connection->state == VSOCK_DRAINING) {
        drain(connection);
        return;
    }
    if (events & EPOLLOUT)
        forward(connection);
    bool left = events & (EPOLLHUP | EPOLLERR);
    if (left && connection->out.len)
        unheard(connection);
    if (connection->fd < 0)
        return;
    /* Bytes that it sent before it went are read first. */
    if (connection->state == VSOCK_OPEN && !(connection->our_shut & VSOCK_SHUT_SEND) &&
        events & (EPOLLIN | EPOLLHUP)) {
        connection->readable = true;
        vsock_make_ready(connection);
        if (left)
            loop_remove(take_ptr(connection->source));
    } else if (left && connection->state == VSOCK_REQUESTED) {
        leave_unanswered(connection);
    } else if (left) {
        vsock_host_gone(connection);
    }
    vsock_host_watch(connection);
}

void vsock_host_make_way(struct vsock_device *device)
{
    if (device->crowded && loop_modify(device->listener_source, EPOLLIN) == 0)
        device->crowded = false;
}

/** wait_for_way() - whoever waits there stays, and would be told of again and again. */
static void wait_for_way(struct vsock_device *device)
{
    device->crowded = loop_modify(device->listener_source, 0) == 0;
}

static void on_listener(void *ctx, uint32_t events)
{
    (void)events;
    struct vsock_device *device = ctx;
    _cleanup_close_ int fd = accept4(device->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
        wait_for_way(device);
    if (fd < 0)
        return;
    struct vsock_connection *connection = vsock_add(device, VSOCK_HELLO, 0, 0);
    if (!connection) {
        log_warn("a host program is refused: there are %u connections", VSOCK_CONNECTIONS_MAX);
        return;
    }
    connection->deadline_ms = vsock_now_ms() + HELLO_MS;
    if (take_host(connection, take_fd(&fd)) < 0)
        vsock_drop(connection);
    else
        vsock_host_watch(connection);
}

void vsock_host_ask(struct vsock_connection *connection)
{
    struct vsock_device *device = connection->device;
    uint32_t number = device->first_asked + device->n_asked;
    if (device->n_asked == VSOCK_CONNECTIONS_MAX ||
        vsock_connector_ask(&device->connector, number, connection->host_port) < 0) {
        fail(connection);
        return;
    }
    device->asked[number % VSOCK_CONNECTIONS_MAX] =
        (struct vsock_question){.connection = connection, .port = connection->host_port};
    device->n_asked++;
}

/** oldest() - the question that is to be answered next. */
static const struct vsock_question *oldest(const struct vsock_device *device)
{
    return &device->asked[device->first_asked % VSOCK_CONNECTIONS_MAX];
}

/** answered() - the oldest question. @fd: the host's side, or -errno. */
static void answered(struct vsock_device *device, int fd)
{
    struct vsock_connection *connection = oldest(device)->connection;
    device->first_asked++;
    device->n_asked--;
    if (!connection) {
        if (fd >= 0)
            close(fd);
        return;
    }
    if (fd < 0 || take_host(connection, fd) < 0) {
        fail(connection);
        return;
    }
    connection->state = VSOCK_OPEN;
    vsock_owe(connection, VSOCK_OWES_RESPONSE);
    vsock_host_shut(connection); /* what the guest has said meanwhile */
}

/** lose_connector() - @why: -EPIPE if it has ended, -EPROTO if it does not answer what it was asked. */
static void lose_connector(struct vsock_device *device, int why)
{
    log_error("the process that connects to host programs %s: the guest cannot begin connections",
              why == -EPIPE ? "has ended" : "answers what it was not asked");
    loop_remove(take_ptr(device->connector_source));
    vsock_connector_leave(&device->connector);
    while (device->n_asked)
        answered(device, why);
}

static void on_connector(void *ctx, uint32_t events)
{
    (void)events;
    struct vsock_device *device = ctx;
    struct vsock_answer answer;
    int ret = vsock_connector_answer(&device->connector, &answer);
    if (ret > 0 && (!device->n_asked || answer.number != device->first_asked ||
                    answer.port != oldest(device)->port)) {
        cleanup_close(&answer.result);
        ret = -EPROTO;
    }
    if (ret < 0)
        lose_connector(device, ret);
    else if (ret > 0)
        answered(device, answer.result);
}

int vsock_host_start(struct vsock_device *device)
{
    if (device->listener >= 0) {
        device->listener_source =
            loop_add(device->loop, device->listener, EPOLLIN, on_listener, device);
        if (!device->listener_source)
            return -errno;
    }
    if (device->connector.fd < 0)
        return 0;
    device->connector_source =
        loop_add(device->loop, device->connector.fd, EPOLLIN, on_connector, device);
    return device->connector_source ? 0 : -errno;
}

void vsock_host_expire(struct vsock_device *device, uint64_t now_ms)
{
    vsock_host_make_way(device);
    for (size_t i = 0; i < ARRAY_SIZE(device->buckets); i++) {
        struct vsock_connection *next;
        for (struct vsock_connection *c = device->buckets[i]; c; c = next) {
            next = c->next;
            if (!c->deadline_ms || c->deadline_ms > now_ms)
                continue;
            if (!vsock_has_ports(c))
                vsock_drop(c);
            else
                fail(c);
        }
    }
}
