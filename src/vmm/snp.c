/* What has to be there before an SEV-SNP guest is launched. */
#include "vmm/snp.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "kvm/snp.h"
#include "snp/policy.h"
#include "snp/status.h"
#include "snp/vmsa.h"
#include "vmm/certs.h"
#include "vmm/snp_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define HINT_PROBE "husk probe says what this host lacks for SEV-SNP, and what to do about it"

/* What an errno of KVM's means here (Linux 6.12, arch/x86/kvm/svm/sev.c), where the firmware was not asked. */
static const struct {
    int code;
    const char *help;
} meanings[] = {
    {-ENOTTY, "SEV-SNP is off, or the firmware gave the guest no context; see dmesg"},
    {-EBADF, "/dev/sev is not the device of the SEV firmware"},
    {-ENODEV, "the secure processor is not there; see dmesg of ccp"},
    {-ETIMEDOUT, "the secure processor does not answer; only a reboot of the host helps"},
    {-ENOMEM, "the host has no memory left for the guest; guest_memfd is never swapped out"},
};

int snp_failed(struct error *err, int code, uint32_t status, const char *fmt, ...)
{
    char what[320];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    if (code == -EIO && status) {
        error_set(err, code, "%s: the SEV firmware answered 0x%" PRIx32 " (%s)", what, status,
                  snp_status_name(status));
        const char *help = snp_status_help(status);
        return help ? error_hint(err, "%s", help) : code;
    }
    error_set_errno(err, code, "%s", what);
    for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
        if (meanings[i].code == code)
            return error_hint(err, "%s", meanings[i].help);
    return code;
}

/** check_policy() - that this KVM and firmware can keep it, as far as they tell before they are asked. */
static int check_policy(const struct kvm *kvm, uint64_t policy, struct error *err)
{
    uint64_t allowed;
    char text[SNP_POLICY_TEXT];
    int ret = snp_policy_check(policy, err);
    if (ret < 0)
        return ret;
    if (policy & (SNP_POLICY_DEBUG | SNP_POLICY_MIGRATE_MA))
        log_warn("the guest's policy lets %s read its memory: 0x%" PRIx64 " (%s)",
                 policy & SNP_POLICY_DEBUG ? "the host" : "a migration agent", policy,
                 snp_policy_describe(policy, text));
    if (kvm_sev_attribute(kvm->fd, KVM_SEV_SNP_POLICY_BITS, &allowed) < 0)
        return 0; /* older than Linux 6.19: LAUNCH_START will tell */
    uint64_t versions = 0xffff;
    if (!(policy & ~versions & ~allowed))
        return 0;
    error_set(err, -EINVAL, "guest policy 0x%" PRIx64 ": this host refuses its bits 0x%" PRIx64,
              policy, (uint64_t)(policy & ~versions & ~allowed));
    return error_hint(
        err, "the policy comes from --platform policy=, from the IGVM file, or is 0x%" PRIx64,
        (uint64_t)SNP_POLICY_DEFAULT);
}

static int check_features(const struct kvm *kvm, uint64_t features, struct error *err)
{
    uint64_t allowed = 0, asked = features & ~(uint64_t)SEV_FEATURE_SNP_ACTIVE;
    if (!(features & SEV_FEATURE_SNP_ACTIVE))
        return error_set(err, -EINVAL,
                         "VMSA features 0x%" PRIx64 ": an SEV-SNP guest has bit 0 (SNP active) set",
                         features);
    if (!asked)
        return 0;
    if (kvm_sev_attribute(kvm->fd, KVM_SEV_VMSA_FEATURES, &allowed) < 0 || asked & ~allowed) {
        error_set(err, -ENOTSUP,
                  "VMSA features 0x%" PRIx64 ": this KVM does not have bits 0x%" PRIx64, features,
                  (uint64_t)(asked & ~allowed));
        return error_hint(err,
                          "a newer kernel may; the guest's image must not need them otherwise");
    }
    return 0;
}

static int open_device(struct error *err)
{
    int fd = open(SNP_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    int code = -errno;
    error_set_errno(err, code, "could not open '%s'", SNP_DEVICE);
    if (code == -EACCES || code == -EPERM)
        return error_hint(err,
                          "run husk as root or as a member of the group that owns " SNP_DEVICE);
    return error_hint(err, HINT_PROBE);
}

static int open_certs(struct snp_host *host, const struct kvm *kvm, const char *path,
                      struct error *err)
{
    uint64_t offered = 0;
    if (kvm_sev_attribute(kvm->fd, KVM_SEV_SNP_REQ_CERTS, &offered) < 0)
        return error_set(err, -ENOTSUP,
                         "--platform certs: this KVM hands on no requests for certificates, which "
                         "takes Linux 7.0");
    host->certs_fd = certs_open(path, err);
    return host->certs_fd < 0 ? host->certs_fd : 0;
}

int snp_host_open(struct snp_host *host, const struct kvm *kvm, const struct vm_config *config,
                  const struct plan *plan, struct error *err)
{
    if (!((uint64_t)kvm_has(kvm->fd, KVM_CAP_VM_TYPES) & BIT64(KVM_X86_SNP_VM))) {
        error_set(err, -ENOTSUP, "--platform sev_snp=on: this KVM starts no SEV-SNP guests");
        return error_hint(err, HINT_PROBE "; sev_snp=off starts the same as an ordinary guest");
    }
    int ret = crypto_load(err);
    if (ret == 0)
        ret = check_policy(kvm, plan->policy, err);
    if (ret == 0)
        ret = check_features(kvm, plan->vmsa_features, err);
    if (ret == 0 && config->platform.certs)
        ret = open_certs(host, kvm, config->platform.certs, err);
    if (ret < 0)
        return ret;
    host->sev_fd = open_device(err);
    return host->sev_fd < 0 ? host->sev_fd : 0;
}

void snp_host_close(struct snp_host *host)
{
    cleanup_close(&host->sev_fd);
    cleanup_close(&host->certs_fd);
}

int snp_create_vm(const struct snp_host *host, const struct kvm *kvm, const struct plan *plan,
                  struct error *err)
{
    _cleanup_close_ int fd = kvm_create_vm(kvm, KVM_X86_SNP_VM, err);
    if (fd < 0)
        return fd;
    int ret = kvm_exit_map_gpa_range(fd, err);
    if (ret < 0)
        return ret;
    struct kvm_snp snp = {.vm_fd = fd, .sev_fd = host->sev_fd};
    ret = kvm_snp_init(&snp, plan->vmsa_features & ~(uint64_t)SEV_FEATURE_SNP_ACTIVE);
    if (ret == 0 && host->certs_fd >= 0) {
        ret = kvm_snp_enable_certs(&snp);
        if (ret < 0)
            return snp_failed(err, ret, snp.status, "KVM_SEV_SNP_ENABLE_REQ_CERTS");
    }
    if (ret == 0)
        return take_fd(&fd);
    snp_failed(err, ret, snp.status, "KVM_SEV_INIT2: KVM could not make an SEV-SNP guest");
    if (ret == -EBUSY)
        error_hint(err,
                   "all ASIDs for SEV-ES and SEV-SNP guests are in use, or the misc cgroup "
                   "allows no more: end a guest, or raise their number in the firmware set-up");
    return ret;
}
