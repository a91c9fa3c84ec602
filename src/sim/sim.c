/* Starts the program with the library in it, serves it until its last process is gone, and reports. */
#include "sim/sim.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "husk_version.h"
#include "sim/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LIBRARY "libhusk-sim.so"

static const char *const kernel_names[] = {
    [SIM_KERNEL_6_11] = "6.11", [SIM_KERNEL_6_18] = "6.18", [SIM_KERNEL_7_0] = "7.0"};

const char *sim_kernel_name(enum sim_kernel kernel)
{
    return kernel_names[kernel];
}

int sim_parse_kernel(const char *text, enum sim_kernel *kernel)
{
    for (size_t i = 0; i < ARRAY_SIZE(kernel_names); i++) {
        if (strcmp(text, kernel_names[i]) == 0) {
            *kernel = (enum sim_kernel)i;
            return 0;
        }
    }
    return -EINVAL;
}

void sim_print_rules(void)
{
    printf("| rule | severity | what must hold | source |\n|---|---|---|---|\n");
    for (size_t i = 0; i < RULE_COUNT; i++) {
        const struct rule *r = &rule_table[i];
        printf("| `%s` | %s | %s | %s |\n", r->name,
               r->severity == RULE_ERROR ? "error" : "warning", r->text, r->source);
    }
}

/** find_library() - beside the binary (the build tree), or where it was installed. */
static int find_library(char path[PATH_MAX], struct error *err)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n < 0)
        return error_set_errno(err, -errno, "could not find out where husk is");
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    const char *const places[] = {"/src/sim/preload/", "/../" HUSK_LIBDIR "/", "/"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        int len = snprintf(path, PATH_MAX, "%s%s%s", exe, places[i], LIBRARY);
        if (len > 0 && len < PATH_MAX && access(path, R_OK) == 0)
            return 0;
    }
    return error_set(err, -ENOENT, "%s is neither beside husk in %s nor in the library folder",
                     LIBRARY, exe);
}

/** find_program() - as execvp() looks for it. */
static int find_program(const char *name, char path[PATH_MAX], struct error *err)
{
    if (strchr(name, '/')) {
        if (strlen(name) >= PATH_MAX)
            return error_set(err, -ENAMETOOLONG, "the program's path is too long");
        memcpy(path, name, strlen(name) + 1);
        if (access(path, X_OK) == 0)
            return 0;
        return error_set_errno(err, -errno, "could not start %s", name);
    }
    const char *folders = getenv("PATH");
    while (folders && *folders) {
        int folder = (int)strcspn(folders, ":");
        int len = snprintf(path, PATH_MAX, "%.*s/%s", folder, folders, name);
        if (len > 0 && len < PATH_MAX && access(path, X_OK) == 0)
            return 0;
        folders += folder;
        folders += *folders == ':';
    }
    return error_set(err, -ENOENT, "there is no program %s in PATH", name);
}

struct run {
    struct model model;
    struct loop *loop;
    struct server *server;
    pid_t pid;
    int signals;
    bool not_found; /* there is no such program */
    bool ended;
    int status; /* as waitpid() has it */
};

static void stop_if_done(void *ctx)
{
    struct run *run = ctx;
    if (run->ended && !server_clients(run->server))
        loop_stop(run->loop, 0);
}

static void on_signal(void *ctx, uint32_t events)
{
    (void)events;
    struct run *run = ctx;
    struct signalfd_siginfo info;
    if (read(run->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo != SIGCHLD) {
        /* A terminal has told the program already; anyone else told only us. */
        if (!run->ended && info.ssi_code <= 0)
            kill(run->pid, (int)info.ssi_signo);
        return;
    }
    if (waitpid(run->pid, &run->status, WNOHANG) == run->pid)
        run->ended = true;
    stop_if_done(run);
}

/** add_preload() - the library before what LD_PRELOAD names already. */
static int add_preload(const char *library)
{
    const char *before = getenv("LD_PRELOAD");
    char value[2 * PATH_MAX];
    int len = snprintf(value, sizeof(value), "%s%s%s", library, before && *before ? ":" : "",
                       before ? before : "");
    if (len < 0 || (size_t)len >= sizeof(value))
        return -ENAMETOOLONG;
    return setenv("LD_PRELOAD", value, 1) < 0 ? -errno : 0;
}

/** place_door() - move the door to the highest number a process can have, out of the program's way. */
static int place_door(int door)
{
    struct rlimit limit = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &limit);
    int highest = limit.rlim_cur > 65536 ? 65535 : (int)limit.rlim_cur - 1;
    int moved = -1;
    for (int number = highest; moved < 0 && number > 2; number--) {
        if (fcntl(number, F_GETFD) < 0)
            moved = dup2(door, number);
    }
    return moved < 0 ? -errno : moved;
}

/** exec_program() - in the child; comes back only if it fails, with -errno. */
static int exec_program(const char *path, char **program, const char *library, int door)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int moved = place_door(door);
    struct stat st;
    if (moved < 0 || fstat(moved, &st) < 0)
        return moved < 0 ? moved : -errno;
    char value[64];
    snprintf(value, sizeof(value), "%d:%llu", moved, (unsigned long long)st.st_ino);
    int r = setenv(SIM_ENV_DOOR, value, 1) < 0 ? -errno : add_preload(library);
    if (r)
        return r;
    execv(path, program);
    return -errno;
}

static int start_program(struct run *run, char **program, int door, struct error *err)
{
    char path[PATH_MAX];
    char library[PATH_MAX];
    int r = find_program(program[0], path, err);
    run->not_found = r != 0;
    if (!r)
        r = sim_check_program(path, err);
    if (!r)
        r = find_library(library, err);
    if (r)
        return r;
    int fault[2]; /* closed by a successful exec, else it says why there was none */
    if (pipe2(fault, O_CLOEXEC) < 0)
        return error_set_errno(err, -errno, "could not make a pipe");
    run->pid = fork();
    if (run->pid == 0) {
        r = exec_program(path, program, library, door);
        (void)!write(fault[1], &r, sizeof(r));
        _exit(SIM_STATUS_NOT_FOUND);
    }
    if (run->pid < 0)
        error_set_errno(err, r = -errno, "could not start a process");
    close(fault[1]);
    if (run->pid > 0 && read(fault[0], &r, sizeof(r)) == (ssize_t)sizeof(r)) {
        waitpid(run->pid, NULL, 0);
        error_set_errno(err, r, "could not start %s", program[0]);
    }
    close(fault[0]);
    return r;
}

/** announce() - what it is, so that nobody takes it for the real thing. */
static void announce(const struct run *run)
{
    fprintf(stderr,
            "husk sim: THIS IS A SIMULATION of an SEV-SNP host (rules of Linux %s%s). Nothing is "
            "encrypted, "
            "nothing is attested.\n",
            sim_kernel_name(run->model.kernel),
            run->model.launch_only ? "; launch only, no KVM below" : "");
}

static int summary(struct run *run, const struct sim_options *options, struct error *err)
{
    struct report *report = &run->model.report;
    for (size_t i = 0; i < report->launches_len; i++) {
        const struct report_launch *l = &report->launches[i];
        char digest[2 * CRYPTO_DIGEST + 1];
        fprintf(stderr, "husk sim: VM %u: launch %s, %u vCPUs, digest %s\n", l->vm,
                l->finished ? "finished" : "NOT FINISHED", l->vcpus,
                report_hex(l->digest, CRYPTO_DIGEST, digest));
    }
    fprintf(stderr, "husk sim: %llu rules broken, %llu warnings, %llu faults and exits injected\n",
            (unsigned long long)report->errors, (unsigned long long)report->warnings,
            (unsigned long long)report->faults);
    int r = options->json
                ? report_json(report, options->json, sim_kernel_name(run->model.kernel), err)
                : 0;
    if (r)
        return r;
    if (WIFSIGNALED(run->status))
        return SIM_STATUS_SIGNAL + WTERMSIG(run->status);
    int status = WEXITSTATUS(run->status);
    return status == 0 && report->errors ? SIM_STATUS_RULES : status;
}

/** serve() - from the start of the program to the end of its last process. */
static int serve(struct run *run, char **program, struct error *err)
{
    int door[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door) < 0)
        return error_set_errno(err, -errno, "could not make the simulator's door");
    run->server = server_new(&run->model, run->loop, door[0], stop_if_done, run, err);
    int r = run->server ? start_program(run, program, door[1], err) : err->code;
    close(door[1]);
    if (!r)
        r = loop_run(run->loop);
    server_free(run->server);
    close(door[0]);
    return r;
}

int sim_run(const struct sim_options *options, char **program, struct error *err)
{
    _cleanup_free_ struct run *run = calloc(1, sizeof(*run));
    if (!run)
        return error_set(err, -ENOMEM, "out of memory for the simulator");
    run->model.kernel = options->kernel;
    run->model.parts = options->parts;
    run->model.asids = options->asids;
    run->model.launch_only = options->no_kvm || access("/dev/kvm", R_OK | W_OK) < 0;
    run->model.faults = options->faults;
    if (sim_crypto_load())
        return error_set(err, -ENOSYS,
                         "could not load libcrypto.so.3, which computes launch digests");
    int r = report_open(&run->model.report, options->log, err);
    if (r)
        return r;

    sigset_t set;
    sigset_t before;
    sigemptyset(&set);
    const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        sigaddset(&set, signals[i]);
    sigprocmask(SIG_BLOCK, &set, &before);
    run->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    run->loop = loop_new();
    if (run->signals < 0 || !run->loop ||
        !loop_add(run->loop, run->signals, EPOLLIN, on_signal, run))
        r = error_set_errno(err, -errno, "could not make the simulator's event loop");
    if (!r) {
        announce(run);
        r = serve(run, program, err);
    }
    if (!r)
        r = summary(run, options, err);
    loop_free(run->loop);
    if (run->signals >= 0)
        close(run->signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    report_close(&run->model.report);
    return r && run->not_found ? SIM_STATUS_NOT_FOUND : r;
}
