/*
 * What the virtio transport asks of KVM, answered in memory: it takes the place of kvm/vm.c and kvm/routes.c where it is
 * linked in. It keeps to KVM's rules: an eventfd that has counted when it is tied interrupts once and keeps its count,
 * one that is tied is read as it is signalled, and a route is in force from its commit on.
 */
#ifndef HUSK_TESTS_FAKE_KVM_H
#define HUSK_TESTS_FAKE_KVM_H

#include "kvm/kvm.h"

#define FAKE_KVM_MAX 1024

struct fake_kvm_route {
    bool allocated, set;
    uint64_t addr;
    uint32_t data;
};

struct fake_kvm {
    bool any_width;
    bool refuse_ioeventfds;
    unsigned n_doorbells;
    struct {
        uint64_t addr;
        uint32_t len;
        int fd;
    } doorbells[FAKE_KVM_MAX];
    unsigned n_irqfds;
    struct {
        int fd;
        uint32_t gsi;
    } irqfds[FAKE_KVM_MAX];
    struct fake_kvm_route routes[FAKE_KVM_MAX], committed[FAKE_KVM_MAX];
    unsigned commits;    /* of a table that had changed */
    unsigned mistakes;   /* calls that KVM would have refused */
    unsigned interrupts; /* delivered since the last look */
    uint64_t last_addr;
    uint32_t last_data;
};

extern struct fake_kvm fake_kvm;

/** fake_kvm_reset() - as a new VM. */
void fake_kvm_reset(void);

/** fake_kvm_run() - deliver what tied eventfds have counted. Returns how many interrupts came since the last call. */
unsigned fake_kvm_run(void);

/** fake_kvm_ring() - a guest's write of @len bytes at @addr: whether an ioeventfd took it. */
bool fake_kvm_ring(uint64_t addr, unsigned len);

/** fake_kvm_doorbell() - the eventfd at @addr, -1 if there is none. */
int fake_kvm_doorbell(uint64_t addr);

#endif
