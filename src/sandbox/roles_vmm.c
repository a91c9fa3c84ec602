/* System calls of husk run itself: the thread that builds a machine, again after each reboot, and the vCPUs' threads. */
#include "kvm/uapi.h"
#include "sandbox/roles_internal.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#endif

/* What a write to a PCI device's configuration or to its vectors leads to. */
static const struct call_rule machine_at_work[] = {
    IOCTL(KVM_CHECK_EXTENSION),
    IOCTL(KVM_SIGNAL_MSI),
    IOCTL(KVM_IRQFD),
    IOCTL(KVM_IOEVENTFD),
    IOCTL(KVM_SET_GSI_ROUTING),
    IOCTL(KVM_GET_REGS),
    CALL(eventfd2),
    CALL(preadv2), /* an eventfd that may have been made blocking is read with RWF_NOWAIT */
    CALL(pread64), /* files that the command line named, which are open */
    /* vCPUs are told to stop by a signal; a terminal is restored by a handler that raises its signal again. */
    CALL_ON_SELF(tgkill),
    CALL_IF(rt_sigaction, 0, SIGABRT, "SIGABRT"),
    IOCTL(TCGETS),
    IOCTL(TCSETS),
    IOCTL(TCGETS2), /* glibc from 2.42 on */
    IOCTL(TCSETS2),
};

const struct cage_list calls_machine_at_work = {"A machine at work", CALLS(machine_at_work), 0};

static const struct call_rule vcpu[] = {
    IOCTL(KVM_RUN),
};

const struct cage_list calls_vcpu = {"A vCPU", CALLS(vcpu), 0};

static const struct call_rule machine[] = {
    IOCTL(KVM_CREATE_VM),
    IOCTL(KVM_ENABLE_CAP),
    IOCTL(KVM_SET_IDENTITY_MAP_ADDR),
    IOCTL(KVM_SET_TSS_ADDR),
    IOCTL(KVM_SET_USER_MEMORY_REGION),
    IOCTL(KVM_SET_USER_MEMORY_REGION2),
    IOCTL(KVM_GET_SUPPORTED_CPUID),
    IOCTL(KVM_CREATE_VCPU),
    IOCTL(KVM_SET_CPUID2),
    IOCTL(KVM_SET_MSRS),
    IOCTL(KVM_GET_SREGS),
    IOCTL(KVM_SET_SREGS),
    IOCTL(KVM_SET_REGS),
    IOCTL(KVM_GET_XSAVE),
    IOCTL(KVM_SET_XSAVE),
    IOCTL(KVM_SET_XCRS),
    IOCTL(KVM_SET_FPU),
    IOCTL(KVM_SET_DEBUGREGS),
    IOCTL(KVM_RUN), /* for the vCPUs' threads, which it starts */
    CALL(memfd_create),
    CALL(ftruncate),
    FCNTL(F_ADD_SEALS),
    CALL(mincore),
    SOCKETPAIR(SOCK_STREAM), /* what a back-end says unasked */
    CALL(rt_sigpending),
    CALL_IF(sched_setaffinity, 0, 0, "of the calling thread"),
    CALL_IF(prctl, 0, PR_SCHED_CORE, "PR_SCHED_CORE"),
    /* A thread may take further rights from itself. */
    CALL_IF(seccomp, 0, SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"),
    CALL_IF(prctl, 0, PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"),
};

const struct cage_list calls_machine = {"Making a machine", CALLS(machine), 0};

/* The half of a page that is no longer used is given back: a hole in the guest_memfd, or in the memfd of shared RAM. */
static const struct call_rule converting[] = {
    IOCTL(KVM_SET_MEMORY_ATTRIBUTES),
    CALL_IF(fallocate, 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "FALLOC_FL_PUNCH_HOLE"),
};

const struct cage_list calls_converting = {"Converting private memory", CALLS(converting),
                                           CAGE_PRIVATE};

static const struct call_rule private_memory[] = {
    IOCTL(KVM_CREATE_GUEST_MEMFD),
    IOCTL(KVM_PRE_FAULT_MEMORY),
};

const struct cage_list calls_private_memory = {"Making private memory", CALLS(private_memory),
                                               CAGE_PRIVATE};

static const struct call_rule snp[] = {
    IOCTL(KVM_MEMORY_ENCRYPT_OP),
};

static const struct call_rule certificates[] = {
    FCNTL(F_OFD_SETLK),
};

const struct cage_list calls_certificates = {"Certificates of an SEV-SNP guest",
                                             CALLS(certificates), CAGE_SNP};

const struct cage_list calls_snp = {"Launching an SEV-SNP guest", CALLS(snp), CAGE_SNP};

static const struct call_rule consoles[] = {
    CALL(accept4),    /* a client of a console's socket */
    CALL(pwrite64),   /* the size of the virtio console's window */
    IOCTL(TIOCGPGRP), /* whether the terminal may be made raw again */
    IOCTL(TCSETSW),   IOCTL(TIOCGWINSZ), IOCTL(FIONREAD), IOCTL(TIOCGPTPEER), FCNTL(F_DUPFD),
};

const struct cage_list calls_consoles = {"Consoles", CALLS(consoles), 0};

/* Its end is waited for; it is killed by a descriptor. */
static const struct call_rule of_broker[] = {
    CALL(wait4),
    CALL_IF(pidfd_send_signal, 1, SIGKILL, "SIGKILL"),
};

const struct cage_list calls_of_broker = {"Towards the broker", CALLS(of_broker), 0};
