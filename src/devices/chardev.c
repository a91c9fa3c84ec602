#include "devices/chardev_internal.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/** wake() - have the loop thread refresh; from any thread. */
static void wake(struct chardev *chardev)
{
    uint64_t one = 1;
    if (write(chardev->wake_fd, &one, sizeof(one)) < 0)
        log_debug("%s: the event loop could not be woken: %s", chardev->name, strerror(errno));
}

/** write_some() - what one write takes. Returns its size, 0 if nothing goes now, or -errno. The lock is held. */
static ssize_t write_some(struct chardev *chardev, const uint8_t *data, size_t len)
{
    for (;;) {
        ssize_t n = chardev->out_socket
                        ? send(chardev->out_fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                        : write(chardev->out_fd, data, len);
        if (n >= 0) {
            chardev->taken += (uint64_t)n;
            return n;
        }
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

/** output_failed() - log the first write error; output is dropped from then on. The lock is held. */
static void output_failed(struct chardev *chardev, int code)
{
    if (!chardev->failed)
        log_warn("%s: output is lost from here on: %s", chardev->name, strerror(-code));
    chardev->failed = true;
}

/** enqueue() - behind what waits; the oldest bytes go if it does not fit. The lock is held. */
static void enqueue(struct chardev *chardev, const uint8_t *data, size_t len)
{
    if (!chardev->queue)
        chardev->queue = malloc(chardev->queue_size);
    if (!chardev->queue) {
        chardev->dropped += len;
        return;
    }
    if (len > chardev->queue_size) {
        chardev->dropped += len - chardev->queue_size;
        data += len - chardev->queue_size;
        len = chardev->queue_size;
    }
    size_t free_bytes = chardev->queue_size - chardev->queue_len;
    if (len > free_bytes) {
        size_t drop = len - free_bytes;
        chardev->queue_start = (chardev->queue_start + drop) % chardev->queue_size;
        chardev->queue_len -= drop;
        chardev->dropped += drop;
    }
    size_t end = (chardev->queue_start + chardev->queue_len) % chardev->queue_size;
    size_t first = MIN(len, chardev->queue_size - end);
    memcpy(chardev->queue + end, data, first);
    memcpy(chardev->queue, data + first, len - first);
    chardev->queue_len += len;
}

void chardev_drain(struct chardev *chardev)
{
    while (chardev->queue_len && chardev->out_fd >= 0) {
        size_t piece = MIN(chardev->queue_len, chardev->queue_size - chardev->queue_start);
        ssize_t n = write_some(chardev, chardev->queue + chardev->queue_start, piece);
        if (n < 0 && chardev->mode == CHARDEV_SOCKET) {
            chardev->gone = true; /* the next client gets what is queued */
            return;
        }
        if (n < 0) {
            output_failed(chardev, (int)n);
            chardev->dropped += chardev->queue_len;
            chardev->queue_len = 0;
            return;
        }
        if (n == 0)
            return;
        chardev->queue_start = (chardev->queue_start + (size_t)n) % chardev->queue_size;
        chardev->queue_len -= (size_t)n;
    }
}

void chardev_write(struct chardev *chardev, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    pthread_mutex_lock(&chardev->lock);
    bool idle = chardev->queue_len == 0;
    size_t written = 0;
    if (idle && chardev->out_fd >= 0 && !chardev->failed && !chardev->gone) {
        ssize_t n = write_some(chardev, bytes, len);
        if (n >= 0)
            written = (size_t)n;
        else if (chardev->mode == CHARDEV_SOCKET)
            chardev->gone = true;
        else
            output_failed(chardev, (int)n);
    }
    if (chardev->failed)
        chardev->dropped += len;
    else if (written < len)
        enqueue(chardev, bytes + written, len - written);
    /* A file takes part of a write only when its disk is full: the rest fails or goes, now. */
    if (chardev->out_file)
        chardev_drain(chardev);
    bool look = idle && chardev->queue_len && chardev->out_fd >= 0;
    pthread_mutex_unlock(&chardev->lock);
    if (look)
        wake(chardev);
}

/** offer() - what was read, to whoever takes input. Returns whether all of it was taken. */
static bool offer(struct chardev *chardev)
{
    while (chardev->pending_len && chardev->input) {
        size_t n = chardev->input(chardev->input_ctx, chardev->pending + chardev->pending_start,
                                  chardev->pending_len);
        if (n == 0)
            break;
        chardev->pending_start += n;
        chardev->pending_len -= n;
    }
    return chardev->pending_len == 0;
}

/** client_left() - whether a socket's client has closed both directions. */
static bool client_left(const struct chardev *chardev)
{
    struct pollfd client = {.fd = chardev->in_fd};
    return poll(&client, 1, 0) != 0;
}

/** end_of_input() - nothing more will come: from a client that left or only sends no more, or for good. */
static void end_of_input(struct chardev *chardev)
{
    if (chardev->mode == CHARDEV_SOCKET && client_left(chardev)) {
        chardev_disconnected(chardev);
        return;
    }
    if (chardev->mode == CHARDEV_SOCKET) {
        chardev->half_closed = true; /* it goes on taking output */
        loop_modify(chardev->in_source, 0);
        return;
    }
    loop_remove(chardev->in_source);
    chardev->in_source = NULL;
    close(chardev->in_fd);
    chardev->in_fd = -1;
}

/** fill() - read once. Returns whether there is something to offer. */
static bool fill(struct chardev *chardev)
{
    ssize_t n = read(chardev->in_fd, chardev->pending, sizeof(chardev->pending));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end_of_input(chardev);
        return false;
    }
    chardev->pending_start = 0;
    chardev->pending_len = (size_t)n;
    return true;
}

static void on_readable(void *ctx, uint32_t events)
{
    (void)events;
    struct chardev *chardev = ctx;
    if (chardev->pending_len == 0 && fill(chardev))
        offer(chardev);
    chardev_refresh(chardev);
}

static void on_writable(void *ctx, uint32_t events)
{
    (void)events;
    struct chardev *chardev = ctx;
    pthread_mutex_lock(&chardev->lock);
    chardev_drain(chardev);
    pthread_mutex_unlock(&chardev->lock);
    chardev_refresh(chardev);
    if (chardev->reads)
        chardev->reads(chardev->reads_ctx);
}

/** watch() - make *@source be there exactly if it is wanted. */
static void watch(struct chardev *chardev, struct loop_source **source, bool wanted, int fd,
                  uint32_t events, loop_callback callback)
{
    if (wanted && !*source) {
        *source = loop_add(chardev->loop, fd, events, callback, chardev);
        if (!*source)
            log_warn("%s: could not be watched: %s", chardev->name, strerror(errno));
    } else if (!wanted && *source) {
        loop_remove(*source);
        *source = NULL;
    }
}

void chardev_refresh(struct chardev *chardev)
{
    /* A file is read as fast as the guest takes it. */
    while (chardev->in_file && chardev->in_fd >= 0 && chardev->input && offer(chardev))
        if (!fill(chardev))
            break;

    bool takes_input = !chardev->in_file && chardev->input && chardev->pending_len == 0;
    bool want_in = chardev->in_fd >= 0 && (takes_input || chardev->half_closed);
    uint32_t in_events =
        chardev->half_closed ? 0 : EPOLLIN; /* 0: its leaving is told all the same */
    watch(chardev, &chardev->in_source, want_in, chardev->in_fd, in_events, on_readable);
    pthread_mutex_lock(&chardev->lock);
    /* A client that is gone takes nothing and would poll writable for ever. */
    bool want_out =
        chardev->out_fd >= 0 && chardev->queue_len && !chardev->gone && !chardev->out_file;
    int out_fd = chardev->out_fd;
    pthread_mutex_unlock(&chardev->lock);
    watch(chardev, &chardev->out_source, want_out, out_fd, EPOLLOUT, on_writable);
}

void chardev_set_input(struct chardev *chardev, chardev_input input, void *ctx)
{
    chardev->input = input;
    chardev->input_ctx = ctx;
    offer(chardev);
    chardev_refresh(chardev);
}

void chardev_set_reader(struct chardev *chardev, void (*reads)(void *ctx), void *ctx)
{
    chardev->reads = reads;
    chardev->reads_ctx = ctx;
}

size_t chardev_room(struct chardev *chardev)
{
    pthread_mutex_lock(&chardev->lock);
    bool nobody = chardev->out_fd < 0 || chardev->out_file || chardev->failed || chardev->gone;
    size_t room = nobody ? SIZE_MAX : chardev->queue_size - chardev->queue_len;
    pthread_mutex_unlock(&chardev->lock);
    return room;
}

uint64_t chardev_taken(struct chardev *chardev)
{
    pthread_mutex_lock(&chardev->lock);
    uint64_t taken = chardev->taken;
    pthread_mutex_unlock(&chardev->lock);
    return taken;
}

void chardev_input_ready(struct chardev *chardev)
{
    wake(chardev);
}

void chardev_on_wake(void *ctx, uint32_t events)
{
    (void)events;
    struct chardev *chardev = ctx;
    uint64_t count;
    if (read(chardev->wake_fd, &count, sizeof(count)) < 0)
        return;
    offer(chardev);
    chardev_refresh(chardev);
}

const char *chardev_pty_path(const struct chardev *chardev)
{
    return chardev->mode == CHARDEV_PTY ? chardev->path : NULL;
}
