/* System calls that processes of several kinds make. Each was seen in a real run, or is the C library's other way. */
#include "sandbox/roles_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static const struct call_rule process[] = {
    CALL(read),
    CALL(write),
    CALL(close),
    CALL(poll),
    CALL(ppoll),
    CALL(restart_syscall),
    CALL(exit),
    CALL(exit_group),
    CALL(rt_sigreturn),
    CALL(rt_sigprocmask),
    CALL(brk),
    /* malloc, stacks, guest memory: never code. */
    CALL_MASKED(mmap, 2, PROT_EXEC, 0, "no PROT_EXEC"),
    CALL_MASKED(mprotect, 2, PROT_EXEC, 0, "no PROT_EXEC"),
    CALL(munmap),
    CALL(mremap),
    CALL(madvise),
    CALL(futex),
    CALL(getrandom),
    CALL(clock_gettime),
    CALL(gettimeofday),
    CALL(nanosleep),
    CALL(clock_nanosleep),
    CALL(getpid),
    CALL(gettid),
    /* Of a descriptor; the flag does not forbid a path, which only namespaces keep out of reach. */
    CALL(fstat),
    CALL_MASKED(newfstatat, 3, AT_EMPTY_PATH, AT_EMPTY_PATH, "AT_EMPTY_PATH"),
    FCNTL(F_GETFL),
    FCNTL(F_SETFL),
    FCNTL(F_GETFD),
    FCNTL(F_SETFD),
    FCNTL(F_DUPFD_CLOEXEC),
    CALL(lseek),
};

const struct cage_list calls_process = {"Every process", CALLS(process), 0};

#define CLONE_NEW_ANY                                                                         \
    ((unsigned)(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
                CLONE_NEWPID | CLONE_NEWNET))

/* The C library's own, below SIGRTMIN. */
#define SIGCANCEL 32
#define SIGSETXID 33

static const struct call_rule threads[] = {
    CALL_IF(rt_sigaction, 0, SIGCANCEL, "SIGCANCEL"),
    CALL_IF(rt_sigaction, 0, SIGSETXID, "SIGSETXID"),
    /* Its flags are behind a pointer; without it the C library takes clone. */
    CALL_REFUSED(clone3, ENOSYS),
    CALL_MASKED(clone, 0, CLONE_THREAD | CLONE_NEW_ANY, CLONE_THREAD, "CLONE_THREAD"),
    CALL(set_robust_list),
    CALL(rseq),
    CALL_IF(prctl, 0, PR_SET_NAME, "PR_SET_NAME"),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(membarrier),
};

const struct cage_list calls_threads = {"Threads", CALLS(threads), 0};

static const struct call_rule messages[] = {
    CALL(sendmsg),
    CALL(recvmsg),
    CALL(sendto),
    CALL(recvfrom),
};

const struct cage_list calls_messages = {"Messages on connections that it has", CALLS(messages), 0};

static const struct call_rule events[] = {
    CALL(epoll_create1),   CALL(epoll_ctl), CALL(epoll_wait),
    CALL(epoll_pwait),     CALL(eventfd2),  CALL(timerfd_create),
    CALL(timerfd_settime), CALL(preadv2), /* an eventfd that may have been made blocking is read with RWF_NOWAIT */
};

const struct cage_list calls_events = {"Waiting", CALLS(events), 0};
