#include "api/event_monitor.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct event_monitor {
    int fd; /* -1: events go nowhere */
    bool lost;
    struct timespec start;
    pthread_mutex_t lock;
};

static int open_target(const char *path, int fd, struct error *err)
{
    if (fd >= 0) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return error_set_errno(err, -errno, "--event-monitor: descriptor %d cannot be used",
                                   fd);
        if ((flags & O_ACCMODE) == O_RDONLY)
            return error_set(err, -EBADF, "--event-monitor: descriptor %d is not open for writing",
                             fd);
        return fd;
    }
    /* Non-blocking for the open alone: a FIFO without a reader is an error, not a wait. */
    int opened =
        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (opened < 0 && errno == ENXIO)
        return error_set(err, -ENXIO, "--event-monitor: nobody reads from '%s'", path);
    if (opened < 0)
        return error_set_errno(err, -errno, "--event-monitor: could not open '%s'", path);
    return opened;
}

struct event_monitor *event_monitor_open(const char *path, int fd, struct error *err)
{
    struct event_monitor *monitor = calloc(1, sizeof(*monitor));
    if (!monitor) {
        error_set(err, -ENOMEM, "out of memory for the event monitor");
        return NULL;
    }
    monitor->fd = -1;
    if (path || fd >= 0) {
        monitor->fd = open_target(path, fd, err);
        if (monitor->fd < 0) {
            free(monitor);
            return NULL;
        }
    }
    pthread_mutex_init(&monitor->lock, NULL);
    clock_gettime(CLOCK_MONOTONIC, &monitor->start);
    return monitor;
}

void event_monitor_close(struct event_monitor *monitor)
{
    if (!monitor)
        return;
    cleanup_close(&monitor->fd);
    pthread_mutex_destroy(&monitor->lock);
    free(monitor);
}

static void append_string(struct buf *line, const char *text)
{
    buf_append_u8(line, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            buf_printf(line, "\\%c", *p);
        else if (*p < 0x20)
            buf_printf(line, "\\u%04x", *p);
        else
            buf_append_u8(line, *p);
    }
    buf_append_u8(line, '"');
}

static void append_properties(struct buf *line, va_list args)
{
    const char *name = va_arg(args, const char *);
    if (!name) {
        buf_printf(line, "null");
        return;
    }
    for (const char *sep = "{"; name; sep = ",", name = va_arg(args, const char *)) {
        const char *value = va_arg(args, const char *);
        buf_printf(line, "%s", sep);
        append_string(line, name);
        buf_append_u8(line, ':');
        append_string(line, value ? value : "");
    }
    buf_append_u8(line, '}');
}

/** write_line() - the whole line or nothing; the lock is held. Returns whether it was written. */
static bool write_line(struct event_monitor *monitor, const struct buf *line)
{
    /* A pipe that polls writable takes PIPE_BUF bytes at once, and no line is longer than that. */
    struct pollfd poll_fd = {.fd = monitor->fd, .events = POLLOUT};
    if (poll(&poll_fd, 1, 0) != 1 || !(poll_fd.revents & POLLOUT))
        return false;
    return write(monitor->fd, line->data, line->len) == (ssize_t)line->len;
}

void event_emit(struct event_monitor *monitor, const char *source, const char *event, ...)
{
    if (!monitor || monitor->fd < 0)
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long nanos = (now.tv_sec - monitor->start.tv_sec) * 1000000000ll +
                      (now.tv_nsec - monitor->start.tv_nsec);

    _cleanup_buf_ struct buf line = BUF_INIT;
    buf_printf(&line,
               "{\"timestamp\":{\"secs\":%lld,\"nanos\":%lld},\"source\":", nanos / 1000000000,
               nanos % 1000000000);
    append_string(&line, source);
    buf_printf(&line, ",\"event\":");
    append_string(&line, event);
    buf_printf(&line, ",\"properties\":");
    va_list args;
    va_start(args, event);
    append_properties(&line, args);
    va_end(args);
    buf_printf(&line, "}\n");

    pthread_mutex_lock(&monitor->lock);
    bool written = !buf_failed(&line) && write_line(monitor, &line);
    bool first = !written && !monitor->lost;
    monitor->lost |= !written;
    pthread_mutex_unlock(&monitor->lock);
    if (first)
        log_warn(
            "event monitor: the event %s/%s could not be delivered; later ones may be missing too",
            source, event);
}
