/*
 * System calls of the broker. Its filter is around the back-ends too, which it starts: what they do before they put
 * themselves in their own, and all that those allow. Theirs can only be narrower.
 */
#include "sandbox/roles_internal.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Older headers' C library forks so. */
#define FORK_FLAGS (CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD)

static const struct call_rule brokering[] = {
    /* What the command line named, which Landlock holds it to; and the sockets it has made, removed at the end. */
    CALL(openat),
    CALL(newfstatat),
    CALL(unlink),
    /* A back-end, alone in a namespace where the kernel makes one. */
    CALL_IF(clone, 0, CLONE_PIDFD | CLONE_NEWPID | SIGCHLD, "CLONE_PIDFD, CLONE_NEWPID"),
    CALL_IF(clone, 0, CLONE_PIDFD | SIGCHLD, "CLONE_PIDFD"),
    CALL(execve),
    CALL_IF(prctl, 0, PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"),
    SOCKETPAIR(SOCK_STREAM),
    SOCKETPAIR(SOCK_SEQPACKET), /* the simulator's library, in a back-end that it is loaded into */
    CALL(dup3),
    CALL(close_range),
    CALL_IF(pidfd_send_signal, 1, SIGKILL,
            "SIGKILL"), /* to what it has started: it opens no other pidfd */
    CALL(wait4),
};

const struct cage_list calls_brokering = {"Brokering", CALLS(brokering), 0};

/* The loader, the C library and libseccomp, of glibc 2.36 to 2.42. */
static const struct call_rule program[] = {
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(statx),
    CALL(pread64),
    CALL(mmap),
    CALL(mprotect),
    CALL(arch_prctl),
    CALL(set_tid_address),
    CALL(set_robust_list),
    CALL(rseq),
    CALL_IF(prlimit64, 0, 0, "of itself"),
    CALL(rt_sigaction),
    CALL(uname),
    CALL(sysinfo),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getppid),
    CALL(seccomp), /* asks what it knows */
};

const struct cage_list calls_program = {"Starting a program", CALLS(program), 0};

static const struct call_rule opening[] = {
    CALL(signalfd4),
    CALL(getsockopt),
    CALL_IF(setns, 1, CLONE_NEWNS, "CLONE_NEWNS"),
    CALL(capget),
    CALL(capset),
    CALL(landlock_create_ruleset),
    CALL(landlock_add_rule),
    CALL(landlock_restrict_self),
    CALL_IF(prctl, 0, PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"),
};

const struct cage_list calls_opening = {"Making a back-end ready", CALLS(opening), 0};

static const struct call_rule opening_disk[] = {
    /* What is done by a ring no filter sees: the back-end restricts its own before it uses them. */
    CALL(io_uring_setup), CALL(io_uring_register), FCNTL(F_OFD_SETLK), FCNTL(F_OFD_GETLK),
    IOCTL(BLKGETSIZE64),  IOCTL(BLKSSZGET),        IOCTL(BLKPBSZGET),  IOCTL(BLKIOOPT),
};

const struct cage_list calls_opening_disk = {"Making a disk ready", CALLS(opening_disk),
                                             CAGE_DISKS};

static const struct call_rule opening_tap[] = {
    IOCTL(TUNGETIFF),
};

const struct cage_list calls_opening_tap = {"Making a tap ready", CALLS(opening_tap), CAGE_TAPS};

/* Its connector. */
static const struct call_rule opening_streams[] = {
    CALL_IF(clone, 0, FORK_FLAGS, "as fork does"),
};

const struct cage_list calls_opening_streams = {"Making streams ready", CALLS(opening_streams),
                                                CAGE_STREAMS};
