/*
 * Typed wrappers over KVM's ioctls: the door of kvm/. Each returns 0 (or a descriptor) or -errno, and says in its error
 * what was asked of KVM and what usually helps.
 */
#ifndef HUSK_KVM_KVM_H
#define HUSK_KVM_KVM_H

#include "base/error.h"
#include "kvm/uapi.h"
#include "launch/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The system: /dev/kvm and what it offers. */
struct kvm {
    int fd;
    size_t run_size;     /* bytes of a vCPU's shared kvm_run area */
    uint32_t max_vcpus;  /* vCPUs a VM may have */
    bool memory_region2; /* KVM_SET_USER_MEMORY_REGION2 */
    bool readonly_memory;
    bool tsc_deadline; /* the local APIC timer has a TSC-deadline mode */
};

/**
 * kvm_open() - open @path and see that it offers what husk cannot do without.
 *
 * Return: 0; -ENOENT, -EACCES, -EPERM from open; -EPROTO if it is no KVM of API version 12; -ENOTSUP naming every
 * capability that is missing.
 */
int kvm_open(struct kvm *kvm, const char *path, struct error *err);
void kvm_close(struct kvm *kvm);

/** kvm_create_vm() - a VM of KVM's type @type (0: ordinary). Returns its descriptor or -errno. */
int kvm_create_vm(const struct kvm *kvm, unsigned long type, struct error *err);

/* One memory slot. */
struct kvm_memory {
    uint32_t slot;
    bool readonly; /* guest writes are MMIO exits; needs kvm->readonly_memory */
    uint64_t gpa;
    uint64_t len; /* bytes; 0 removes the slot */
    void *hva;
    bool
        has_private; /* @guest_memfd is its private half, from offset 0 on; needs kvm->memory_region2 */
    int guest_memfd;
};

/** kvm_set_memory() - make, change or remove a memory slot. */
int kvm_set_memory(const struct kvm *kvm, int vm_fd, const struct kvm_memory *memory,
                   struct error *err);

/** kvm_has() - what KVM_CHECK_EXTENSION answers for @capability on a system's or VM's descriptor; 0 for none. */
int kvm_has(int fd, int capability);

/**
 * kvm_create_guest_memfd() - memory of @vm_fd that only its guest reaches; closed on exec.
 * @size: bytes, whole pages.
 *
 * It keeps the VM alive while it is open. Return: the descriptor or -errno.
 */
int kvm_create_guest_memfd(int vm_fd, uint64_t size, struct error *err);

/** kvm_set_private() - make @len bytes at @gpa private or shared, whole pages. All of them or, on failure, none. */
int kvm_set_private(int vm_fd, uint64_t gpa, uint64_t len, bool private, struct error *err);

/** kvm_exit_map_gpa_range() - have the guest's KVM_HC_MAP_GPA_RANGE end KVM_RUN. Before the first vCPU. */
int kvm_exit_map_gpa_range(int vm_fd, struct error *err);

/** kvm_set_identity_map() - pages that Intel processors need for real mode: one at @identity_map, three at @tss.
 * Both below 4 GiB, where the guest has no RAM; without meaning on AMD. Before the first vCPU.
 */
int kvm_set_identity_map(int vm_fd, uint64_t identity_map, uint64_t tss, struct error *err);

/** kvm_split_irqchip() - local APICs in KVM, the IOAPIC's @pins in husk. Before the first vCPU. */
int kvm_split_irqchip(int vm_fd, unsigned pins, struct error *err);

/** kvm_signal_msi() - inject one message. Returns 0 or -errno; a message that no APIC takes is no error. */
int kvm_signal_msi(int vm_fd, uint64_t addr, uint32_t data);

/** kvm_irqfd() - an event on @event_fd raises @gsi (@assign), or no longer does. */
int kvm_irqfd(int vm_fd, int event_fd, uint32_t gsi, bool assign, struct error *err);

struct kvm_ioeventfd_at {
    uint64_t addr;
    uint32_t len; /* 1, 2, 4, 8; 0 for any width, where kvm_ioeventfd_any_width() */
    bool port;    /* a port, not a physical address */
    bool match;   /* only writes of @data */
    uint64_t data;
};

/** kvm_ioeventfd_any_width() - whether kvm_ioeventfd_at.len may be 0. */
bool kvm_ioeventfd_any_width(int vm_fd);

/** kvm_ioeventfd() - guest writes at @at signal @event_fd (@assign) without leaving KVM, or no longer do. */
int kvm_ioeventfd(int vm_fd, int event_fd, const struct kvm_ioeventfd_at *at, bool assign,
                  struct error *err);

/* One vCPU: its descriptor and the area it shares with KVM. */
struct kvm_vcpu {
    int fd;
    struct kvm_run *run;
    size_t run_size;
};

/** kvm_vcpu_create() - a vCPU whose KVM id, and so APIC id, is @id. */
int kvm_vcpu_create(const struct kvm *kvm, int vm_fd, uint32_t id, struct kvm_vcpu *vcpu,
                    struct error *err);
void kvm_vcpu_destroy(struct kvm_vcpu *vcpu);

/** kvm_vcpu_set_state() - the registers that @state says. CPUID must have been set before.
 *
 * What equals the state after reset is not set again: each ioctl costs start-up time.
 */
int kvm_vcpu_set_state(const struct kvm_vcpu *vcpu, const struct plan_vcpu *state,
                       struct error *err);

/** kvm_vcpu_rip() - where a stopped vCPU stands, for messages; 0 if KVM does not tell. */
uint64_t kvm_vcpu_rip(const struct kvm_vcpu *vcpu);

/**
 * kvm_vcpu_prefault() - map @len bytes at @gpa, whole pages, as if the guest touched them. @vcpu must not run.
 *
 * Return: bytes done, at least a page, or -errno: -EINTR and -EAGAIN are for trying again.
 */
int64_t kvm_vcpu_prefault(const struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t len);

/** kvm_vcpu_memory_fault() - what KVM_RUN reported with KVM_EXIT_MEMORY_FAULT. */
struct kvm_memory_fault kvm_vcpu_memory_fault(const struct kvm_vcpu *vcpu);

/* Interrupt routing: which message each GSI sends. Changes are collected and given to KVM in one call. */
struct kvm_routes;

/** kvm_routes_new() - for @vm_fd; GSIs below @pins are the IOAPIC's. NULL if memory ran out. */
struct kvm_routes *kvm_routes_new(int vm_fd, unsigned pins);
void kvm_routes_free(struct kvm_routes *routes);

/** kvm_routes_set() - GSI @gsi sends @data to @addr. Takes effect at the next commit. Returns 0, -EINVAL, -ENOMEM. */
int kvm_routes_set(struct kvm_routes *routes, uint32_t gsi, uint64_t addr, uint32_t data);

/** kvm_routes_clear() - GSI @gsi sends nothing. Takes effect at the next commit. */
void kvm_routes_clear(struct kvm_routes *routes, uint32_t gsi);

/** kvm_routes_commit() - give KVM the table if it has changed. Returns 0 or -errno. */
int kvm_routes_commit(struct kvm_routes *routes);

/** kvm_routes_alloc() - a free GSI above the IOAPIC's pins. Returns it or -ENOSPC. */
int kvm_routes_alloc(struct kvm_routes *routes);
void kvm_routes_release(struct kvm_routes *routes, uint32_t gsi);

#endif
