/* husk-backend: one virtio device in a process of its own, served to any vhost-user front-end. */
#include "backends/blk.h"
#include "backends/console.h"
#include "backends/net.h"
#include "backends/rng.h"
#include "backends/vsock.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/units.h"
#include "sandbox/cage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { STATUS_ENDED = 0, STATUS_ERROR = 1, STATUS_USAGE = 2 };

/* Ended by NULL. */
static const struct backend_kind *const kinds[] = {
    &blk_kind, &console_kind, &rng_kind, &net_kind, &vsock_kind, NULL,
};

enum {
    OPTION_SOCKET = 1,
    OPTION_FD,
    OPTION_NAME,
    OPTION_LOG_FORMAT,
    OPTION_SECCOMP,
    OPTION_ROOT_FD,
    OPTION_PID,
    OPTION_HELP
};

static const struct option common_options[] = {
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"fd", required_argument, NULL, OPTION_FD},
    {"name", required_argument, NULL, OPTION_NAME},
    {"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
    {"seccomp", required_argument, NULL, OPTION_SECCOMP},
    /* The broker's, not for people: a mount namespace to go into, and which process this is to the host. */
    {"root-fd", required_argument, NULL, OPTION_ROOT_FD},
    {"pid", required_argument, NULL, OPTION_PID},
    {"help", no_argument, NULL, OPTION_HELP},
};

#define OPTIONS_MAX 64
/* That wait for the one which is served to end. */
#define FRONT_ENDS_MAX 4

struct settings {
    const char *socket, *name;
    int fd;      /* -1 without --fd */
    int root_fd; /* -1 without --root-fd */
    unsigned verbosity;
    enum seccomp_mode seccomp;
    bool help;
};

static void print_overview(void)
{
    puts("usage: husk backend KIND (--socket PATH | --fd N) [OPTION]...\n"
         "\n"
         "Serves a virtio device to a vhost-user front-end: husk or any other VMM.\n"
         "\n"
         "Kinds:");
    for (size_t i = 0; kinds[i]; i++)
        printf("  %-7s %s\n", kinds[i]->name, kinds[i]->summary);
    puts("\n`husk backend KIND --help` lists the options of one.");
}

static void print_help(const struct backend_kind *kind)
{
    printf(
        "usage: husk backend %s (--socket PATH | --fd N) [OPTION]...\n"
        "\n"
        "%s.\n"
        "\n"
        "  --socket PATH        listen there and serve one front-end after another until SIGTERM\n"
        "  --fd N               serve the front-end connected to descriptor N, and end with it\n"
        "  --name NAME          what messages call this device (%s)\n"
        "  -v                   say more; twice: every request of the front-end\n"
        "  --log-format FORMAT  text or json (text)\n"
        "  --seccomp MODE       a system call that the device does not need ends it (true), is\n"
        "                       carried out (false), and logged by the kernel (log), or fails "
        "(errno)\n"
        "\n"
        "%s",
        kind->name, kind->summary, kind->name, kind->help);
}

static const struct backend_kind *find_kind(const char *name)
{
    for (size_t i = 0; kinds[i]; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

static int set_fd(int *fd, const char *option, const char *value, struct error *err)
{
    uint64_t number;
    if (units_parse_size(value, &number) < 0 || number > INT32_MAX)
        return error_set(err, -EINVAL, "%s %s: not a descriptor", option, value);
    *fd = (int)number;
    return 0;
}

static int set_common(struct settings *settings, int option, const char *value, struct error *err)
{
    switch (option) {
    case OPTION_SOCKET:
        settings->socket = value;
        return 0;
    case OPTION_FD:
        return set_fd(&settings->fd, "--fd", value, err);
    case OPTION_ROOT_FD:
        return set_fd(&settings->root_fd, "--root-fd", value, err);
    case OPTION_PID:
        log_set_pid(atoi(value));
        return 0;
    case OPTION_NAME:
        settings->name = value;
        return 0;
    case OPTION_LOG_FORMAT:
        if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
            return error_set(err, -EINVAL, "--log-format %s: text or json", value);
        log_set_format(strcmp(value, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
        return 0;
    case OPTION_SECCOMP:
        if (!seccomp_mode_parse(value, &settings->seccomp))
            return error_set(err, -EINVAL, "--seccomp %s: true, false, log or errno", value);
        return 0;
    case OPTION_HELP:
        settings->help = true;
        return 0;
    default: /* -v */
        settings->verbosity++;
        log_set_level(settings->verbosity == 1 ? LOG_INFO : LOG_DEBUG);
        return 0;
    }
}

/** take_over() - what an option names by number (--fd, --tap-fd and so on) is this process's own: the rest it was started with is not. */
static void take_over(const struct option *option, const char *value)
{
    uint64_t fd;
    size_t len = option->name ? strlen(option->name) : 0;
    if (len >= 2 && strcmp(option->name + len - 2, "fd") == 0 &&
        units_parse_size(value, &fd) == 0 && fd <= INT32_MAX)
        (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
}

/** parse() - @argv from the kind's name on. Returns 0 or -EINVAL with @err filled. */
static int parse(const struct backend_kind *kind, void *state, int argc, char **argv,
                 struct settings *settings, struct error *err)
{
    struct option all[OPTIONS_MAX] = {0};
    size_t n = ARRAY_SIZE(common_options);
    memcpy(all, common_options, sizeof(common_options));
    for (const struct option *of = kind->options; of->name && n < OPTIONS_MAX - 1; of++)
        all[n++] = *of;
    int option, index = -1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":v", all, &index)) != -1) {
        if (option == '?' || option == ':')
            return error_set(err, -EINVAL, "%s: %s", argv[optind - 1],
                             option == ':' ? "it wants a value" : "there is no such option");
        int ret = option >= BACKEND_OPTION_FIRST ? kind->set(state, option, optarg, err)
                                                 : set_common(settings, option, optarg, err);
        if (ret < 0)
            return ret;
        if (index >= 0 && all[index].has_arg == required_argument)
            take_over(&all[index], optarg);
        index = -1;
    }
    if (settings->help)
        return 0;
    if (optind < argc)
        return error_set(err, -EINVAL, "'%s' is no option", argv[optind]);
    if (!settings->socket == (settings->fd < 0))
        return error_set(err, -EINVAL, "either --socket or --fd must be given");
    return 0;
}

/** on_bus_error() - guest memory went away under us: the one fault that a front-end can cause. */
static void on_bus_error(int signal)
{
    static const char text[] =
        "husk-backend: memory shared with the front-end was cut off (SIGBUS)\n";
    (void)signal;
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(STATUS_ERROR);
}

/**
 * take_signals() - the descriptor that SIGTERM and SIGINT make readable. Whoever started us with one of them blocked
 * or ignored does not want us to hear it: Ctrl-C belongs to the VMM.
 */
static int take_signals(struct error *err)
{
    static const int ending[] = {SIGTERM, SIGINT};
    sigset_t ours, blocked;
    sigemptyset(&ours);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++) {
        struct sigaction action;
        if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
            !sigismember(&blocked, ending[i]))
            sigaddset(&ours, ending[i]);
    }
    pthread_sigmask(SIG_BLOCK, &ours, NULL);
    const struct sigaction bus = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &bus, NULL);
    /* An event of the front-end's may be a pipe that nobody reads. */
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
    int fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_set_errno(err, -errno, "no descriptor for signals") : fd;
}

static int serve(const struct backend_kind *kind, void *state, const struct settings *settings,
                 struct error *err)
{
    const char *name = settings->name ? settings->name : kind->name;
    _cleanup_close_ int stop_fd = take_signals(err);
    if (stop_fd < 0)
        return STATUS_ERROR;
    struct vu_backend backend = {.name = name, .seccomp = settings->seccomp};
    int ret = kind->open(state, &backend, err);
    if (ret < 0)
        return ret == -EINVAL ? STATUS_USAGE : STATUS_ERROR;
    if (settings->root_fd < 0) /* the broker gives no others */
        fd_close_inherited(NULL, 0);
    int listener = settings->socket ? vu_listen(settings->socket, FRONT_ENDS_MAX, err) : -1;
    if (settings->socket && listener < 0)
        return STATUS_ERROR;
    const struct cage cage = {
        .role = kind->role,
        .extra = settings->socket ? CAGE_LISTENS : 0,
        .seccomp = settings->seccomp,
        .name = name,
        .root_fd = settings->root_fd,
    };
    if (cage_back_end(&cage, settings->socket, LANDLOCK_REMOVE, err) < 0) {
        if (settings->socket)
            unlink(settings->socket);
        return STATUS_ERROR;
    }
    ret = settings->socket ? vu_serve_path(&backend, listener, settings->socket, stop_fd, err)
                           : vu_serve(&backend, settings->fd, stop_fd, err);
    return ret < 0 ? STATUS_ERROR : STATUS_ENDED;
}

/** run() - returns the exit status; @err is filled if that is not STATUS_ENDED. */
static int run(const struct backend_kind *kind, void *state, int argc, char **argv,
               struct settings *settings, struct error *err)
{
    if (parse(kind, state, argc, argv, settings, err) < 0)
        return STATUS_USAGE;
    if (settings->help) {
        print_help(kind);
        return STATUS_ENDED;
    }
    return serve(kind, state, settings, err);
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview();
        return argc < 2 ? STATUS_USAGE : STATUS_ENDED;
    }
    const struct backend_kind *kind = find_kind(argv[1]);
    if (!kind) {
        log_error("there is no kind of back-end '%s'; `husk backend --help` lists them", argv[1]);
        return STATUS_USAGE;
    }
    log_remember_pid();
    struct settings settings = {.fd = -1, .root_fd = -1, .seccomp = SECCOMP_ON};
    struct error err = ERROR_INIT;
    void *state = kind->create();
    int status = STATUS_ERROR;
    if (state) {
        status = run(kind, state, argc - 1, argv + 1, &settings, &err);
        kind->destroy(state);
    } else {
        error_set(&err, -ENOMEM, "out of memory");
    }
    if (status != STATUS_ENDED) {
        log_error("%s: %s", settings.name ? settings.name : kind->name, err.message);
        if (err.hint[0])
            log_error("%s", err.hint);
    }
    return status;
}
