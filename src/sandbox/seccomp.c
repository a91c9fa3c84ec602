#include "sandbox/seccomp.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const mode_names[] = {
    [SECCOMP_OFF] = "false",
    [SECCOMP_ON] = "true",
    [SECCOMP_LOG] = "log",
    [SECCOMP_ERRNO] = "errno",
};

/* Rows of characters rather than pointers: nothing to relocate in each process. */
static const char call_names[][32] = {
#include "syscall_names.h"
};

bool seccomp_mode_parse(const char *text, enum seccomp_mode *mode)
{
    for (size_t i = 0; i < ARRAY_SIZE(mode_names); i++) {
        if (strcmp(text, mode_names[i]) == 0) {
            *mode = (enum seccomp_mode)i;
            return true;
        }
    }
    return false;
}

const char *seccomp_mode_name(enum seccomp_mode mode)
{
    return mode_names[mode];
}

const char *seccomp_call_name(int number)
{
    bool known = number >= 0 && number < (int)ARRAY_SIZE(call_names) && call_names[number][0];
    return known ? call_names[number] : "?";
}

static void cleanup_context(scmp_filter_ctx *context)
{
    if (*context)
        seccomp_release(*context);
}

static int add_rule(scmp_filter_ctx context, const struct call_rule *rule)
{
    uint32_t action = rule->refusal ? SCMP_ACT_ERRNO((uint32_t)rule->refusal) : SCMP_ACT_ALLOW;
    struct scmp_arg_cmp compare[2] = {
        {.arg = rule->argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = rule->mask, rule->value},
        {.arg = rule->and, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, rule->and_value},
    };
    if (rule->test == CALL_OWN_PID) { /* the kernel reads 32 bits of it */
        compare[0].datum_a = UINT32_MAX;
        compare[0].datum_b = (uint32_t)getpid();
    }
    static const unsigned n_compared[] = {
        [CALL_ANY] = 0, [CALL_EQUAL] = 1, [CALL_BOTH] = 2, [CALL_OWN_PID] = 1};
    return seccomp_rule_add_array(context, action, rule->number, n_compared[rule->test], compare);
}

/** export_program() - libseccomp writes a finished program to a descriptor only. */
static int export_program(scmp_filter_ctx context, struct seccomp_program *program)
{
    _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = seccomp_export_bpf(context, fd);
    struct stat st;
    if (ret < 0 || fstat(fd, &st) < 0)
        return ret < 0 ? ret : -errno;
    size_t len = (size_t)st.st_size / sizeof(struct sock_filter);
    if (len == 0 || len > BPF_MAXINSNS)
        return -E2BIG;
    program->code = malloc((size_t)st.st_size);
    if (!program->code)
        return -ENOMEM;
    if (pread(fd, program->code, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
        return -EIO;
    program->len = (unsigned short)len;
    return 0;
}

int seccomp_build(const struct call_list *lists, size_t n, enum seccomp_mode mode,
                  struct seccomp_program *program, struct error *err)
{
    static const uint32_t otherwise[] = {
        [SECCOMP_ON] = SCMP_ACT_TRAP,
        [SECCOMP_LOG] = SCMP_ACT_LOG,
        [SECCOMP_ERRNO] = SCMP_ACT_ERRNO(EPERM),
    };
    *program = (struct seccomp_program){0};
    _cleanup_(cleanup_context) scmp_filter_ctx context = seccomp_init(otherwise[mode]);
    if (!context)
        return error_set(err, -ENOMEM, "libseccomp has no room for a filter");
    int ret = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH,
                               mode == SECCOMP_LOG ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
    /* A tree, so that what comes late in a list does not cost more. */
    if (ret == 0)
        ret = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < lists[i].n && ret == 0; j++) {
            ret = add_rule(context, &lists[i].rules[j]);
            if (ret == -EEXIST) /* two lists may name the same */
                ret = 0;
            if (ret < 0)
                return error_set_errno(err, ret, "libseccomp cannot filter %s",
                                       lists[i].rules[j].name);
        }
    }
    if (ret == 0)
        ret = export_program(context, program);
    if (ret < 0) {
        seccomp_free(program);
        return error_set_errno(err, ret, "libseccomp made no filter");
    }
    return 0;
}

int seccomp_install(const struct seccomp_program *program, struct error *err)
{
    struct sock_fprog filter = {.len = program->len, .filter = program->code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set_errno(err, -errno, "could not give up new privileges");
    /* The processor's protection from speculative store bypass, which kernels before 5.16 switch on with a filter, is
     * for programs that run foreign code in themselves: it slows every exit of a guest. */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) < 0)
        return error_set_errno(err, -errno, "the kernel takes no system call filter");
    return 0;
}

void seccomp_free(struct seccomp_program *program)
{
    free(program->code);
    *program = (struct seccomp_program){0};
}

/* The number of no system call, so that no list has it. */
#define NO_CALL 0x3fff

/* For the handler. */
static char reported_name[64];
static struct sigaction handler_before;

static size_t append(char *line, size_t used, size_t size, const char *text)
{
    while (*text && used < size)
        line[used++] = *text++;
    return used;
}

static size_t append_number(char *line, size_t used, size_t size, unsigned number, unsigned base)
{
    char digits[12];
    char *at = &digits[sizeof(digits) - 1];
    *at = '\0';
    do
        *--at = "0123456789abcdef"[number % base];
    while (number /= base);
    return append(line, used, size, at);
}

/** tell() - a line of the log, put together with nothing that may be locked or forbidden.
 * @second: the call's second argument, which an ioctl's and an fcntl's rules look at.
 */
static void tell(int number, unsigned second)
{
    char line[256];
    size_t used = 0, size = sizeof(line) - 1;
    bool json = log_format_in_use() == LOG_FORMAT_JSON;
    used = append(line, used, size, json ? "{\"level\":\"error\",\"pid\":" : "husk[");
    used = append_number(line, used, size, (unsigned)log_pid(), 10);
    used = append(line, used, size, json ? ",\"message\":\"" : "] error: ");
    used = append(line, used, size, reported_name);
    used = append(line, used, size, " made the system call ");
    used = append(line, used, size, seccomp_call_name(number));
    used = append(line, used, size, " (");
    used = append_number(line, used, size, (unsigned)number, 10);
    if (number == SYS_ioctl || number == SYS_fcntl) {
        used = append(line, used, size, ", request 0x");
        used = append_number(line, used, size, second, 16);
    }
    used = append(line, used, size, "), which its filter forbids, and is ended");
    used = append(line, used, size, json ? "\"}" : "");
    line[used++] = '\n';
    (void)!write(log_fd(), line, used);
}

static void on_violation(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *at = context;
    tell(info->si_syscall, (unsigned)at->uc_mcontext.gregs[REG_RSI]);
    bool function = handler_before.sa_handler != SIG_DFL && handler_before.sa_handler != SIG_IGN;
    if (function && !(handler_before.sa_flags & SA_SIGINFO))
        handler_before.sa_handler(signal);
    /* While the signal is blocked, another of its kind cannot be handled: it ends the process. */
    for (;;)
        syscall(NO_CALL);
}

int seccomp_report(const char *who, struct error *err)
{
    struct sigaction action = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    snprintf(reported_name, sizeof(reported_name), "%s", who);
    if (sigaction(SIGSYS, &action, &handler_before) < 0)
        return error_set_errno(err, -errno, "could not watch for forbidden system calls");
    return 0;
}
