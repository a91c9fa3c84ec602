/*
 * The filters as the kernel reads them: each role's program is run here on calls that it must let through and on calls that
 * it must not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/uapi.h"
#include "sandbox/roles.h"
#include "sandbox/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* More than any kernel's table of system calls has. */
#define CALLS_TRIED 1024
#define X32_BIT 0x40000000

#define SIGCANCEL 32
#define SIGSETXID 33
#define THREAD_FLAGS                                                                    \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define FORK_FLAGS (CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD)
#define NONE (~0ull)
#define PR_SCHED_CORE_CALL 62 /* PR_SCHED_CORE, which older headers lack */
#define OWN_PID "on itself"   /* @let is filled in */

#define TIE(call, which, words, value, ...)                                                        \
    {                                                                                              \
        .name = #call, .text = (words), .number = SYS_##call, .argument = (which), .let = (value), \
        .others = {                                                                                \
            __VA_ARGS__,                                                                           \
            NONE                                                                                   \
        }                                                                                          \
    }

/**
 * run() - @program on @data, as the kernel runs it (seccomp_check_filter() in its kernel/seccomp.c has what may be in it).
 * Returns SECCOMP_RET_*.
 */
static uint32_t run(const struct seccomp_program *program, const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (size_t at = 0; at < program->len; at++) {
        const struct sock_filter *op = &program->code[at];
        bool taken;
        switch (op->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(op->k % 4 == 0 && op->k + 4 <= sizeof(*data));
            memcpy(&a, (const char *)data + op->k, 4);
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= op->k;
            continue;
        case BPF_RET | BPF_K:
            return op->k;
        case BPF_JMP | BPF_JA:
            at += op->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            taken = a == op->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            taken = a > op->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            taken = a >= op->k;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            taken = (a & op->k) != 0;
            break;
        default:
            fail_msg("an instruction that this test does not know: 0x%x", op->code);
            return 0;
        }
        at += taken ? op->jt : op->jf;
    }
    fail_msg("the program has no end");
    return 0;
}

static struct seccomp_data call_of(int number, unsigned argument, uint64_t value)
{
    struct seccomp_data data = {.nr = number, .arch = AUDIT_ARCH_X86_64};
    data.args[argument] = value;
    return data;
}

static uint32_t try(const struct seccomp_program *program, int number, unsigned argument,
                    uint64_t value)
{
    const struct seccomp_data data = call_of(number, argument, value);
    return run(program, &data);
}

/* A role's lists, and the program that is made of them. */
struct filter {
    struct call_list lists[CAGE_LISTS_MAX];
    size_t n;
    struct seccomp_program program;
};

static void make(struct filter *filter, size_t role, unsigned extra, enum seccomp_mode mode)
{
    filter->n = cage_calls((enum cage_role)role, extra, filter->lists);
    assert_true(filter->n > 0);
    assert_int_equal(
        seccomp_build(filter->lists, filter->n, mode, &filter->program, &(struct error){0}), 0);
}

/** find() - a rule of @filter's for a call; @text: what it is tied to, NULL for one that is tied to nothing. */
static const struct call_rule *find(const struct filter *filter, const char *name, const char *text)
{
    for (size_t i = 0; i < filter->n; i++) {
        for (size_t j = 0; j < filter->lists[i].n; j++) {
            const struct call_rule *rule = &filter->lists[i].rules[j];
            if (strcmp(rule->name, name) == 0 &&
                (text ? rule->text && strcmp(rule->text, text) == 0 : rule->test == CALL_ANY))
                return rule;
        }
    }
    return NULL;
}

/** names() - whether a list of @filter's has the call, tied to something or not. */
static bool names(const struct filter *filter, int number)
{
    for (size_t i = 0; i < filter->n; i++)
        for (size_t j = 0; j < filter->lists[i].n; j++)
            if (filter->lists[i].rules[j].number == number)
                return true;
    return false;
}

/* What a rule says in words, and what follows: with @let the call is made, with @others it is not. */
static const struct tie {
    const char *name, *text;
    int number;
    unsigned argument;
    uint64_t let, others[8];
} ties[] = {
    TIE(mmap, 2, "no PROT_EXEC", PROT_READ | PROT_WRITE, PROT_EXEC, PROT_READ | PROT_EXEC,
        PROT_READ | PROT_WRITE | PROT_EXEC),
    TIE(mprotect, 2, "no PROT_EXEC", PROT_READ | PROT_WRITE, PROT_EXEC, PROT_READ | PROT_EXEC,
        PROT_READ | PROT_WRITE | PROT_EXEC),
    TIE(newfstatat, 3, "AT_EMPTY_PATH", AT_EMPTY_PATH, 0, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT),
    TIE(rt_sigaction, 0, "SIGCANCEL", SIGCANCEL, SIGSYS, SIGSEGV, SIGTERM),
    TIE(rt_sigaction, 0, "SIGSETXID", SIGSETXID, SIGSYS, SIGSEGV, SIGTERM),
    TIE(rt_sigaction, 0, "SIGABRT", SIGABRT, SIGSYS, SIGSEGV, SIGTERM),
    TIE(clone, 0, "CLONE_THREAD", THREAD_FLAGS, SIGCHLD, CLONE_VM | CLONE_VFORK | SIGCHLD,
        THREAD_FLAGS | CLONE_NEWNS, THREAD_FLAGS | CLONE_NEWUSER, THREAD_FLAGS | CLONE_NEWPID,
        THREAD_FLAGS | CLONE_NEWNET, THREAD_FLAGS | CLONE_NEWIPC),
    TIE(clone, 0, "CLONE_PIDFD, CLONE_NEWPID", CLONE_PIDFD | CLONE_NEWPID | SIGCHLD, SIGCHLD,
        CLONE_NEWPID | SIGCHLD, CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWUSER | SIGCHLD),
    TIE(clone, 0, "CLONE_PIDFD", CLONE_PIDFD | SIGCHLD, SIGCHLD,
        CLONE_PIDFD | CLONE_NEWUSER | SIGCHLD, CLONE_PIDFD | CLONE_NEWNS | SIGCHLD,
        CLONE_PIDFD | CLONE_VM | SIGCHLD, CLONE_PIDFD | CLONE_PARENT | SIGCHLD),
    TIE(clone, 0, "as fork does", FORK_FLAGS, SIGCHLD, FORK_FLAGS | CLONE_NEWUSER,
        FORK_FLAGS | CLONE_NEWNET, FORK_FLAGS | CLONE_VM, FORK_FLAGS | CLONE_PTRACE),
    TIE(prctl, 0, "PR_SET_NAME", PR_SET_NAME, PR_SET_DUMPABLE, PR_SET_PTRACER, PR_CAP_AMBIENT,
        PR_SET_SECCOMP, PR_SET_KEEPCAPS, PR_SET_MM),
    TIE(prctl, 0, "PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_PTRACER,
        PR_CAP_AMBIENT, PR_SET_CHILD_SUBREAPER),
    TIE(prctl, 0, "PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_PTRACER,
        PR_SET_SECUREBITS, PR_CAPBSET_DROP),
    TIE(prctl, 0, "PR_SCHED_CORE", PR_SCHED_CORE_CALL, PR_SET_DUMPABLE, PR_SET_PTRACER),
    TIE(tgkill, 0, OWN_PID, 0, 0, 1 << 30),
    TIE(fallocate, 1, "FALLOC_FL_PUNCH_HOLE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
        FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE),
    TIE(sched_setaffinity, 0, "of the calling thread", 0, 1, 1 << 30),
    TIE(seccomp, 0, "SECCOMP_SET_MODE_FILTER", SECCOMP_SET_MODE_FILTER, SECCOMP_SET_MODE_STRICT,
        SECCOMP_GET_NOTIF_SIZES),
    TIE(pidfd_send_signal, 1, "SIGKILL", SIGKILL, 0, SIGTERM, SIGSTOP, SIGCONT, SIGUSR1),
    TIE(prlimit64, 0, "of itself", 0, 1, 1 << 30),
    TIE(setns, 1, "CLONE_NEWNS", CLONE_NEWNS, 0, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID,
        CLONE_NEWNS | CLONE_NEWNET),
    TIE(socket, 0, "AF_UNIX", AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG),
};

#define N_TIES (sizeof(ties) / sizeof(ties[0]))

static uint64_t let_of(const struct tie *tie)
{
    return strcmp(tie->text, OWN_PID) == 0 ? (uint64_t)getpid() : tie->let;
}

static void a_call_is_made_with_the_arguments_that_its_rule_names_and_with_no_others(void **state)
{
    (void)state;
    unsigned tried[N_TIES] = {0};
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        struct filter filter;
        make(&filter, role, ~0u, SECCOMP_ON);
        for (size_t i = 0; i < N_TIES; i++) {
            const struct tie *tie = &ties[i];
            if (!find(&filter, tie->name, tie->text) || find(&filter, tie->name, NULL))
                continue;
            tried[i]++;
            if (try(&filter.program, tie->number, tie->argument, let_of(tie)) != SECCOMP_RET_ALLOW)
                fail_msg("%s may not call %s (%s)", cage_roles[role].name, tie->name, tie->text);
            for (const uint64_t *value = tie->others; *value != NONE; value++)
                if (try(&filter.program, tie->number, tie->argument, *value) == SECCOMP_RET_ALLOW)
                    fail_msg("%s may call %s with 0x%llx, which is not: %s", cage_roles[role].name,
                             tie->name, (unsigned long long)*value, tie->text);
        }
        seccomp_free(&filter.program);
    }
    for (size_t i = 0; i < N_TIES; i++)
        if (!tried[i])
            fail_msg("no role has %s (%s)", ties[i].name, ties[i].text);
}

/** is_tried() - by this file: @rule's argument, which it has. */
static bool is_tried(const struct call_rule *rule)
{
    if (rule->number == SYS_ioctl || rule->number == SYS_fcntl || rule->number == SYS_socketpair)
        return true;
    for (size_t i = 0; i < N_TIES; i++)
        if (strcmp(ties[i].name, rule->name) == 0 && strcmp(ties[i].text, rule->text) == 0)
            return true;
    return false;
}

static void each_argument_that_a_rule_looks_at_is_tried_here(void **state)
{
    (void)state;
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        struct call_list lists[CAGE_LISTS_MAX];
        size_t n = cage_calls((enum cage_role)role, ~0u, lists);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < lists[i].n; j++)
                if (lists[i].rules[j].test != CALL_ANY && !is_tried(&lists[i].rules[j]))
                    fail_msg("ties[] has no row for %s (%s)", lists[i].rules[j].name,
                             lists[i].rules[j].text);
    }
}

/* Requests that change more than what is held, or that belong to one kind of process. */
static const struct request {
    const char *call, *text;
    int number;
    uint32_t request;
} requests[] = {
    {"ioctl", "TIOCSTI", SYS_ioctl, TIOCSTI},
    {"ioctl", "TIOCSCTTY", SYS_ioctl, TIOCSCTTY},
    {"ioctl", "TIOCLINUX", SYS_ioctl, TIOCLINUX},
    {"ioctl", "TIOCSETD", SYS_ioctl, TIOCSETD},
    {"ioctl", "FICLONE", SYS_ioctl, FICLONE},
    {"ioctl", "FS_IOC_SETFLAGS", SYS_ioctl, FS_IOC_SETFLAGS},
    {"ioctl", "TUNSETIFF", SYS_ioctl, TUNSETIFF},
    {"ioctl", "TUNSETPERSIST", SYS_ioctl, TUNSETPERSIST},
    {"ioctl", "TUNSETOWNER", SYS_ioctl, TUNSETOWNER},
    {"ioctl", "TUNATTACHFILTER", SYS_ioctl, TUNATTACHFILTER},
    {"ioctl", "TUNSETOFFLOAD", SYS_ioctl, TUNSETOFFLOAD},
    {"ioctl", "BLKRRPART", SYS_ioctl, BLKRRPART},
    {"ioctl", "BLKDISCARD", SYS_ioctl, BLKDISCARD},
    {"ioctl", "KVM_CREATE_VM", SYS_ioctl, KVM_CREATE_VM},
    {"ioctl", "KVM_CREATE_VCPU", SYS_ioctl, KVM_CREATE_VCPU},
    {"ioctl", "KVM_CREATE_DEVICE", SYS_ioctl, KVM_CREATE_DEVICE},
    {"ioctl", "KVM_SET_USER_MEMORY_REGION", SYS_ioctl, KVM_SET_USER_MEMORY_REGION},
    {"ioctl", "KVM_SET_REGS", SYS_ioctl, KVM_SET_REGS},
    {"ioctl", "KVM_RUN", SYS_ioctl, KVM_RUN},
    {"ioctl", "KVM_MEMORY_ENCRYPT_OP", SYS_ioctl, KVM_MEMORY_ENCRYPT_OP},
    {"fcntl", "F_SETOWN", SYS_fcntl, F_SETOWN},
    {"fcntl", "F_SETSIG", SYS_fcntl, F_SETSIG},
    {"fcntl", "F_NOTIFY", SYS_fcntl, F_NOTIFY},
    {"fcntl", "F_SETLEASE", SYS_fcntl, F_SETLEASE},
    {"fcntl", "F_SETPIPE_SZ", SYS_fcntl, F_SETPIPE_SZ},
    {"fcntl", "F_SETLK", SYS_fcntl, F_SETLK},
    {"fcntl", "F_OFD_SETLK", SYS_fcntl, F_OFD_SETLK},
    {"fcntl", "F_ADD_SEALS", SYS_fcntl, F_ADD_SEALS},
    {"fcntl", "F_DUPFD", SYS_fcntl, F_DUPFD},
    {"fcntl", "F_GETFL", SYS_fcntl, F_GETFL},
};

static void of_ioctl_and_fcntl_the_requests_in_the_lists_are_made_and_no_others(void **state)
{
    (void)state;
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        struct filter filter;
        make(&filter, role, ~0u, SECCOMP_ON);
        assert_null(find(&filter, "ioctl", NULL));
        assert_null(find(&filter, "fcntl", NULL));
        for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
            const struct request *one = &requests[i];
            bool listed = find(&filter, one->call, one->text) != NULL;
            bool made = try(&filter.program, one->number, 1, one->request) == SECCOMP_RET_ALLOW;
            if (made != listed)
                fail_msg("%s %s %s", cage_roles[role].name, made ? "may call" : "may not call",
                         one->text);
        }
        seccomp_free(&filter.program);
    }
}

static void what_is_not_listed_ends_the_process_in_every_role(void **state)
{
    (void)state;
    static const unsigned extras[] = {0, ~0u};
    for (size_t i = 0; i < 2 * CAGE_ROLES; i++) {
        size_t role = i / 2;
        struct filter filter;
        make(&filter, role, extras[i % 2], SECCOMP_ON);
        for (int number = 0; number < CALLS_TRIED; number++) {
            uint32_t result = try(&filter.program, number, 0, 0);
            const char *name = seccomp_call_name(number);
            const struct call_rule *rule = find(&filter, name, NULL);
            if (!names(&filter, number))
                assert_int_equal(result, SECCOMP_RET_TRAP);
            else if (rule && rule->refusal)
                assert_int_equal(result, SECCOMP_RET_ERRNO | (uint32_t)rule->refusal);
            else if (rule)
                assert_int_equal(result, SECCOMP_RET_ALLOW);
        }
        seccomp_free(&filter.program);
    }
}

static void what_only_some_processes_need_the_others_may_not_call(void **state)
{
    (void)state;
    static const struct {
        enum cage_role role;
        unsigned extra;
        int number;
        uint32_t second;
    } needs[] = {
        {CAGE_VMM, CAGE_PRIVATE, SYS_ioctl, KVM_CREATE_GUEST_MEMFD},
        {CAGE_VMM, CAGE_SNP, SYS_ioctl, KVM_MEMORY_ENCRYPT_OP},
        {CAGE_VCPU, CAGE_PRIVATE, SYS_ioctl, KVM_SET_MEMORY_ATTRIBUTES},
        {CAGE_VCPU, CAGE_SNP, SYS_fcntl, F_OFD_SETLK},
        {CAGE_BLK, CAGE_LISTENS, SYS_unlink, 0},
        {CAGE_RNG, CAGE_LISTENS, SYS_accept4, 0},
        {CAGE_NET, CAGE_LISTENS, SYS_unlink, 0},
        {CAGE_CONSOLE, CAGE_LISTENS, SYS_accept4, 0},
        {CAGE_VSOCK, CAGE_LISTENS, SYS_unlink, 0},
        {CAGE_BROKER, CAGE_CONNECTS, SYS_connect, 0},
        {CAGE_BROKER, CAGE_DISKS, SYS_io_uring_setup, 0},
        {CAGE_BROKER, CAGE_TAPS, SYS_ioctl, TUNSETOFFLOAD},
        {CAGE_BROKER, CAGE_CONSOLES, SYS_ioctl, TIOCGWINSZ},
        {CAGE_BROKER, CAGE_STREAMS, SYS_shutdown, 0},
    };
    for (size_t i = 0; i < 2 * sizeof(needs) / sizeof(needs[0]); i++) {
        bool with = i % 2;
        struct filter filter;
        make(&filter, needs[i / 2].role, with ? needs[i / 2].extra : ~needs[i / 2].extra,
             SECCOMP_ON);
        assert_int_equal(try(&filter.program, needs[i / 2].number, 1, needs[i / 2].second),
                         with ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
        seccomp_free(&filter.program);
    }
}

static void calls_by_another_interface_end_the_process_in_all_modes_but_log(void **state)
{
    (void)state;
    static const enum seccomp_mode modes[] = {SECCOMP_ON, SECCOMP_ERRNO, SECCOMP_LOG};
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
            struct filter filter;
            make(&filter, role, ~0u, modes[i]);
            uint32_t expected =
                modes[i] == SECCOMP_LOG ? SECCOMP_RET_LOG : SECCOMP_RET_KILL_PROCESS;
            struct seccomp_data data = call_of(SYS_read, 0, 0);
            data.arch = AUDIT_ARCH_I386;
            assert_int_equal(run(&filter.program, &data), expected);
            data = call_of(SYS_read | X32_BIT, 0, 0);
            assert_int_equal(run(&filter.program, &data), expected);
            seccomp_free(&filter.program);
        }
    }
}

static void in_mode_log_all_is_made_and_what_is_not_listed_is_logged(void **state)
{
    (void)state;
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        struct filter filter;
        make(&filter, role, ~0u, SECCOMP_LOG);
        assert_int_equal(try(&filter.program, SYS_read, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(try(&filter.program, SYS_ptrace, 0, 0), SECCOMP_RET_LOG);
        seccomp_free(&filter.program);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_made_with_the_arguments_that_its_rule_names_and_with_no_others),
        cmocka_unit_test(each_argument_that_a_rule_looks_at_is_tried_here),
        cmocka_unit_test(of_ioctl_and_fcntl_the_requests_in_the_lists_are_made_and_no_others),
        cmocka_unit_test(what_is_not_listed_ends_the_process_in_every_role),
        cmocka_unit_test(what_only_some_processes_need_the_others_may_not_call),
        cmocka_unit_test(calls_by_another_interface_end_the_process_in_all_modes_but_log),
        cmocka_unit_test(in_mode_log_all_is_made_and_what_is_not_listed_is_logged),
    };
    return cmocka_run_group_tests_name("filters", tests, NULL, NULL);
}
