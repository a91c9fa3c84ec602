/* The threads that run the guest, and what makes them stop. */
#ifndef HUSK_VMM_VCPU_H
#define HUSK_VMM_VCPU_H

#include "base/error.h"
#include "config/config.h"
#include "devices/bus.h"
#include "kvm/kvm.h"
#include "memory/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Why a machine stops running. The first reason counts. */
enum stop_kind {
    STOP_NONE,
    STOP_POWER_OFF,
    STOP_RESET,
    STOP_TRIPLE_FAULT,
    STOP_INTERNAL_ERROR,
    STOP_FAIL_ENTRY,
    STOP_MEMORY_FAULT,
    STOP_HOST_ERROR,
    STOP_SIGNAL,
    STOP_TERMINATED,
};

struct stop_reason {
    enum stop_kind kind;
    uint32_t vcpu;    /* on which vCPU, where that matters */
    int signal;       /* STOP_SIGNAL */
    char detail[512]; /* what is known about it, as part of a sentence */
};

/* What a vCPU thread reaches. Everything here outlives the threads. */
struct vcpu_context {
    struct bus *ports;
    struct bus *mmio;
    struct private_memory *private; /* NULL: all memory is shared */
    const struct guest_memory *memory;
    int certs_fd; /* see certs_open(); -1: the guest is given none */
    bool sealed;  /* the guest's registers are out of reach (SEV-SNP) */
    /* From any vCPU thread. */
    void (*stop)(void *ctx, const struct stop_reason *reason);
    void (*eoi)(void *ctx, uint8_t vector);
    void *ctx;
    atomic_bool stopped; /* no vCPU of this machine enters the guest any more */
};

struct vcpu {
    struct kvm_vcpu kvm;
    uint32_t index;
    struct vcpu_context *context;
    const struct cpu_affinity *affinity; /* NULL: anywhere */
    enum core_scheduling core_scheduling;
    const struct seccomp_program
        *filter; /* that the thread puts around itself; of length 0: none */
    pthread_t thread;
    bool started;
};

/** vcpu_thread_start() - begin to run the guest on a thread of its own.
 *
 * Return: 0, or -errno if the thread could not be made or placed as its affinity and core scheduling ask.
 */
int vcpu_thread_start(struct vcpu *vcpu, struct error *err);

/** vcpu_thread_kick() - make the thread leave the guest; once the context says stopped, it ends. */
void vcpu_thread_kick(struct vcpu *vcpu);

/** vcpu_thread_join() - wait until it has. */
void vcpu_thread_join(struct vcpu *vcpu);

/** vcpu_threads_init() - once a process, before the first thread: the signal that interrupts KVM_RUN. */
int vcpu_threads_init(struct error *err);

#endif
