/* Software-protected VMs: KVM keeps pages private to the guest, nothing encrypts them. For development. */
#ifndef HUSK_VMM_PROTECTED_H
#define HUSK_VMM_PROTECTED_H

#include "api/event_monitor.h"
#include "base/error.h"
#include "kvm/kvm.h"
#include "launch/plan.h"
#include "memory/private.h"

/**
 * protected_create_vm() - a software-protected VM that hands on its guest's requests for conversions.
 *
 * Return: its descriptor; -ENOTSUP if this KVM has none; or what KVM said.
 */
int protected_create_vm(const struct kvm *kvm, struct error *err);

enum plan_part {
    PLAN_SHARED, /* what it says is shared */
    PLAN_WHOLE,
};

/**
 * protected_share_plan() - make the pages of @part of @plan's runs, and the ranges that the guest shares with husk, shared.
 *
 * Of a software-protected VM that is the whole of it: the kernel offers no way to put anything into private memory there, so
 * shared pages are where it is loaded (Linux 6.12, virt/kvm/guest_memfd.c has no write).
 */
int protected_share_plan(struct private_memory *private, const struct plan *plan,
                         enum plan_part part, struct error *err);

/** protected_report() - the counters of @private, as event "private-memory". */
void protected_report(struct private_memory *private, struct event_monitor *events);

#endif
