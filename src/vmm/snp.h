/*
 * A guest that SEV-SNP isolates: what is opened and checked once, and the launch in each of its lives. The order of a launch
 * and its rules: Documentation/virt/kvm/x86/amd-memory-encryption.rst; SNP firmware ABI, chapter 8.
 */
#ifndef HUSK_VMM_SNP_H
#define HUSK_VMM_SNP_H

#include "api/event_monitor.h"
#include "base/error.h"
#include "config/config.h"
#include "kvm/kvm.h"
#include "launch/plan.h"
#include "memory/memory.h"
#include "memory/private.h"
#include "snp/crypto.h"

#include <stdbool.h>
#include <stdint.h>

#define SNP_DEVICE "/dev/sev"

/* What outlives a machine. KVM looks /dev/sev up by its number whenever a guest talks to the firmware. */
struct snp_host {
    int sev_fd;
    int certs_fd;                 /* -1: guests are given no certificates */
    bool launched;                /* once before: @digest is what it was then */
    uint8_t digest[SHA384_BYTES]; /* of the last launch, as predicted from memory */
};

#define SNP_HOST_INIT ((struct snp_host){.sev_fd = -1, .certs_fd = -1})

/**
 * snp_host_open() - see that this host can launch @plan, and open what the launch needs; while husk may open files.
 *
 * Return: 0; -ENOTSUP naming what KVM lacks; -ENOENT or another -errno of /dev/sev; -EINVAL for a policy or features that
 * this host refuses.
 */
int snp_host_open(struct snp_host *host, const struct kvm *kvm, const struct vm_config *config,
                  const struct plan *plan, struct error *err);
void snp_host_close(struct snp_host *host);

/** snp_create_vm() - a VM that is an SEV-SNP guest, before its first vCPU. Returns its descriptor or -errno. */
int snp_create_vm(const struct snp_host *host, const struct kvm *kvm, const struct plan *plan,
                  struct error *err);

/* What is launched. */
struct snp_launch_in {
    const struct vm_config *config;
    const struct plan *plan;
    const struct guest_memory *memory; /* the plan is loaded in it */
    struct private_memory *private;
    const struct kvm_cpuid2 *cpuid; /* what the vCPUs were given */
    struct event_monitor *events;
    int vm_fd;
};

/**
 * snp_launch() - have the firmware import and measure the plan, and seal the guest. All vCPUs have their first state; from
 * here on nobody reads or writes their registers. The shared halves of imported pages go back to the host.
 *
 * Return: 0, or -errno with a sentence that names the command, the firmware's answer, and the page where there is one.
 */
int snp_launch(struct snp_host *host, const struct snp_launch_in *in, struct error *err);

#endif
