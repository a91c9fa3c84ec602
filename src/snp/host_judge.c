/* What a host's facts mean: one sentence each, with what to do. Pure: the same facts give the same report. */
#include "snp/host_facts.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* KVM_X86_*_VM */
enum { TYPE_DEFAULT = 0, TYPE_SW_PROTECTED = 1, TYPE_SNP = 4 };

#define EAX_SEV BIT(1)
#define EAX_SEV_ES BIT(3)
#define EAX_SNP BIT(4)

#define FAMILY_TURIN 0x1a
#define STATE_INIT 1
/* The oldest kernel whose KVM starts SEV-SNP guests. */
#define FIRST_KERNEL "6.11"

__attribute__((format(printf, 5, 6))) static void find(struct host_report *report, const char *area,
                                                       enum host_verdict verdict, const char *hint,
                                                       const char *fmt, ...)
{
    if (report->n == HOST_FINDINGS_MAX)
        return;
    struct host_finding *finding = &report->findings[report->n++];
    *finding = (struct host_finding){.area = area, .verdict = verdict, .hint = hint};
    va_list args;
    va_start(args, fmt);
    vsnprintf(finding->text, sizeof(finding->text), fmt, args);
    va_end(args);
}

static const char *generation(const struct host_cpu *cpu)
{
    if (cpu->family == FAMILY_TURIN)
        return "Zen 5";
    if (cpu->family != 0x19)
        return cpu->family == 0x17 ? "Zen 1 or 2" : "not known to husk";
    return cpu->model >= 0x10 && cpu->model <= 0x1f   ? "Zen 4"
           : cpu->model >= 0x60 && cpu->model <= 0xaf ? "Zen 4"
                                                      : "Zen 3";
}

static bool is_amd(const struct host_cpu *cpu)
{
    return strcmp(cpu->vendor, "AuthenticAMD") == 0;
}

/** judge_cpu() - returns whether the processor has SEV-SNP. @offered: KVM says so in any case. */
static bool judge_cpu(const struct host_cpu *cpu, bool offered, struct host_report *report)
{
    const char *area = "processor";
    if (offered && !(is_amd(cpu) && cpu->eax & EAX_SNP)) {
        find(report, area, HOST_NOTE, NULL,
             "%s: shows no SEV-SNP, though KVM offers it: is this a simulation?",
             cpu->brand[0] ? cpu->brand : cpu->vendor);
        return false;
    }
    if (!is_amd(cpu)) {
        find(report, area, HOST_MISSING, "SEV-SNP needs an AMD EPYC 7003 or later",
             "%s is not AMD's: it has no SEV-SNP", cpu->brand[0] ? cpu->brand : cpu->vendor);
        return false;
    }
    find(report, area, HOST_OK, NULL, "%s, family 0x%x model 0x%x (%s)%s", cpu->brand, cpu->family,
         cpu->model, generation(cpu), cpu->is_virtual ? ", of a virtual machine" : "");
    if (!(cpu->eax & EAX_SNP)) {
        find(report, area, HOST_MISSING,
             cpu->is_virtual
                 ? "a VM is seldom given SEV-SNP to pass on: run husk on the machine itself"
                 : "EPYC 7003 and later have it; in the firmware set-up, turn on SMEE, SEV control "
                   "and SNP memory (RMP table) coverage",
             "no SEV-SNP: CPUID 0x8000001f EAX is 0x%x, bit 4 is clear", cpu->eax);
        return false;
    }
    find(report, area, HOST_OK, NULL,
         "SEV-SNP; C-bit %u, %u physical address bits fewer, ASIDs for SEV-SNP and SEV-ES 1 to "
         "%" PRId64,
         cpu->ebx & 0x3f, cpu->ebx >> 6 & 0x3f, (int64_t)cpu->edx - 1);
    if (cpu->edx <= 1)
        find(report, area, HOST_MISSING,
             "in the firmware set-up, set the SEV-ES ASID space limit above 1",
             "no ASID is set aside for SEV-SNP and SEV-ES guests");
    return cpu->edx > 1;
}

/** blame_kernel() - why KVM offers no SEV-SNP on a processor that has it. */
static void blame_kernel(const struct host_facts *facts, struct host_report *report)
{
    const char *area = "kernel";
    const struct host_module *module = &facts->module;
    if (!module->loaded)
        find(report, area, HOST_MISSING, "modprobe kvm_amd", "kvm_amd is not loaded");
    else if (!module->sev_snp)
        find(report, area, HOST_MISSING,
             "Linux " FIRST_KERNEL " or later, with CONFIG_KVM_AMD_SEV, starts SEV-SNP guests",
             "kvm_amd of Linux %s knows nothing of SEV-SNP", facts->kernel);
    else if (module->sev != 'Y' || module->sev_es != 'Y')
        find(report, area, HOST_MISSING,
             "modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1 sev_snp=1; where that changes "
             "nothing, `dmesg | grep -i -e sev -e ccp` tells why",
             "kvm_amd has sev=%c, sev_es=%c: SEV-SNP needs both", module->sev ? module->sev : '-',
             module->sev_es ? module->sev_es : '-');
    else if (module->sev_snp == 'N')
        find(report, area, HOST_MISSING,
             "see `dmesg | grep -i -e snp -e rmp -e iommu`: the firmware must reserve the RMP "
             "table, the IOMMU be on (not iommu=off), and the module not be loaded with sev_snp=0",
             "kvm_amd has sev_snp=N: the kernel found no way to use SEV-SNP");
    else
        find(report, area, HOST_MISSING, "modprobe -r kvm_amd; modprobe kvm_amd",
             "kvm_amd has sev_snp=Y, but KVM offers no SEV-SNP guests");
}

static void judge_asids(const struct host_facts *facts, struct host_report *report)
{
    if (!facts->has_asids || facts->asids == 0)
        return;
    bool room = facts->asids_in_use < facts->asids;
    find(report, "kernel", room ? HOST_OK : HOST_NOTE,
         room ? NULL : "end an SEV-ES or SEV-SNP guest first",
         "%" PRIu64 " of %" PRIu64 " ASIDs for SEV-SNP and SEV-ES guests are in use",
         facts->asids_in_use, facts->asids);
}

/** judge_open() - /dev/kvm. Returns whether it is open. */
static bool judge_open(const struct host_facts *facts, struct host_report *report)
{
    int code = facts->kvm.open_error;
    if (code == 0 && facts->kvm.api_version != 12)
        find(report, "KVM", HOST_MISSING, NULL, "/dev/kvm is not KVM of API version 12");
    else if (code == 0)
        find(report, "KVM", HOST_OK, NULL, "/dev/kvm is there, Linux %s", facts->kernel);
    else if (code == EACCES || code == EPERM)
        find(report, "KVM", HOST_MISSING,
             "run as root or as a member of the group that owns /dev/kvm",
             "/dev/kvm may not be opened: %s", strerror(code));
    else
        find(report, "KVM", HOST_MISSING,
             "load kvm_amd or kvm_intel, and see that virtualization is on in the firmware set-up",
             "/dev/kvm could not be opened: %s", strerror(code));
    return code == 0 && facts->kvm.api_version == 12;
}

/** judge_caps() - returns whether KVM has all that guests with private memory need. */
static bool judge_caps(const struct host_kvm *kvm, struct host_report *report)
{
    char missing[HOST_TEXT] = "", without[HOST_TEXT] = "";
    for (unsigned cap = 0; cap < HOST_CAPS; cap++) {
        char *list = cap >= HOST_CAP_OPTIONAL ? without : missing;
        size_t used = strlen(list);
        if (!kvm->caps[cap])
            snprintf(list + used, HOST_TEXT - used, "%s%s", used ? ", " : "", host_cap_name(cap));
    }
    if (missing[0])
        find(report, "KVM", HOST_MISSING,
             "Linux " FIRST_KERNEL " or later, built with CONFIG_KVM_AMD_SEV or "
             "CONFIG_KVM_SW_PROTECTED_VM, has them",
             "private memory: KVM lacks %.200s", missing);
    else
        find(report, "KVM", HOST_OK, NULL, "private memory: guest_memfd, memory attributes%s",
             kvm->caps[HOST_CAP_EXIT_HYPERCALL] & BIT(12) ? ", page conversions by hypercall" : "");
    if (!missing[0] && without[0])
        find(report, "KVM", HOST_NOTE, NULL, "husk does without %.200s", without);
    if (!missing[0] && !(kvm->caps[HOST_CAP_EXIT_HYPERCALL] & BIT(12))) {
        find(report, "KVM", HOST_MISSING, "Linux " FIRST_KERNEL " or later passes them on",
             "KVM does not pass on page conversions (hypercall 12)");
        return false;
    }
    return !missing[0];
}

static void judge_attributes(const struct host_kvm *kvm, struct host_report *report)
{
    if (kvm->has_vmsa_features)
        find(report, "KVM", HOST_OK, NULL, "VMSA features that guests may have: 0x%" PRIx64,
             kvm->vmsa_features);
    if (kvm->has_policy_bits)
        find(report, "KVM", HOST_OK, NULL, "policy bits that guests may have: 0x%" PRIx64,
             kvm->policy_bits);
    else
        find(report, "KVM", HOST_NOTE, NULL,
             "which policy bits guests may have is not told; kernels before 6.19 refuse a policy "
             "that forbids SMT or demands a single socket");
    find(report, "KVM", HOST_NOTE, NULL,
         kvm->has_req_certs
             ? "certificates can be served to guests that ask for extended reports"
             : "this kernel serves no certificates to guests that ask for extended reports");
}

/** judge_device() - /dev/sev and what came of asking it. Returns whether it answers. */
static bool judge_device(const struct host_firmware *firmware, struct host_report *report)
{
    const char *area = "firmware";
    int code = firmware->open_error;
    if (code == EACCES || code == EPERM)
        find(report, area, HOST_MISSING,
             "run as root, or give a group the right to read and write /dev/sev",
             "/dev/sev may not be opened: %s", strerror(code));
    else if (code)
        find(report, area, HOST_MISSING,
             "modprobe ccp; `dmesg | grep -i ccp` tells why the secure processor is not there",
             "/dev/sev could not be opened: %s", strerror(code));
    else if (firmware->status_error && firmware->status)
        find(report, area, HOST_MISSING, "`dmesg | grep -i -e ccp -e sev` may tell more",
             "the firmware gives no status: it answers with error %" PRIu32, firmware->status);
    else if (firmware->status_error)
        find(report, area, HOST_MISSING,
             "SEV-SNP is not initialized: `dmesg | grep -i -e ccp -e snp` tells why",
             "the firmware gives no status: %s", strerror(firmware->status_error));
    return !code && !firmware->status_error;
}

static void describe_tcb(const struct host_facts *facts, uint64_t tcb, const char *which,
                         struct host_report *report)
{
    struct host_tcb t = host_tcb_split(tcb, facts->cpu.family);
    char fmc[16] = "";
    if (t.has_fmc)
        snprintf(fmc, sizeof(fmc), "FMC %u, ", t.fmc);
    find(report, "firmware", HOST_OK, NULL,
         "%s TCB 0x%016" PRIx64 ": %sboot loader %u, TEE %u, SNP %u, microcode %u", which, tcb, fmc,
         t.bootloader, t.tee, t.snp, t.microcode);
}

/** judge_firmware() - returns whether the firmware is ready for guests. */
static bool judge_firmware(const struct host_facts *facts, struct host_report *report)
{
    const struct host_firmware *firmware = &facts->firmware;
    const char *area = "firmware";
    if (!judge_device(firmware, report))
        return false;
    find(report, area, HOST_OK, NULL, "SEV-SNP ABI %u.%u, build %" PRIu32 ", %" PRIu32 " guests",
         firmware->api_major, firmware->api_minor, firmware->build, firmware->guests);
    describe_tcb(facts, firmware->reported_tcb, "reported", report);
    if (firmware->current_tcb != firmware->reported_tcb)
        describe_tcb(facts, firmware->current_tcb, "current", report);
    if (firmware->mask_chip_id || firmware->mask_chip_key)
        find(report, area, HOST_NOTE, "the host's owner set this (SNP_SET_CONFIG)",
             "reports of guests %s",
             firmware->mask_chip_key ? "are not signed by this chip's key"
                                     : "do not tell the chip's identity");
    if (firmware->vlek)
        find(report, area, HOST_NOTE, NULL, "reports can be signed by a loaded key (VLEK)");
    bool ready = firmware->state == STATE_INIT && firmware->rmp_is_initialized;
    if (!ready)
        find(report, area, HOST_MISSING,
             "`dmesg | grep -i -e ccp -e rmp` tells why; the first guest may change it",
             "SEV-SNP is not initialized: state %u, RMP %s", firmware->state,
             firmware->rmp_is_initialized ? "initialized" : "not initialized");
    return ready;
}

void host_judge(const struct host_facts *facts, struct host_report *report)
{
    *report = (struct host_report){0};
    const struct host_kvm *kvm = &facts->kvm;
    bool open = judge_open(facts, report);
    report->ordinary = open;
    bool caps = open && judge_caps(kvm, report);
    report->sw_protected = caps && (kvm->vm_types & BIT(TYPE_SW_PROTECTED));
    bool offered = open && (kvm->vm_types & BIT(TYPE_SNP));
    bool cpu = judge_cpu(&facts->cpu, offered, report);
    if (offered)
        find(report, "KVM", HOST_OK, NULL, "SEV-SNP guests are offered");
    else if (cpu)
        blame_kernel(facts, report);
    else if (open)
        find(report, "KVM", HOST_MISSING, NULL, "SEV-SNP guests are not offered");
    if (offered)
        judge_attributes(kvm, report);
    judge_asids(facts, report);
    bool firmware = (offered || cpu) && judge_firmware(facts, report);
    report->sev_snp = caps && offered && firmware;
}

struct host_tcb host_tcb_split(uint64_t tcb, uint32_t family)
{
    uint8_t byte[8];
    for (unsigned i = 0; i < ARRAY_SIZE(byte); i++)
        byte[i] = (uint8_t)(tcb >> (8 * i));
    if (family >= FAMILY_TURIN)
        return (struct host_tcb){true, byte[0], byte[1], byte[2], byte[3], byte[7]};
    return (struct host_tcb){false, 0, byte[0], byte[1], byte[6], byte[7]};
}
