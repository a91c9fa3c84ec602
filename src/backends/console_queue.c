/* The two queues of the console, a thread each. Neither waits for anything that the end of the thread does not end. */
#include "backends/console.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* How often to look for buffers of a driver that does not kick. */
#define UNKICKED_MS 10
/* Requests between two looks at whether to stop. */
#define BATCH_MAX 64
/* The most that is read or written at once, and where that might wait for a slow reader. */
#define PIECE_BYTES 65536u
#define PIECE_BYTES_BLOCKING 1024u

/* One queue's thread. */
struct port {
    struct console_device *device;
    struct vu_queue *queue;
    bool ended; /* nothing more comes in, or nobody takes what goes out */
    struct vu_chain chain;
    struct iovec iov[VU_CHAIN_IOV_MAX];
};

/** pop() - the next request. Returns 1, 0 or -errno as vu_queue_pop(). */
static int pop(struct port *port)
{
    port->chain = (struct vu_chain){.iov = port->iov, .iov_max = VU_CHAIN_IOV_MAX};
    return vu_queue_pop(port->queue, &port->chain);
}

/* What a thread with nothing to do waits for, beside its end. */
enum wait { WAIT_NOT, WAIT_KICK, WAIT_INPUT };

/** rest() - until there is what @wait says, or the window has another size. Returns false when it is time to stop. */
static bool rest(const struct port *port, enum wait wait, bool *resized)
{
    int kick_fd = vu_queue_kick_fd(port->queue), timeout = -1;
    struct pollfd fds[] = {
        {.fd = vu_queue_stop_fd(port->queue), .events = POLLIN},
        {.fd = wait == WAIT_KICK ? kick_fd : -1, .events = POLLIN},
        {.fd = wait == WAIT_INPUT && !port->ended ? port->device->in_fd : -1, .events = POLLIN},
        {.fd = resized ? port->device->change_fd : -1, .events = POLLIN},
    };
    if (wait == WAIT_NOT)
        timeout = 0;
    else if (wait == WAIT_KICK && kick_fd < 0)
        timeout = UNKICKED_MS;
    if (poll(fds, ARRAY_SIZE(fds), timeout) < 0)
        return true;
    uint64_t count;
    if (fds[1].revents)
        (void)!read(kick_fd, &count, sizeof(count));
    if (resized)
        *resized = fds[3].revents != 0;
    return fds[0].revents == 0;
}

/** piece_of() - @iov, of @n entries, as one piece of at most @room bytes in @piece. Returns its entries. */
static unsigned piece_of(struct iovec *piece, const struct iovec *iov, unsigned n, size_t room)
{
    for (unsigned i = 0; i < n; i++) {
        piece[i] = (struct iovec){iov[i].iov_base, MIN(iov[i].iov_len, room)};
        room -= piece[i].iov_len;
        if (!room)
            return i + 1;
    }
    return n;
}

/** look_at_input() - into the buffers of the request. Returns how much, 0 if nothing more comes, or -errno. */
static ssize_t look_at_input(struct port *port)
{
    const struct console_device *device = port->device;
    struct iovec iov[VU_CHAIN_IOV_MAX];
    unsigned n = piece_of(iov, port->iov + port->chain.n_out, port->chain.n_in, PIECE_BYTES);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
    ssize_t got;
    do
        got = device->in_socket ? recvmsg(device->in_fd, &msg, MSG_PEEK | MSG_DONTWAIT)
                                : readv(device->in_fd, iov, (int)n);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/** take_input() - out of the socket, now that the driver has it. */
static void take_input(const struct console_device *device, size_t len)
{
    uint8_t nowhere[4096];
    while (device->in_socket && len) {
        ssize_t n = recv(device->in_fd, nowhere, MIN(len, sizeof(nowhere)), MSG_DONTWAIT);
        if (n <= 0)
            return;
        len -= (size_t)n;
    }
}

/** receive() - one buffer of input. Returns whether there was a buffer, or -EPIPE if the ring is broken. */
static int receive(struct port *port)
{
    int ret = pop(port);
    if (ret <= 0)
        return ret < 0 ? -EPIPE : 0;
    ssize_t len = port->chain.in_len ? look_at_input(port) : 0;
    if (port->chain.in_len && len <= 0) {
        port->ended = len != -EAGAIN;
        vu_queue_unpop(port->queue, &port->chain);
        return 1;
    }
    vu_queue_push(port->queue, &port->chain, (uint32_t)len);
    vu_queue_notify(port->queue);
    take_input(port->device, (size_t)len);
    return 1;
}

/** tell_size() - have the driver read the configuration. A front-end without a channel for that never does. */
static void tell_size(const struct port *port)
{
    struct error err = ERROR_INIT;
    int ret = vu_queue_config_changed(port->queue, &err);
    if (ret < 0 && ret != -ENOTCONN)
        log_warn("the window's size could not be told: %s", err.message);
}

/** resize() - the window has another size. */
static void resize(const struct port *port)
{
    char event[128]; /* an eventfd's count, or a signal's description */
    if (read(port->device->change_fd, event, sizeof(event)) > 0)
        tell_size(port);
}

static bool input_waits(const struct port *port)
{
    struct pollfd in = {.fd = port->device->in_fd, .events = POLLIN};
    return !port->ended && in.fd >= 0 && poll(&in, 1, 0) > 0;
}

/** serve_input() - some buffers. Returns what to wait for then, or -EPIPE if the ring is broken. */
static int serve_input(struct port *port)
{
    for (unsigned i = 0; i < BATCH_MAX; i++) {
        if (!input_waits(port))
            return WAIT_INPUT;
        int ret = receive(port);
        if (ret < 0)
            return ret;
        if (ret == 0 && !vu_queue_want_kicks(port->queue, true))
            return WAIT_KICK;
    }
    return WAIT_NOT;
}

static void run_receive(struct port *port)
{
    struct console_window window = console_window(port->device);
    /* A driver that has just started has not looked at the size yet. */
    if (window.cols && window.rows)
        tell_size(port);
    for (;;) {
        bool resized = false;
        int wait = serve_input(port);
        if (wait < 0 || !rest(port, (enum wait)wait, &resized))
            return;
        if (resized)
            resize(port);
    }
}

/** skip() - the first @len bytes of @iov, of *@n entries. Returns the first entry that is left. */
static struct iovec *skip(struct iovec *iov, unsigned *n, size_t len)
{
    for (; *n && len >= iov->iov_len; iov++, (*n)--)
        len -= iov->iov_len;
    if (*n) {
        iov->iov_base = (uint8_t *)iov->iov_base + len;
        iov->iov_len -= len;
    }
    return iov;
}

/** write_piece() - of @iov, what goes without waiting. Returns how much, or -errno. */
static ssize_t write_piece(const struct console_device *device, const struct iovec *iov, unsigned n)
{
    struct iovec piece[VU_CHAIN_IOV_MAX];
    n = piece_of(piece, iov, n, device->out_socket ? PIECE_BYTES : PIECE_BYTES_BLOCKING);
    struct msghdr msg = {.msg_iov = piece, .msg_iovlen = n};
    ssize_t sent = device->out_socket ? sendmsg(device->out_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL)
                                      : writev(device->out_fd, piece, (int)n);
    return sent < 0 ? -errno : sent;
}

/**
 * write_out() - all of @iov, of @n entries, which is changed. What nobody takes any more is dropped.
 *
 * Return: 0; -ECANCELED if it is time to stop before it is all written.
 */
static int write_out(struct port *port, struct iovec *iov, unsigned n)
{
    struct pollfd fds[] = {
        {.fd = vu_queue_stop_fd(port->queue), .events = POLLIN},
        {.fd = port->device->out_fd, .events = POLLOUT},
    };
    bool stop = false;
    while (n && !port->ended && port->device->out_fd >= 0) {
        if (stop)
            return -ECANCELED;
        if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
            continue;
        stop = fds[0].revents != 0;
        if (!fds[1].revents)
            continue;
        ssize_t sent = write_piece(port->device, iov, n);
        if (sent > 0)
            iov = skip(iov, &n, (size_t)sent);
        if (sent >= 0 || sent == -EAGAIN || sent == -EINTR)
            continue;
        log_warn("output is lost from here on: %s", strerror((int)-sent));
        port->ended = true;
    }
    return 0;
}

/** transmit() - one request. Returns whether there was one; -ECANCELED or -EPIPE if the thread is to end. */
static int transmit(struct port *port)
{
    struct iovec left[VU_CHAIN_IOV_MAX];
    int ret = pop(port);
    if (ret <= 0)
        return ret < 0 ? -EPIPE : 0;
    memcpy(left, port->iov, port->chain.n_out * sizeof(left[0]));
    if (write_out(port, left, port->chain.n_out) < 0) {
        vu_queue_unpop(port->queue, &port->chain);
        return -ECANCELED;
    }
    vu_queue_push(port->queue, &port->chain, 0);
    return 1;
}

static void run_transmit(struct port *port)
{
    bool more;
    do {
        more = vu_queue_want_kicks(port->queue, true);
        int ret = more;
        for (unsigned i = 0; i < BATCH_MAX && ret > 0; i++)
            ret = transmit(port);
        if (more)
            vu_queue_notify(port->queue);
        if (ret < 0)
            return;
    } while (rest(port, more ? WAIT_NOT : WAIT_KICK, NULL));
}

void console_run(struct console_device *device, struct vu_queue *queue)
{
    struct port port = {.device = device, .queue = queue};
    if (vu_queue_index(queue) == CONSOLE_RECEIVE_QUEUE)
        run_receive(&port);
    else
        run_transmit(&port);
}
