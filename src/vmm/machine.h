/*
 * One life of the guest, from reset to the next: a KVM VM, its RAM, vCPUs and platform devices. A reboot destroys the
 * machine and makes another from the same plan, so that nothing of the old guest is left in the new one.
 */
#ifndef HUSK_VMM_MACHINE_H
#define HUSK_VMM_MACHINE_H

#include "api/event_monitor.h"
#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"
#include "kvm/kvm.h"
#include "launch/plan.h"
#include "vmm/vcpu.h"

struct broker;
struct firmware_files;
struct memory_host;
struct seccomp_program;
struct consoles;
struct snp_host;
struct machine;

/* What outlives a machine; all of it must. */
struct machine_env {
    const struct vm_config *config;
    const struct kvm *kvm;
    struct loop *loop; /* stopped, with result 0, when the machine stops */
    struct event_monitor *events;
    struct consoles *consoles;
    struct broker *broker; /* NULL if no device needs it */
    const struct memory_host *memory_host;
    const struct firmware_files *firmware_files;
    struct snp_host *snp;                      /* NULL: the guest is no SEV-SNP guest */
    const struct seccomp_program *vcpu_filter; /* of length 0: none */
};

/**
 * machine_settle() - what "auto" means where only the payload's files tell: an ELF file as --firmware is entered as a PVH
 * kernel is, on Cloud Hypervisor's machine.
 *
 * Call it on a validated @config, before anything else here. Return: 0, or -errno with a sentence.
 */
int machine_settle(struct vm_config *config, struct error *err);

/**
 * machine_plan() - what @config's guest starts with, as a launch plan.
 *
 * Return: 0, or -errno with a sentence about the file or option that cannot be used.
 */
int machine_plan(struct plan *plan, const struct vm_config *config, struct error *err);

/** machine_create() - everything but running; NULL with @err filled on failure. @env must outlive the machine. */
struct machine *machine_create(const struct machine_env *env, const struct plan *plan,
                               struct error *err);

/** machine_start() - let the vCPUs run. */
int machine_start(struct machine *machine, struct error *err);

/** machine_stop() - say why the machine stops, and stop the loop; from any thread. The first reason counts. */
void machine_stop(struct machine *machine, const struct stop_reason *reason);

/** machine_join() - wait until no vCPU runs any more. Returns why the machine stopped. */
struct stop_reason machine_join(struct machine *machine);

/** machine_power_button() - press it. */
void machine_power_button(struct machine *machine);

void machine_destroy(struct machine *machine);

#endif
