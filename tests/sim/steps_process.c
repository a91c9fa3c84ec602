/* Steps about processes, threads and descriptors. */
#include "steps.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

/** fd_named() - what=kvm|sev|vmN|vcpuN|memfdN */
static int *fd_named(const struct step *step)
{
    const char *what = word(step, "what");
    if (strcmp(what, "kvm") == 0)
        return &vmm.kvm;
    if (strcmp(what, "sev") == 0)
        return &vmm.sev;
    const struct {
        const char *prefix;
        int *fds;
    } lists[] = {{"vm", vmm.vms}, {"vcpu", vmm.vcpus}, {"memfd", vmm.memfds}};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(lists[i].prefix);
        if (strncmp(what, lists[i].prefix, n) == 0 && what[n] >= '0' && what[n] <= '9')
            return &lists[i].fds[atoi(what + n)];
    }
    fprintf(stderr, "step_vmm: there is no descriptor %s\n", what);
    exit(2);
}

long step_close(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    return close(*fd_named(step));
}

/** step_raw_close() - past every hook: the instruction itself. */
long step_raw_close(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_close), "D"((long)*fd_named(step))
                     : "rcx", "r11", "memory");
    return result;
}

/** step_dup() - replace a descriptor by a copy of it; how=dup|dup2|fcntl|raw. */
long step_dup(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    int *fd = fd_named(step);
    const char *how = word(step, "how");
    long copy;
    if (strcmp(how, "dup") == 0)
        copy = dup(*fd);
    else if (strcmp(how, "dup2") == 0)
        copy = dup2(*fd, (int)number(step, "to", 150));
    else if (strcmp(how, "fcntl") == 0)
        copy = fcntl(*fd, F_DUPFD_CLOEXEC, 100);
    else
        __asm__ volatile("syscall"
                         : "=a"(copy)
                         : "a"((long)SYS_dup), "D"((long)*fd)
                         : "rcx", "r11", "memory");
    if (copy < 0)
        return copy;
    close(*fd);
    *fd = (int)copy;
    return copy;
}

/** step_fork() - the next step runs in a child, and its result is the child's line. */
long step_fork(const struct step *step, char *detail, size_t len)
{
    (void)step;
    const char *text = vmm.argv[++vmm.at];
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        long result = run_step(text, detail, len);
        print_result(text, result, errno, detail);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    detail[0] = '\0';
    return status;
}

/** step_exec() - the steps that are left run in a new image of this program, which is told the descriptors' numbers. */
long step_exec(const struct step *step, char *detail, size_t len)
{
    (void)step;
    (void)detail;
    (void)len;
    char fds[64];
    snprintf(fds, sizeof(fds), "%d,%d,%d,%d", vmm.kvm, vmm.sev, vmm.vms[0], vmm.memfds[0]);
    setenv("STEP_VMM_FDS", fds, 1);
    vmm.argv[vmm.at] = vmm.argv[0];
    execv("/proc/self/exe", vmm.argv + vmm.at);
    return -1;
}

long step_die(const struct step *step, char *detail, size_t len)
{
    (void)step;
    (void)detail;
    (void)len;
    return kill(getpid(), SIGKILL);
}

/** step_wait() - until a line or the end comes in on standard input. */
long step_wait(const struct step *step, char *detail, size_t len)
{
    (void)step;
    (void)detail;
    (void)len;
    printf("{\"step\": \"waiting\", \"result\": 0, \"errno\": \"\"}\n");
    fflush(stdout);
    char byte;
    return read(STDIN_FILENO, &byte, 1);
}

/* What a strict VMM allows once it is set up, and what docs/simulator.md says that the library needs. */
static const int allowed[] = {
    SYS_ioctl,      SYS_fstat,   SYS_newfstatat, SYS_sendmsg, SYS_recvmsg, SYS_mmap,
    SYS_munmap,     SYS_close,   SYS_fcntl,      SYS_dup3,    SYS_futex,   SYS_write,
    SYS_exit_group, SYS_madvise, SYS_brk,        SYS_ppoll,
};
#define ALLOWED (sizeof(allowed) / sizeof(allowed[0]))

long step_seccomp(const struct step *step, char *detail, size_t len)
{
    (void)step;
    (void)detail;
    (void)len;
    struct sock_filter filter[ALLOWED * 2 + 2];
    size_t n = 0;
    filter[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ALLOWED; i++) {
        filter[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void *run_one(void *arg)
{
    long index = (long)arg;
    return (void *)(long)(ioctl(vmm.vcpus[index], KVM_RUN, 0) < 0 ? errno : 0);
}

static void on_signal(int number_of_signal)
{
    (void)number_of_signal;
}

/**
 * step_run_all() - KVM_RUN of each vCPU in a thread of its own; while they are in it, another ioctl of this one's; then each
 * is told to come back. The result is how many came back as told.
 */
long step_run_all(const struct step *step, char *detail, size_t len)
{
    (void)step;
    pthread_t threads[MANY];
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (long i = 0; i < vmm.vcpus_len; i++)
        pthread_create(&threads[i], NULL, run_one, (void *)i);
    long cap = ioctl(vmm.vms[0], KVM_CHECK_EXTENSION, 235);
    long back = 0;
    for (int i = 0; i < vmm.vcpus_len; i++) {
        vmm.runs[i]->immediate_exit = 1;
        pthread_kill(threads[i], SIGUSR1);
        void *result;
        pthread_join(threads[i], &result);
        back += (long)result == EINTR;
        vmm.runs[i]->immediate_exit = 0;
    }
    snprintf(detail, len, ", \"cap\": %ld", cap);
    return back;
}

/** step_cloexec() - the FD_CLOEXEC flag of a descriptor; set=0|1 sets it. */
long step_cloexec(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    int fd = *fd_named(step);
    if (word(step, "set"))
        return fcntl(fd, F_SETFD, (int)number(step, "set", 0) ? FD_CLOEXEC : 0);
    return fcntl(fd, F_GETFD);
}

/** step_close_all() - what a daemon does at its start; but it keeps its standard streams. */
long step_close_all(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    unsigned from = (unsigned)number(step, "from", 3);
    if (number(step, "loop", 0)) {
        for (int fd = (int)from; fd < 4096; fd++)
            close(fd);
        return 0;
    }
    return close_range(from, ~0u, 0);
}
