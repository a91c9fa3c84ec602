/* How each kind of console endpoint is opened, connected and closed. */
#include "devices/chardev_internal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "devices/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* What waits for a reader that is there, and what is kept for one that has yet to come. */
#define QUEUE_TTY MIB(1)
#define QUEUE_LATER KIB(64)
#define FLUSH_MS_DEFAULT 1000
#define PTY_EMPTY_LOOKS 25 /* 2 ms apart */

/**
 * reopen() - @fd's terminal or pipe as an open file of our own, so that O_NONBLOCK is not forced on everybody who shares
 * standard input and output. Falls back to a duplicate.
 */
static int reopen(int fd, int flags)
{
    struct stat st;
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode))) {
        int own = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0)
            return own;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static bool is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/** can_be_watched() - whether epoll takes @fd: a regular file and /dev/null are always ready instead. */
static bool can_be_watched(struct loop *loop, int fd)
{
    struct loop_source *source = loop_add(loop, fd, 0, NULL, NULL);
    loop_remove(source);
    return source;
}

static void on_job_signal(void *ctx, uint32_t events)
{
    (void)events;
    terminal_on_signal(((struct chardev *)ctx)->job_fd);
}

/** take_terminal() - for as long as husk is not stopped. */
static int take_terminal(struct chardev *chardev, struct error *err)
{
    chardev->raw = terminal_take();
    if (!chardev->raw)
        return 0;
    chardev->job_fd = terminal_signals();
    if (chardev->job_fd >= 0)
        chardev->job_source =
            loop_add(chardev->loop, chardev->job_fd, EPOLLIN, on_job_signal, chardev);
    return chardev->job_source
               ? 0
               : error_set_errno(err, chardev->job_fd < 0 ? chardev->job_fd : -errno,
                                 "%s: signals could not be watched", chardev->name);
}

static int open_tty(struct chardev *chardev, struct error *err)
{
    chardev->queue_size = QUEUE_TTY;
    chardev->out_fd = reopen(STDOUT_FILENO, O_WRONLY);
    if (chardev->out_fd < 0)
        return error_set_errno(err, -errno, "%s: standard output cannot be used", chardev->name);
    chardev->out_socket = is_socket(chardev->out_fd);
    chardev->out_file = !can_be_watched(chardev->loop, chardev->out_fd);
    bool terminal = isatty(STDIN_FILENO);
    /* -1: not our controlling terminal, so no job control on it either. */
    pid_t foreground = terminal ? tcgetpgrp(STDIN_FILENO) : -1;
    if (foreground >= 0 && foreground != getpgrp()) {
        log_info("%s: husk runs in the background and reads nothing from the terminal",
                 chardev->name);
        return 0;
    }
    /* Without a standard input the guest simply gets none. */
    chardev->in_fd = reopen(STDIN_FILENO, O_RDONLY);
    if (chardev->in_fd >= 0)
        chardev->in_file = !can_be_watched(chardev->loop, chardev->in_fd);
    if (terminal)
        return take_terminal(chardev, err);
    return 0;
}

/**
 * open_pty() - the slave stays open here, so that its users may come and go: the kernel keeps what does not fit our queue's
 * reader yet, and the master never reports a hang-up.
 */
static int open_pty(struct chardev *chardev, struct error *err)
{
    chardev->queue_size = QUEUE_LATER;
    char path[64];
    chardev->in_fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (chardev->in_fd < 0 || grantpt(chardev->in_fd) < 0 || unlockpt(chardev->in_fd) < 0 ||
        ptsname_r(chardev->in_fd, path, sizeof(path)) != 0)
        return error_set_errno(err, -errno, "%s: could not make a pseudo-terminal", chardev->name);
    chardev->slave_fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios raw;
    if (chardev->slave_fd < 0 || tcgetattr(chardev->slave_fd, &raw) < 0)
        return error_set_errno(err, -errno, "%s: could not open '%s'", chardev->name, path);
    cfmakeraw(&raw);
    tcsetattr(chardev->slave_fd, TCSANOW, &raw);
    chardev->out_fd = fcntl(chardev->in_fd, F_DUPFD_CLOEXEC, 3);
    chardev->path = strdup(path);
    if (chardev->out_fd < 0 || !chardev->path)
        return error_set_errno(err, -errno, "%s: could not use '%s'", chardev->name, path);
    /* Whoever starts husk has to know, whatever the log level. */
    fprintf(stderr, "husk: %s is at %s\n", chardev->name, path);
    log_info("%s is at %s", chardev->name, path);
    return 0;
}

/** refuse_silent() - a path that ENXIO was the answer to: a FIFO without a reader, or a socket. */
static int refuse_silent(const struct chardev *chardev, const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return error_set(err, -ENXIO, "%s: nobody reads from '%s'", chardev->name, path);
    error_set(err, -ENXIO, "%s: '%s' is a socket, not a file", chardev->name, path);
    return error_hint(err, "socket=PATH makes one that a client connects to");
}

static int open_output_file(struct chardev *chardev, const char *path, struct error *err)
{
    chardev->queue_size = QUEUE_LATER;
    /* Of a FIFO: without a reader an error, not a wait; with one that does not read, no wait either. */
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_CLOEXEC | O_NONBLOCK;
    chardev->out_fd = open(path, flags, 0600);
    if (chardev->out_fd < 0 && errno == ENXIO)
        return refuse_silent(chardev, path, err);
    if (chardev->out_fd < 0)
        return error_set_errno(err, -errno, "%s: could not open '%s'", chardev->name, path);
    chardev->out_file = !can_be_watched(chardev->loop, chardev->out_fd);
    return 0;
}

void chardev_disconnected(struct chardev *chardev)
{
    loop_remove(chardev->in_source);
    loop_remove(chardev->out_source);
    chardev->in_source = chardev->out_source = NULL;
    pthread_mutex_lock(&chardev->lock);
    cleanup_close(&chardev->out_fd);
    chardev->out_fd = -1;
    chardev->gone = false;
    pthread_mutex_unlock(&chardev->lock);
    cleanup_close(&chardev->in_fd);
    chardev->in_fd = -1;
    chardev->half_closed = false;
    log_info("%s: the client is gone", chardev->name);
}

static void on_connect(void *ctx, uint32_t events)
{
    (void)events;
    struct chardev *chardev = ctx;
    int fd = accept4(chardev->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    /* A client whose input the guest does not take is not read from, so that its leaving shows here first. */
    struct pollfd old = {.fd = chardev->in_fd};
    if (chardev->in_fd >= 0 && poll(&old, 1, 0) == 1 && (old.revents & (POLLHUP | POLLERR)))
        chardev_disconnected(chardev);
    int out_fd = chardev->in_fd < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (out_fd < 0) {
        log_info("%s: another client was turned away", chardev->name);
        close(fd);
        return;
    }
    log_info("%s: a client has connected", chardev->name);
    chardev->in_fd = fd;
    pthread_mutex_lock(&chardev->lock);
    chardev->out_fd = out_fd;
    chardev->out_socket = true;
    chardev_drain(chardev);
    pthread_mutex_unlock(&chardev->lock);
    chardev_refresh(chardev);
}

static int open_socket(struct chardev *chardev, int fd, struct error *err)
{
    chardev->queue_size = QUEUE_LATER;
    chardev->listen_fd = fd;
    chardev->listen_source = loop_add(chardev->loop, fd, EPOLLIN, on_connect, chardev);
    if (!chardev->listen_source)
        return error_set_errno(err, -errno, "%s: could not watch its socket", chardev->name);
    return 0;
}

static int open_mode(struct chardev *chardev, const struct chardev_params *params,
                     struct error *err)
{
    switch (chardev->mode) {
    case CHARDEV_TTY:
        return open_tty(chardev, err);
    case CHARDEV_PTY:
        return open_pty(chardev, err);
    case CHARDEV_FILE:
        return open_output_file(chardev, params->path, err);
    default:
        return open_socket(chardev, params->listen_fd, err);
    }
}

struct chardev *chardev_open(const struct chardev_params *params, struct loop *loop,
                             struct error *err)
{
    struct chardev *chardev = calloc(1, sizeof(*chardev));
    if (!chardev) {
        error_set(err, -ENOMEM, "%s: out of memory", params->name);
        return NULL;
    }
    chardev->mode = params->mode;
    chardev->name = params->name;
    chardev->flush_ms = params->flush_ms ? (long)params->flush_ms : FLUSH_MS_DEFAULT;
    chardev->loop = loop;
    chardev->in_fd = chardev->out_fd = chardev->listen_fd = chardev->slave_fd = -1;
    chardev->job_fd = -1;
    pthread_mutex_init(&chardev->lock, NULL);
    chardev->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (chardev->wake_fd >= 0)
        chardev->wake_source = loop_add(loop, chardev->wake_fd, EPOLLIN, chardev_on_wake, chardev);
    int ret = 0;
    if (!chardev->wake_source)
        ret = error_set_errno(err, -errno, "%s: could not be set up", params->name);
    if (ret == 0)
        ret = open_mode(chardev, params, err);
    if (ret < 0) {
        chardev_close(chardev);
        return NULL;
    }
    return chardev;
}

static long milliseconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}

/** pty_has_user() - whether anybody but us has the slave open: without our own descriptor the master would hang up. */
static bool pty_has_user(struct chardev *chardev)
{
    cleanup_close(&chardev->slave_fd);
    struct pollfd poll_fd = {.fd = chardev->in_fd, .events = 0};
    bool alone = poll(&poll_fd, 1, 0) == 1 && poll_fd.revents & POLLHUP;
    /* By the master: no path can be opened any more. */
    chardev->slave_fd = ioctl(chardev->in_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return !alone && chardev->slave_fd >= 0;
}

/**
 * wait_for_pty() - until its user has read what the kernel holds: closing the master discards that. Nothing tells when
 * another process has read, and what is on its way from master to slave counts on neither side: so it is looked at
 * again and again, and has to stay empty for a while.
 */
static void wait_for_pty(const struct chardev *chardev, const struct timespec *start)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    int unread;
    unsigned empty = 0;
    while (ioctl(chardev->slave_fd, FIONREAD, &unread) == 0 && empty < PTY_EMPTY_LOOKS &&
           milliseconds_since(start) < chardev->flush_ms) {
        empty = unread ? 0 : empty + 1;
        nanosleep(&pause, NULL);
    }
}

bool chardev_flush(struct chardev *chardev)
{
    if (chardev->mode == CHARDEV_PTY && (!chardev->path || !pty_has_user(chardev)))
        return false;
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_mutex_lock(&chardev->lock);
    for (;;) {
        chardev_drain(chardev);
        long spent = milliseconds_since(&start);
        struct pollfd poll_fd = {.fd = chardev->out_fd, .events = POLLOUT};
        if (!chardev->queue_len || chardev->out_fd < 0 || spent >= chardev->flush_ms ||
            poll(&poll_fd, 1, (int)(chardev->flush_ms - spent)) <= 0)
            break;
    }
    bool all = !chardev->queue_len;
    pthread_mutex_unlock(&chardev->lock);
    if (chardev->mode == CHARDEV_PTY)
        wait_for_pty(chardev, &start);
    return all;
}

void chardev_close(struct chardev *chardev)
{
    if (!chardev)
        return;
    (void)chardev_flush(chardev);
    if (chardev->dropped)
        log_message(chardev->mode == CHARDEV_TTY ? LOG_WARN : LOG_INFO,
                    "%s: %" PRIu64 " bytes of output were dropped: nobody read them in time",
                    chardev->name, chardev->dropped);
    if (chardev->raw)
        terminal_restore();
    loop_remove(chardev->in_source);
    loop_remove(chardev->out_source);
    loop_remove(chardev->wake_source);
    loop_remove(chardev->listen_source);
    loop_remove(chardev->job_source);
    cleanup_close(&chardev->job_fd);
    cleanup_close(&chardev->in_fd);
    cleanup_close(&chardev->out_fd);
    cleanup_close(&chardev->listen_fd);
    cleanup_close(&chardev->slave_fd);
    cleanup_close(&chardev->wake_fd);
    pthread_mutex_destroy(&chardev->lock);
    free(chardev->queue);
    free(chardev->path);
    free(chardev);
}
