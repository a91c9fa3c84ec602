/*
 * The library that is loaded into the program: it stands before /dev/kvm and /dev/sev, asks the simulator process what
 * each call means, and does to the real KVM, if there is one, what that answers. It holds no rule and no state but which
 * descriptor is what.
 *
 * System calls it makes of its own: fstat, sendmsg, recvmsg, mmap, munmap, madvise, close, fcntl, dup3, futex; poll where
 * there is no KVM. A VMM's seccomp filter has to allow these. The connection is made when the program starts, or before
 * the first filter of a process that was forked.
 */
#ifndef HUSK_SIM_PRELOAD_H
#define HUSK_SIM_PRELOAD_H

#include "sim/abi.h"
#include "sim/proto.h"

#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* What a token of this process stands for. Entries are found by inode without a lock, and never freed. */
struct entry {
    _Atomic uint64_t inode; /* 0: free */
    enum sim_kind kind;
    uint32_t id;
    int real;     /* descriptor of the real VM or vCPU, or of its stand-in's memory; -1: none */
    void *memory; /* kvm_run of a vCPU, contents of a guest_memfd */
    size_t memory_len;
    struct entry *vm;         /* of a vCPU: its VM */
    uint32_t sev_number;      /* of a VM: the number of /dev/sev given to LAUNCH_START */
    atomic_bool runnable;     /* of a vCPU: KVM_RUN need not ask */
    struct kvm_cpuid2 *cpuid; /* of a vCPU: what KVM_SET_CPUID2 gave it last */
    bool mask_set;
    sigset_t mask; /* of a vCPU without KVM: signals blocked while it runs */
    struct entry *next;
};

/* One request with its payload, one reply with its. */
struct exchange {
    struct sim_request head;
    const void *payload;
    size_t payload_len;
    struct sim_reply reply;
    void *out;
    size_t out_cap;
    size_t out_len;
    int fds[2]; /* that came along, -1: none */
};

/* raw.c: system calls past the hooks; as libc's, with errno */
long raw_syscall(long number, long a, long b, long c, long d, long e, long f);
int raw_ioctl(int fd, unsigned long request, unsigned long arg);
int raw_close(int fd);
int raw_dup_high(int fd);

/* connection.c */

/** connection_ready() - connect this process, if it is not. Returns whether it is. */
bool connection_ready(void);

/** connection_flags() - enum sim_hello_flags. */
uint64_t connection_flags(void);

/**
 * exchange_run() - ask the simulator, wait for the answer, and learn which objects are gone.
 *
 * Return: the result of the reply; negative is -errno.
 */
int exchange_run(struct exchange *x);

/** exchange_send(), exchange_receive() - the halves of it, between connection_lock() and connection_unlock(). */
int exchange_send(struct exchange *x, const struct iovec *more, size_t more_len);
int exchange_receive(struct exchange *x);
void connection_lock(void);
void connection_unlock(void);

/** connection_window() - the memory that page contents go through. */
uint8_t *connection_window(void);

/** connection_internal() - whether @fd is the library's own, which the program must not close or replace. */
bool connection_internal(int fd);

/** connection_make_room() - give @fd, which the program is about to use, another number if it is the library's. */
void connection_make_room(int fd);

/* objects.c */

/** entry_of() - what @fd stands for, NULL if it is none of ours. One fstat. */
struct entry *entry_of(int fd);

/** entry_id() - the id of what @fd stands for if it is of that kind, else 0; *open: whether @fd is open at all. */
uint32_t entry_id(int fd, enum sim_kind kind, bool *open);

/** entry_add() - remember a token that came with a reply. NULL if there is no memory. */
struct entry *entry_add(enum sim_kind kind, const struct sim_reply *reply);

/** entry_gone() - object @id is gone: release what stood behind it. */
void entry_gone(uint32_t id);

/** entry_with_real() - the entry whose real descriptor has this number, NULL if none has. */
struct entry *entry_with_real(int fd);

/** is_kvm_device() - whether @fd is the real /dev/kvm. */
bool is_kvm_device(int fd);

/* The ioctls, by what they are made on. Each returns as ioctl() does, with errno. */
int system_ioctl(int fd, const struct entry *entry, unsigned long request, unsigned long arg);
int sev_device_ioctl(const struct entry *entry, unsigned long request, unsigned long arg);
int vm_ioctl(struct entry *vm, unsigned long request, unsigned long arg);
int vcpu_ioctl(struct entry *vcpu, unsigned long request, unsigned long arg);
int memory_encrypt_op(struct entry *vm, unsigned long arg);

/** open_device() - a token for /dev/kvm or /dev/sev. */
int open_device(enum sim_kind kind, int flags);

/** give_token() - take the token of a reply: close-on-exec only if it says so. Returns its number. */
int give_token(const struct exchange *x);

/** fail() - what an ioctl returns for a result: itself, or -1 with errno if it is negative. */
int fail(int result);

/** apply_slots() - set the slots that a reply asks for on the real VM. Returns 0 or -errno. */
int apply_slots(const struct entry *vm, const struct sim_slot *slots, size_t len);

/** supported_cpuid() - KVM_GET_SUPPORTED_CPUID where there is no KVM: what this processor says. Returns 0 or -errno. */
int supported_cpuid(struct kvm_cpuid2 *cpuid);

/** show_sev() - make CPUID say that there is SNP, as it does on a host that has it. @room: entries there is space for. */
void show_sev(struct kvm_cpuid2 *cpuid, uint32_t room);

/** refresh_cpuid() - what KVM itself changes in a vCPU's CPUID before it has run (kvm_update_cpuid_runtime). */
void refresh_cpuid(struct kvm_cpuid2 *cpuid);

/** hide_sev() - take SEV, SEV-ES and SNP out of what a guest is told. */
void hide_sev(struct kvm_cpuid_entry2 *entries, uint32_t count);

#endif
