#include "vmm/protected.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

int protected_create_vm(const struct kvm *kvm, struct error *err)
{
    if (!((uint64_t)kvm_has(kvm->fd, KVM_CAP_VM_TYPES) & BIT64(KVM_X86_SW_PROTECTED_VM))) {
        error_set(err, -ENOTSUP,
                  "--platform: sw_protected=on: this KVM has no software-protected VMs");
        return error_hint(err, "the kernel must be built with CONFIG_KVM_SW_PROTECTED_VM, and the "
                               "processor have nested paging on; husk probe says what it can");
    }
    _cleanup_close_ int fd = kvm_create_vm(kvm, KVM_X86_SW_PROTECTED_VM, err);
    if (fd < 0)
        return fd;
    int ret = kvm_exit_map_gpa_range(fd, err);
    return ret < 0 ? ret : take_fd(&fd);
}

static int share(struct private_memory *private, uint64_t gpa, uint64_t len, struct error *err)
{
    uint64_t first = align_down(gpa, PAGE_BYTES);
    uint64_t end = align_up(gpa + len, PAGE_BYTES);
    return memory_convert(private, first, end - first, false, MEMORY_AT_LAUNCH, 0, err);
}

int protected_share_plan(struct private_memory *private, const struct plan *plan,
                         enum plan_part part, struct error *err)
{
    for (size_t i = 0; i < plan->n_runs; i++) {
        const struct plan_run *run = &plan->runs[i];
        int ret = run->len && (run->shared || part == PLAN_WHOLE)
                      ? share(private, run->gpa, run->len, err)
                      : 0;
        if (ret < 0)
            return error_context(err, "%s", run->origin);
    }
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *range = &plan->ranges[i];
        int ret = range->shared && range->len ? share(private, range->gpa, range->len, err) : 0;
        if (ret < 0)
            return error_context(err, "memory that the guest reports errors in");
    }
    return 0;
}

void protected_report(struct private_memory *private, struct event_monitor *events)
{
    struct memory_counters c;
    memory_count(private, &c);
    const uint64_t values[] = {c.private_bytes, c.shared_bytes, c.to_private,    c.to_shared,
                               c.unchanged,     c.punches,      c.punched_bytes, c.punch_failures};
    char text[ARRAY_SIZE(values)][24];
    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        snprintf(text[i], sizeof(text[i]), "%" PRIu64, values[i]);
    event_emit(events, "vm", "private-memory", "private_bytes", text[0], "shared_bytes", text[1],
               "to_private", text[2], "to_shared", text[3], "unchanged", text[4], "punches",
               text[5], "punched_bytes", text[6], "punch_failures", text[7], NULL);
    log_debug("private memory: 0x%" PRIx64 " bytes private, 0x%" PRIx64 " shared; %" PRIu64
              " conversions to private, %" PRIu64 " to shared, %" PRIu64
              " without a change; %" PRIu64 " punches gave back 0x%" PRIx64 " bytes, %" PRIu64
              " failed",
              c.private_bytes, c.shared_bytes, c.to_private, c.to_shared, c.unchanged, c.punches,
              c.punched_bytes, c.punch_failures);
}
