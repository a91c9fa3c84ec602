#include "vmm/console_link.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Of output, taken from the socket at once: other sources of the loop have their turn in between. */
#define OUTPUT_BYTES 16384
/*
 * Whoever reads the endpoint is waited for as long as it takes SLOW_BYTES in SLOW_MS, somewhat more than a serial line
 * carries. One that is slower, or reads nothing, loses the oldest bytes instead: it holds up no guest.
 */
#define SLOW_BYTES 8192
#define SLOW_MS 500

struct console_link {
    int fd;         /* our end */
    int backend_fd; /* the other, until the broker has it */
    int size_fd;    /* a memfd: columns and rows, 16 bits each */
    int change_fd;  /* an eventfd */
    int winch_fd;   /* SIGWINCH; -1: not a terminal */
    int slow_fd;    /* a timer, set while a reader is waited for */
    struct chardev *chardev;
    struct loop_source *source, *winch_source, *slow_source;
    bool input_waits; /* for room in the socket */
    bool held;        /* output stays in the socket until a reader has taken what is before it */
    bool too_slow;    /* the reader is not waited for until it has made room */
    uint64_t taken;   /* by the reader when the timer was set */
};

struct console_link *console_link_new(struct error *err)
{
    struct console_link *link = malloc(sizeof(*link));
    int pair[2];
    if (!link || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        error_set_errno(err, link ? -errno : -ENOMEM, "could not make the console's socket");
        free(link);
        return NULL;
    }
    *link =
        (struct console_link){.fd = pair[0], .backend_fd = pair[1], .winch_fd = -1, .slow_fd = -1};
    link->size_fd = memfd_create("console-size", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    link->change_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* The back-end can write to it, and fill memory with it no more than without. */
    if (link->size_fd < 0 || link->change_fd < 0 || ftruncate(link->size_fd, 4) < 0 ||
        fcntl(link->size_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        error_set_errno(err, -errno, "could not make the console's window");
        console_link_free(link);
        return NULL;
    }
    return link;
}

void console_link_lend(const struct console_link *link, struct broker_lent *lent)
{
    lent->console[BROKER_CONSOLE_DATA] = link->backend_fd;
    lent->console[BROKER_CONSOLE_SIZE] = link->size_fd;
    lent->console[BROKER_CONSOLE_CHANGE] = link->change_fd;
}

void console_link_broker_started(struct console_link *link)
{
    cleanup_close(&link->backend_fd);
    link->backend_fd = -1;
}

/** watch() - the socket, for what matters now. */
static void watch(struct console_link *link)
{
    uint32_t events =
        (link->held ? 0 : (uint32_t)EPOLLIN) | (link->input_waits ? (uint32_t)EPOLLOUT : 0);
    if (link->source)
        (void)loop_modify(link->source, events);
}

/** set_timer() - or unset it. */
static void set_timer(struct console_link *link, bool on)
{
    const struct itimerspec time = {.it_value = {.tv_nsec = on ? SLOW_MS * 1000000 : 0}};
    link->taken = chardev_taken(link->chardev);
    (void)timerfd_settime(link->slow_fd, 0, &time, NULL);
}

/** look_at_reader() - hold output back, or let it go on. Returns whether it is held. */
static bool look_at_reader(struct console_link *link)
{
    bool room = chardev_room(link->chardev) >= OUTPUT_BYTES;
    if (room)
        link->too_slow = false;
    bool hold = !room && !link->too_slow;
    if (hold != link->held) {
        link->held = hold;
        set_timer(link, hold);
        watch(link);
    }
    return hold;
}

static void on_reader(void *ctx)
{
    (void)look_at_reader(ctx);
}

/** on_slow() - a reader was waited for so long. */
static void on_slow(void *ctx, uint32_t events)
{
    (void)events;
    struct console_link *link = ctx;
    uint64_t count;
    if (read(link->slow_fd, &count, sizeof(count)) != (ssize_t)sizeof(count) || !link->held)
        return;
    link->too_slow = chardev_taken(link->chardev) - link->taken < SLOW_BYTES;
    if (look_at_reader(link))
        set_timer(link, true);
}

/** pass_output() - once. Returns whether there may be more. */
static bool pass_output(struct console_link *link)
{
    uint8_t data[OUTPUT_BYTES];
    ssize_t n = recv(link->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n > 0)
        chardev_write(link->chardev, data, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

static void on_link(void *ctx, uint32_t events)
{
    struct console_link *link = ctx;
    if (events & EPOLLIN && !look_at_reader(link))
        pass_output(link);
    if (events & EPOLLOUT) {
        link->input_waits = false;
        watch(link);
        chardev_input_ready(link->chardev);
    }
    /* The broker is gone, and the back-ends with it. */
    if ((events & (EPOLLHUP | EPOLLERR)) && !pass_output(link)) {
        loop_remove(link->source);
        link->source = NULL;
    }
}

/** pass_input() - for chardev_input. */
static size_t pass_input(void *ctx, const uint8_t *data, size_t len)
{
    struct console_link *link = ctx;
    ssize_t n = send(link->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EINTR)
        return len; /* there will never be anybody to take it */
    link->input_waits = true;
    watch(link);
    return 0;
}

/** take_window() - of the terminal, for the back-end to see. */
static void take_window(struct console_link *link)
{
    struct winsize window = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) < 0 &&
        ioctl(STDIN_FILENO, TIOCGWINSZ, &window) < 0)
        return;
    const uint16_t size[2] = {window.ws_col, window.ws_row};
    if (pwrite(link->size_fd, size, sizeof(size), 0) == (ssize_t)sizeof(size))
        fd_signal(link->change_fd);
}

static void on_winch(void *ctx, uint32_t events)
{
    (void)events;
    struct console_link *link = ctx;
    struct signalfd_siginfo info;
    if (read(link->winch_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        take_window(link);
}

static int watch_window(struct console_link *link, struct loop *loop, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    int code = pthread_sigmask(SIG_BLOCK, &set, NULL);
    link->winch_fd = code ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (link->winch_fd >= 0)
        link->winch_source = loop_add(loop, link->winch_fd, EPOLLIN, on_winch, link);
    if (!link->winch_source)
        return error_set_errno(err, code ? -code : -errno,
                               "--console: the terminal's window could not be watched");
    take_window(link);
    return 0;
}

int console_link_attach(struct console_link *link, struct chardev *chardev, bool tty,
                        struct loop *loop, struct error *err)
{
    link->chardev = chardev;
    link->source = loop_add(loop, link->fd, EPOLLIN, on_link, link);
    link->slow_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (link->slow_fd >= 0)
        link->slow_source = loop_add(loop, link->slow_fd, EPOLLIN, on_slow, link);
    if (!link->source || !link->slow_source)
        return error_set_errno(err, -errno, "--console: could not be watched");
    chardev_set_input(chardev, pass_input, link);
    chardev_set_reader(chardev, on_reader, link);
    return tty ? watch_window(link, loop, err) : 0;
}

/** pass_rest() - what is still in the socket; a reader that is there is waited for as in chardev_close(), until once it does not read. */
static void pass_rest(struct console_link *link)
{
    bool waits = true;
    chardev_set_input(link->chardev, NULL, NULL);
    chardev_set_reader(link->chardev, NULL, NULL);
    do {
        if (waits && chardev_room(link->chardev) < OUTPUT_BYTES)
            waits = chardev_flush(link->chardev);
    } while (pass_output(link));
}

void console_link_free(struct console_link *link)
{
    if (!link)
        return;
    if (link->chardev)
        pass_rest(link);
    loop_remove(link->source);
    loop_remove(link->winch_source);
    loop_remove(link->slow_source);
    cleanup_close(&link->fd);
    cleanup_close(&link->backend_fd);
    cleanup_close(&link->size_fd);
    cleanup_close(&link->change_fd);
    cleanup_close(&link->winch_fd);
    cleanup_close(&link->slow_fd);
    free(link);
}
