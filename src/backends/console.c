/* A virtio console over descriptors that are given, or over its own standard input and output. */
#include "backends/console.h"

#include "base/bytes.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

enum option_id { OPT_DATA_FD = BACKEND_OPTION_FIRST, OPT_SIZE_FD, OPT_CHANGE_FD, OPT_NULL };

struct console {
    int data_fd; /* -1: not given */
    bool null;
    struct console_device device;
};

/* The terminal that was made raw: at most one, and signal handlers must reach it. */
static struct termios saved_termios;
static volatile sig_atomic_t termios_saved;

/* All that end a process which does nothing about them (signal(7)), but SIGKILL and what main.c takes. */
static const int fatal_signals[] = {
    SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT, SIGHUP,    SIGQUIT,   SIGSYS, SIGTRAP, SIGUSR1,
    SIGUSR2, SIGALRM, SIGXCPU, SIGXFSZ, SIGPROF, SIGVTALRM, SIGSTKFLT, SIGIO,  SIGPWR,
};
static struct sigaction handlers_before[ARRAY_SIZE(fatal_signals)];

static const struct option long_options[] = {
    {"data-fd", required_argument, NULL, OPT_DATA_FD},
    {"size-fd", required_argument, NULL, OPT_SIZE_FD},
    {"change-fd", required_argument, NULL, OPT_CHANGE_FD},
    {"null", no_argument, NULL, OPT_NULL},
    {0},
};

static const char help[] =
    "  --data-fd N          where input comes from and output goes to (standard input and output)\n"
    "  --size-fd N          a file whose first four bytes are columns and rows, or a terminal\n"
    "  --change-fd N        an eventfd that says that the size is another\n"
    "  --null               no input, and output is dropped\n";

struct console_window console_window(const struct console_device *device)
{
    struct console_window window = {0};
    struct winsize size = {0};
    if (device->size_tty && ioctl(device->size_fd, TIOCGWINSZ, &size) == 0)
        window = (struct console_window){size.ws_col, size.ws_row};
    else if (device->size_fd >= 0 && !device->size_tty &&
             pread(device->size_fd, &window, sizeof(window), 0) != (ssize_t)sizeof(window))
        window = (struct console_window){0};
    return window;
}

static void run(void *device, struct vu_queue *queue)
{
    console_run(device, queue);
}

static int config_read(void *opaque, uint32_t offset, void *data, uint32_t len)
{
    struct console_window window = console_window(opaque);
    struct console_config_space space = {
        .cols = window.cols, .rows = window.rows, .max_nr_ports = 1};
    if (!range_within(offset, len, sizeof(space)))
        return -EINVAL;
    memcpy(data, (const uint8_t *)&space + offset, len);
    return 0;
}

static const struct vu_backend_ops ops = {.run = run, .config_read = config_read};

static void *create(void)
{
    struct console *console = calloc(1, sizeof(*console));
    if (!console)
        return NULL;
    console->data_fd = -1;
    console->device = (struct console_device){
        .in_fd = -1,
        .out_fd = -1,
        .size_fd = -1,
        .change_fd = -1,
    };
    return console;
}

static int set(void *state, int val, const char *value, struct error *err)
{
    struct console *console = state;
    if (val == OPT_NULL) {
        console->null = true;
        return 0;
    }
    uint64_t fd;
    if (units_parse_size(value, &fd) < 0 || fd > INT_MAX)
        return error_set(err, -EINVAL, "'%s' is not a descriptor", value);
    int *place = val == OPT_DATA_FD   ? &console->data_fd
                 : val == OPT_SIZE_FD ? &console->device.size_fd
                                      : &console->device.change_fd;
    *place = (int)fd;
    return 0;
}

static void restore_terminal(void)
{
    if (!termios_saved)
        return;
    termios_saved = 0;
    /* In the background, changing the terminal would stop us; blocked, the signal is not sent. */
    sigset_t ttou, old;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &old);
    tcsetattr(STDIN_FILENO, TCSANOW, &saved_termios);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/** on_fatal() - restore the terminal, then whatever was to be done before, and end. */
static void on_fatal(int signal)
{
    restore_terminal();
    for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
        const struct sigaction *before = &handlers_before[i];
        if (fatal_signals[i] == signal && before->sa_handler != SIG_DFL &&
            before->sa_handler != SIG_IGN && !(before->sa_flags & SA_SIGINFO))
            before->sa_handler(signal);
    }
    _exit(128 + signal);
}

/** make_raw() - with the way back for every end that a process hears of. */
static void make_raw(void)
{
    const struct sigaction action = {.sa_handler = on_fatal};
    struct termios raw = saved_termios;
    for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
        sigaction(fatal_signals[i], &action, &handlers_before[i]);
    cfmakeraw(&raw);
    termios_saved = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/** use_terminal() - standard input: raw until the end, and its window is the guest's. */
static int use_terminal(struct console *console, struct error *err)
{
    sigset_t winch;
    sigemptyset(&winch);
    sigaddset(&winch, SIGWINCH);
    pthread_sigmask(SIG_BLOCK, &winch, NULL); /* before there are threads */
    console->device.change_fd = signalfd(-1, &winch, SFD_CLOEXEC | SFD_NONBLOCK);
    console->device.size_fd = STDIN_FILENO;
    console->device.size_tty = true;
    if (console->device.change_fd < 0 || tcgetattr(STDIN_FILENO, &saved_termios) < 0)
        return error_set_errno(err, -errno, "the terminal cannot be used");
    make_raw();
    return 0;
}

static bool is_socket(int fd)
{
    int type;
    socklen_t len = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static int open_console(void *state, struct vu_backend *backend, struct error *err)
{
    struct console *console = state;
    struct console_device *device = &console->device;
    if (console->null && console->data_fd >= 0)
        return error_set(err, -EINVAL, "give either --data-fd or --null");
    int ret = 0;
    if (!console->null) {
        device->in_fd = console->data_fd >= 0 ? console->data_fd : STDIN_FILENO;
        device->out_fd = console->data_fd >= 0 ? console->data_fd : STDOUT_FILENO;
        if (fcntl(device->in_fd, F_GETFD) < 0 || fcntl(device->out_fd, F_GETFD) < 0)
            return error_set_errno(err, -errno, "there is no descriptor for input and output");
        device->in_socket = is_socket(device->in_fd);
        device->out_socket = is_socket(device->out_fd);
        if (console->data_fd < 0 && device->size_fd < 0 && isatty(STDIN_FILENO))
            ret = use_terminal(console, err);
    }
    backend->ops = &ops;
    backend->device = device;
    backend->features = CONSOLE_F_SIZE;
    backend->n_queues = CONSOLE_QUEUES;
    backend->queue_size = CONSOLE_QUEUE_SIZE_MAX;
    backend->config_len = sizeof(struct console_config_space);
    backend->in_order = true;
    return ret == -EINVAL ? -EIO : ret; /* -EINVAL is for options alone */
}

static void destroy(void *state)
{
    restore_terminal();
    free(state);
}

const struct backend_kind console_kind = {
    .name = "console",
    .role = CAGE_CONSOLE,
    .summary = "a terminal (hvc0)",
    .help = help,
    .options = long_options,
    .create = create,
    .set = set,
    .open = open_console,
    .destroy = destroy,
};
