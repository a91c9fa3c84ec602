#include "x86/cpuid.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

struct msr {
    uint32_t index;
    uint64_t value;
    const char *name;
};

/* What firmware leaves behind on real machines: AMD APM volume 2, 7.7.5 (MTRRs on, write-back by default). */
static const struct msr boot_msrs[] = {
    {0x1a0, 0x1, "IA32_MISC_ENABLE"},     /* fast strings */
    {0x2ff, 0x806, "IA32_MTRR_DEF_TYPE"}, /* enabled, write-back */
};

/** warn_refused() - the same for every vCPU, so said once each. */
static void warn_refused(size_t which)
{
    static atomic_bool said[ARRAY_SIZE(boot_msrs)];
    if (!atomic_exchange(&said[which], true))
        log_warn("KVM refused to set %s (MSR 0x%x) to 0x%llx; it stays as it is",
                 boot_msrs[which].name, boot_msrs[which].index,
                 (unsigned long long)boot_msrs[which].value);
}

int msr_set_boot(const struct kvm_vcpu *vcpu, uint32_t index, struct error *err)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[ARRAY_SIZE(boot_msrs)];
    } msrs;

    /* KVM stops at the first register it refuses and says how many it set: go on behind that one. */
    size_t next = 0;
    while (next < ARRAY_SIZE(boot_msrs)) {
        msrs.head = (struct kvm_msrs){.nmsrs = (uint32_t)(ARRAY_SIZE(boot_msrs) - next)};
        for (size_t i = next; i < ARRAY_SIZE(boot_msrs); i++)
            msrs.entries[i - next] =
                (struct kvm_msr_entry){.index = boot_msrs[i].index, .data = boot_msrs[i].value};
        int set = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);
        if (set < 0)
            return error_set_errno(err, -errno, "KVM refused the MSRs of vCPU %u", index);
        next += (size_t)set;
        if (next < ARRAY_SIZE(boot_msrs))
            warn_refused(next++);
    }
    return 0;
}
