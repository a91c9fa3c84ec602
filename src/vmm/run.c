/*
 * husk run, from a valid configuration to an exit status: what is opened once, the loop of lives between reboots, and
 * the signals.
 */
#include "vmm/vmm.h"

#include "api/event_monitor.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "config/device_list.h"
#include "memory/memory.h"
#include "sandbox/broker.h"
#include "sandbox/cage.h"
#include "vmm/consoles.h"
#include "vmm/firmware_files.h"
#include "vmm/machine.h"
#include "vmm/placement.h"
#include "vmm/snp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define KVM_DEVICE "/dev/kvm"
/* A life that has lasted this long is one that a signal may ask to end by itself, whatever was asked of earlier ones. */
#define SETTLED_MS 10000

static const int handled_signals[] = {SIGTERM, SIGINT, SIGHUP};

/* Those of struct consoles. */
#define CONSOLES 3

struct vmm {
    const struct vm_config *config;
    struct kvm kvm;
    struct loop *loop;
    struct event_monitor *events;
    struct console_link *link; /* until the consoles have it */
    struct consoles *consoles;
    struct broker *broker; /* NULL if no device needs it */
    struct memory_host memory_host;
    struct seccomp_program vcpu_filter;
    struct firmware_files firmware_files;
    struct snp_host snp;
    struct plan plan;
    struct machine *machine; /* NULL between two lives */
    int signal_fd;
    struct stop_reason ended; /* by the signal that was the last */
    unsigned life;            /* counts reboots */
    unsigned pressed;         /* the power button: in this life + 1; 0 if it has not been */
    uint64_t life_began;      /* CLOCK_MONOTONIC, milliseconds */
};

/* How each way of stopping is told: exit status, event, and whether the log calls it an error. */
static const struct ending {
    enum vmm_exit status;
    const char *event;
    enum log_level level;
} endings[] = {
    [STOP_POWER_OFF] = {VMM_EXIT_POWER_OFF, "shutdown", LOG_INFO},
    [STOP_RESET] = {VMM_EXIT_RESET, "reset", LOG_INFO},
    [STOP_TRIPLE_FAULT] = {VMM_EXIT_TRIPLE_FAULT, "triple-fault", LOG_ERROR},
    [STOP_INTERNAL_ERROR] = {VMM_EXIT_INTERNAL_ERROR, "internal-error", LOG_ERROR},
    [STOP_FAIL_ENTRY] = {VMM_EXIT_FAIL_ENTRY, "fail-entry", LOG_ERROR},
    [STOP_TERMINATED] = {VMM_EXIT_TERMINATED, "guest-terminated", LOG_ERROR},
    [STOP_MEMORY_FAULT] = {VMM_EXIT_MEMORY_FAULT, "memory-fault", LOG_ERROR},
    [STOP_HOST_ERROR] = {VMM_EXIT_ERROR, "host-error", LOG_ERROR},
    [STOP_SIGNAL] = {VMM_EXIT_SIGNAL, "killed", LOG_WARN},
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/**
 * button_is_free() - whether a signal is the power button's press rather than the end of husk: nobody has pressed it yet, or
 * for an earlier life only and this one has lasted. A guest that resets all the time is ended by two signals like any.
 */
static bool button_is_free(const struct vmm *vmm)
{
    if (!vmm->pressed)
        return true;
    return vmm->pressed != vmm->life + 1 && now_ms() - vmm->life_began >= SETTLED_MS;
}

/** on_signal() - the first one is the power button, a second one ends husk. */
static void on_signal(void *ctx, uint32_t events)
{
    (void)events;
    struct vmm *vmm = ctx;
    struct signalfd_siginfo info;
    if (read(vmm->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    int signal = (int)info.ssi_signo;
    if (vmm->machine && button_is_free(vmm)) {
        vmm->pressed = vmm->life + 1;
        log_info("SIG%s: pressed the guest's power button; another signal ends husk",
                 sigabbrev_np(signal));
        event_emit(vmm->events, "vm", "power-button", "signal", sigabbrev_np(signal), NULL);
        machine_power_button(vmm->machine);
        return;
    }
    vmm->ended = (struct stop_reason){.kind = STOP_SIGNAL, .signal = signal};
    snprintf(vmm->ended.detail, sizeof(vmm->ended.detail), "ended by SIG%s", sigabbrev_np(signal));
    if (vmm->machine)
        machine_stop(vmm->machine, &vmm->ended);
    else
        loop_stop(vmm->loop, 0);
}

static int watch_signals(struct vmm *vmm, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(handled_signals); i++)
        sigaddset(&set, handled_signals[i]);
    int code = pthread_sigmask(SIG_BLOCK, &set, NULL);
    vmm->signal_fd = code ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (vmm->signal_fd < 0 || !loop_add(vmm->loop, vmm->signal_fd, EPOLLIN, on_signal, vmm))
        return error_set_errno(err, code ? -code : -errno, "could not set up signals");
    /* A closed console or event reader is an error of that write, not the end of the guest. */
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

/** report() - log and event for the end of one life. */
static void report(struct vmm *vmm, const struct stop_reason *reason)
{
    const struct ending *ending = &endings[reason->kind];
    char vcpu[16];
    snprintf(vcpu, sizeof(vcpu), "%" PRIu32, reason->vcpu);
    log_message(ending->level, "%s", reason->detail);
    event_emit(vmm->events, "vm", ending->event, "reason", reason->detail, "vcpu", vcpu, NULL);
}

/** live() - one life of the guest: make the machine, run it, take it down. */
static int live(struct vmm *vmm, bool again, struct stop_reason *reason, struct error *err)
{
    struct machine_env env = {
        .config = vmm->config,
        .kvm = &vmm->kvm,
        .loop = vmm->loop,
        .events = vmm->events,
        .consoles = vmm->consoles,
        .broker = vmm->broker,
        .memory_host = &vmm->memory_host,
        .firmware_files = &vmm->firmware_files,
        .snp = vmm->snp.sev_fd >= 0 ? &vmm->snp : NULL,
        .vcpu_filter = &vmm->vcpu_filter,
    };
    event_emit(vmm->events, "vm", again ? "rebooting" : "booting", NULL);
    vmm->life_began = now_ms();
    vmm->machine = machine_create(&env, &vmm->plan, err);
    if (!vmm->machine)
        return err->code;
    int ret = machine_start(vmm->machine, err);
    if (ret == 0) {
        event_emit(vmm->events, "vm", again ? "rebooted" : "booted", NULL);
        ret = loop_run(vmm->loop);
        if (ret < 0) {
            error_set_errno(err, ret, "the event loop failed");
            machine_stop(vmm->machine, &(struct stop_reason){.kind = STOP_HOST_ERROR});
        }
    }
    *reason = machine_join(vmm->machine);
    machine_destroy(vmm->machine);
    vmm->machine = NULL;
    return ret;
}

/** wait_for_signal() - --no-shutdown: the guest is off, husk stays until it is told to go. */
static void wait_for_signal(struct vmm *vmm)
{
    log_info("the guest is off; husk stays because of --no-shutdown until a signal ends it");
    loop_run(vmm->loop);
}

static int run_lives(struct vmm *vmm, struct error *err)
{
    for (bool again = false;; again = true) {
        struct stop_reason reason = {0};
        int ret = live(vmm, again, &reason, err);
        if (ret < 0)
            return ret;
        /* The guest's reset came first, but there is to be no other life. */
        if (reason.kind == STOP_RESET && vmm->ended.kind)
            reason = vmm->ended;
        report(vmm, &reason);
        if (reason.kind == STOP_RESET && !vmm->config->no_reboot) {
            vmm->life++;
            continue;
        }
        if (reason.kind == STOP_POWER_OFF && vmm->config->no_shutdown && !vmm->ended.kind)
            wait_for_signal(vmm);
        int status = (int)endings[reason.kind].status;
        return reason.kind == STOP_SIGNAL ? status + reason.signal : status;
    }
}

/** add_terminals() - the users' ends of pseudo-terminals, which are opened again to see whether anybody has them open. */
static size_t add_terminals(const struct consoles *consoles, struct landlock_path *paths)
{
    const struct chardev *const all[CONSOLES] = {consoles->serial, consoles->debug,
                                                 consoles->console};
    size_t n = 0;
    for (size_t i = 0; i < CONSOLES; i++)
        if (all[i] && chardev_pty_path(all[i]))
            paths[n++] = (struct landlock_path){chardev_pty_path(all[i]),
                                                LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_DEVICE};
    return n;
}

/** make_rules() - Landlock's, for husk itself: with --landlock the paths that --landlock-rules names, else none. */
static int make_rules(const struct vmm *vmm, int *made, struct error *err)
{
    static const unsigned access[] = {
        [LANDLOCK_ACCESS_R] = LANDLOCK_READ,
        [LANDLOCK_ACCESS_W] = LANDLOCK_WRITE,
        [LANDLOCK_ACCESS_RW] = LANDLOCK_READ | LANDLOCK_WRITE,
    };
    const struct vm_config *config = vmm->config;
    size_t n = config->landlock ? config->n_landlock_rules : 0;
    _cleanup_free_ struct landlock_path *paths = calloc(n + CONSOLES, sizeof(*paths));
    if (!paths)
        return error_set(err, -ENOMEM, "out of memory for --landlock-rules");
    for (size_t i = 0; i < n; i++) {
        const struct landlock_rule *rule = &config->landlock_rules[i];
        paths[i] = (struct landlock_path){rule->path, access[rule->access]};
        if (faccessat(AT_FDCWD, rule->path, F_OK, 0) < 0)
            return error_set_errno(err, -errno, "--landlock-rules: '%s'", rule->path);
    }
    n += add_terminals(vmm->consoles, paths + n);
    return landlock_make("husk", paths, n, LANDLOCK_SIGNALS_ALL, made, err);
}

/** enter_cage() - what is opened by path is open, and no other thread runs yet. */
static int enter_cage(struct vmm *vmm, struct error *err)
{
    const struct vm_config *config = vmm->config;
    const struct memory_params memory = {
        .hugepages = config->memory.hugepages,
        .hugepage_size = config->memory.hugepage_size,
        .thp = config->memory.thp,
    };
    memory_look(&vmm->memory_host, &memory);
    /* What the command line named by number stays open. */
    const int named[] = {config->event_monitor.fd, log_fd()};
    fd_close_inherited(named, ARRAY_SIZE(named));
    int rules = -1;
    int ret = make_rules(vmm, &rules, err);
    if (ret < 0)
        return ret;
    /* What --landlock-rules name stays in sight. */
    ret = cage_leave_host("husk", config->landlock, rules, err);
    if (ret < 0)
        return ret;
    bool snp = config->platform.sev_snp == SWITCH_ON;
    unsigned private = snp                             ? CAGE_PRIVATE | CAGE_SNP
                       : config->platform.sw_protected ? CAGE_PRIVATE
                                                       : 0;
    struct cage cage = {.role = CAGE_VCPU,
                        .extra = private,
                        .seccomp = (enum seccomp_mode)config->seccomp,
                        .root_fd = -1};
    ret = cage_program(&cage, &vmm->vcpu_filter, err);
    if (ret < 0)
        return ret;
    cage.role = CAGE_VMM;
    return cage_filter(&cage, err);
}

/** start_broker() - if there are devices, with what it keeps of husk's. */
static int start_broker(struct vmm *vmm, struct error *err)
{
    const struct vm_config *config = vmm->config;
    struct broker_lent lent = BROKER_LENT_NONE;
    if (!broker_needed(config))
        return 0;
    if (config->console.mode != CONSOLE_OFF && config->console.mode != CONSOLE_NULL) {
        vmm->link = console_link_new(err);
        if (!vmm->link)
            return err->code;
        console_link_lend(vmm->link, &lent);
    }
    vmm->broker = broker_start(config, &lent, err);
    if (!vmm->broker)
        return err->code;
    if (vmm->link)
        console_link_broker_started(vmm->link);
    return 0;
}

static int set_up(struct vmm *vmm, struct error *err)
{
    const struct vm_config *config = vmm->config;
    vmm->events = event_monitor_open(config->event_monitor.path, config->event_monitor.fd, err);
    if (!vmm->events)
        return err->code;
    event_emit(vmm->events, "vmm", "starting", NULL);
    /* Forked before there are threads, a VM, guest memory or blocked signals. */
    int ret = start_broker(vmm, err);
    if (ret < 0)
        return ret;
    vmm->loop = loop_new();
    if (!vmm->loop)
        return error_set_errno(err, -errno, "could not make the event loop");

    ret = firmware_files_open(&vmm->firmware_files, config, err);
    if (ret == 0)
        ret = machine_plan(&vmm->plan, config, err);
    if (ret == 0)
        ret = kvm_open(&vmm->kvm, KVM_DEVICE, err);
    if (ret == 0 && config->platform.sev_snp == SWITCH_ON)
        ret = snp_host_open(&vmm->snp, &vmm->kvm, config, &vmm->plan, err);
    if (ret == 0)
        ret = placement_apply_process(config->cpus.core_scheduling, err);
    if (ret == 0)
        ret = vcpu_threads_init(err);
    if (ret == 0)
        ret = watch_signals(vmm, err);
    if (ret < 0)
        return ret;
    vmm->consoles = consoles_open(config, take_ptr(vmm->link), vmm->loop, vmm->broker, err);
    return vmm->consoles ? enter_cage(vmm, err) : err->code;
}

int vmm_run(const struct vm_config *config, struct error *err)
{
    struct vmm vmm = {.config = config, .signal_fd = -1, .kvm = {.fd = -1}, .snp = SNP_HOST_INIT};
    int ret = set_up(&vmm, err);
    if (ret == 0)
        ret = run_lives(&vmm, err);

    char status[16];
    snprintf(status, sizeof(status), "%d", ret < 0 ? VMM_EXIT_ERROR : ret);
    event_emit(vmm.events, "vmm", "shutdown", "status", status, NULL);
    broker_stop(vmm.broker);
    consoles_close(vmm.consoles);
    seccomp_free(&vmm.vcpu_filter);
    firmware_files_close(&vmm.firmware_files);
    console_link_free(vmm.link);
    plan_release(&vmm.plan);
    snp_host_close(&vmm.snp);
    kvm_close(&vmm.kvm);
    loop_free(vmm.loop);
    event_monitor_close(vmm.events);
    cleanup_close(&vmm.signal_fd);
    return ret;
}
