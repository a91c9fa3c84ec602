/*
 * Leaves come from KVM_GET_SUPPORTED_CPUID; what describes the host's own topology there is replaced by the guest's.
 * Leaf and field numbers: AMD64 Architecture Programmer's Manual volume 3, appendix E; Intel SDM volume 2, CPUID.
 */
#include "x86/cpuid.h"

#include "base/bytes.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define ENTRIES_AT_FIRST 128
#define ENTRIES_LIMIT 4096

#define LEAF_FEATURES 0x1
#define LEAF_CACHES_INTEL 0x4
#define LEAF_TOPOLOGY 0xb
#define LEAF_TOPOLOGY_V2 0x1f
#define LEAF_AMD_FEATURES 0x80000001
#define LEAF_AMD_SIZES 0x80000008
#define LEAF_CACHES_AMD 0x8000001d
#define LEAF_AMD_TOPOLOGY 0x8000001e
#define LEAF_ENCRYPTION 0x8000001f

#define FEATURES_ECX_TSC_DEADLINE BIT(24)
#define FEATURES_ECX_HYPERVISOR BIT(31)
#define FEATURES_EDX_HTT BIT(28)
/* Leaf 0x8000001F: EAX SEV, SEV-ES, SEV-SNP; EBX 5:0 position of the C-bit, 11:6 bits of an address that are lost to it. */
#define ENCRYPTION_EAX (BIT(1) | BIT(3) | BIT(4))
#define ENCRYPTION_C_BIT 51
#define ENCRYPTION_LOST_BITS 1
#define AMD_FEATURES_ECX_CMP_LEGACY BIT(1)

enum topology_level { LEVEL_NONE = 0, LEVEL_THREAD = 1, LEVEL_CORE = 2, LEVEL_DIE = 5 };

/* How many low bits of an APIC id tell apart what lies in one core, die, package. */
struct apic_shifts {
    unsigned core, die, package;
};

struct kvm_cpuid2 *cpuid_supported(const struct kvm *kvm, struct error *err)
{
    for (size_t n = ENTRIES_AT_FIRST; n <= ENTRIES_LIMIT; n *= 2) {
        struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));
        if (!cpuid) {
            error_set(err, -ENOMEM, "out of memory for CPUID");
            return NULL;
        }
        cpuid->nent = (uint32_t)n;
        if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0)
            return cpuid;
        int code = -errno;
        free(cpuid);
        if (code != -E2BIG) {
            error_set_errno(err, code, "KVM did not tell which CPUID leaves it supports");
            return NULL;
        }
    }
    error_set(err, -E2BIG, "KVM supports more than %d CPUID leaves", ENTRIES_LIMIT);
    return NULL;
}

/** width() - bits that tell @n things apart. */
static unsigned width(uint32_t n)
{
    return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

static struct apic_shifts shifts_of(const struct cpu_layout *cpus)
{
    unsigned core = width(cpus->threads_per_core);
    unsigned die = core + width(cpus->cores_per_die);
    return (struct apic_shifts){
        .core = core, .die = die, .package = die + width(cpus->dies_per_package)};
}

static uint32_t threads_per_package(const struct cpu_layout *cpus)
{
    return cpus->threads_per_core * cpus->cores_per_die * cpus->dies_per_package;
}

/** set_cache_sharing() - leaf 4 and 0x8000001D: EAX 7:5 level, 25:14 APIC ids that share the cache, less one. */
static void set_cache_sharing(struct kvm_cpuid_entry2 *entry, const struct apic_shifts *shifts)
{
    unsigned level = (entry->eax >> 5) & 7;
    if ((entry->eax & 0x1f) == 0)
        return;
    uint32_t sharing = level >= 3 ? BIT(shifts->die) : BIT(shifts->core);
    entry->eax = (entry->eax & ~0x03ffc000u) | ((sharing - 1) & 0xfff) << 14;
}

static void adjust_entry(struct kvm_cpuid_entry2 *entry, const struct cpu_layout *cpus,
                         bool tsc_deadline)
{
    struct apic_shifts shifts = shifts_of(cpus);
    uint32_t threads = threads_per_package(cpus);
    switch (entry->function) {
    case LEAF_FEATURES:
        entry->ecx |= FEATURES_ECX_HYPERVISOR;
        entry->ecx &= ~FEATURES_ECX_TSC_DEADLINE;
        if (tsc_deadline)
            entry->ecx |= FEATURES_ECX_TSC_DEADLINE;
        /* EBX 15:8 is the CLFLUSH line size; 23:16 logical processors in the package. */
        entry->ebx = (entry->ebx & 0xff00) | MIN(threads, 255u) << 16;
        entry->edx &= ~FEATURES_EDX_HTT;
        if (threads > 1)
            entry->edx |= FEATURES_EDX_HTT;
        break;
    case LEAF_CACHES_INTEL:
        set_cache_sharing(entry, &shifts);
        if (entry->eax & 0x1f) {
            uint32_t cores = BIT(shifts.package - shifts.core);
            entry->eax = (entry->eax & 0x03ffffff) | ((cores - 1) & 0x3f) << 26;
        }
        break;
    case LEAF_AMD_FEATURES:
        entry->ecx &= ~AMD_FEATURES_ECX_CMP_LEGACY;
        if (threads > 1)
            entry->ecx |= AMD_FEATURES_ECX_CMP_LEGACY;
        break;
    case LEAF_AMD_SIZES:
        /* ECX 7:0 threads in the package less one, 15:12 bits of the APIC id that tell them apart. */
        entry->ecx = (entry->ecx & ~0xf0ffu) | ((threads - 1) & 0xff) | shifts.package << 12;
        break;
    case LEAF_CACHES_AMD:
        set_cache_sharing(entry, &shifts);
        break;
    default:
        break;
    }
}

static bool describes_host_topology(uint32_t leaf)
{
    return leaf == LEAF_TOPOLOGY || leaf == LEAF_TOPOLOGY_V2;
}

static uint32_t highest_basic_leaf(const struct kvm_cpuid2 *cpuid)
{
    for (uint32_t i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == 0)
            return cpuid->entries[i].eax;
    return 0;
}

static void add_level(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index, unsigned shift,
                      uint32_t processors, enum topology_level level)
{
    cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = index,
        .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .eax = shift,
        .ebx = processors,
        .ecx = index | (uint32_t)level << 8,
    };
}

/* Levels that add_topology() may add, the last ones included; and the leaf that cpuid_encrypt() may. */
#define TOPOLOGY_ENTRIES 7
#define ENCRYPTION_ENTRIES 1

static void add_topology(struct kvm_cpuid2 *cpuid, const struct cpu_layout *cpus)
{
    struct apic_shifts shifts = shifts_of(cpus);
    uint32_t highest = highest_basic_leaf(cpuid);
    uint32_t all = threads_per_package(cpus);
    if (highest >= LEAF_TOPOLOGY) {
        add_level(cpuid, LEAF_TOPOLOGY, 0, shifts.core, cpus->threads_per_core, LEVEL_THREAD);
        add_level(cpuid, LEAF_TOPOLOGY, 1, shifts.package, all, LEVEL_CORE);
        add_level(cpuid, LEAF_TOPOLOGY, 2, 0, 0, LEVEL_NONE);
    }
    if (highest >= LEAF_TOPOLOGY_V2) {
        uint32_t die = cpus->threads_per_core * cpus->cores_per_die;
        add_level(cpuid, LEAF_TOPOLOGY_V2, 0, shifts.core, cpus->threads_per_core, LEVEL_THREAD);
        add_level(cpuid, LEAF_TOPOLOGY_V2, 1, shifts.die, die, LEVEL_CORE);
        add_level(cpuid, LEAF_TOPOLOGY_V2, 2, shifts.package, all, LEVEL_DIE);
        add_level(cpuid, LEAF_TOPOLOGY_V2, 3, 0, 0, LEVEL_NONE);
    }
}

struct kvm_cpuid2 *cpuid_common(const struct kvm_cpuid2 *supported, const struct cpu_layout *cpus,
                                bool tsc_deadline)
{
    size_t cap = supported->nent + TOPOLOGY_ENTRIES + ENCRYPTION_ENTRIES;
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + cap * sizeof(cpuid->entries[0]));
    if (!cpuid)
        return NULL;
    for (uint32_t i = 0; i < supported->nent; i++) {
        if (describes_host_topology(supported->entries[i].function))
            continue;
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[cpuid->nent++];
        *entry = supported->entries[i];
        adjust_entry(entry, cpus, tsc_deadline);
    }
    add_topology(cpuid, cpus);
    return cpuid;
}

void cpuid_personalize(struct kvm_cpuid2 *cpuid, const struct cpu_layout *cpus, uint32_t apic_id)
{
    struct apic_shifts shifts = shifts_of(cpus);
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        switch (entry->function) {
        case LEAF_FEATURES:
            entry->ebx = (entry->ebx & 0x00ffffff) | apic_id << 24;
            break;
        case LEAF_TOPOLOGY:
        case LEAF_TOPOLOGY_V2:
            entry->edx = apic_id;
            break;
        case LEAF_AMD_TOPOLOGY: {
            uint32_t core = (apic_id & (BIT(shifts.package) - 1)) >> shifts.core;
            uint32_t node = apic_id >> shifts.die;
            entry->eax = apic_id;
            entry->ebx = (core & 0xff) | (cpus->threads_per_core - 1) << 8;
            entry->ecx = (node & 0xff) | ((cpus->dies_per_package - 1) & 7) << 8;
            break;
        }
        default:
            break;
        }
    }
}

int cpuid_set(const struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid, uint32_t index,
              struct error *err)
{
    if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
        return error_set_errno(err, -errno, "KVM refused the CPUID leaves of vCPU %u", index);
    return 0;
}

void cpuid_encrypt(struct kvm_cpuid2 *cpuid)
{
    uint32_t eax, ebx, ecx, edx, c_bit = ENCRYPTION_C_BIT;
    if (__get_cpuid(LEAF_ENCRYPTION, &eax, &ebx, &ecx, &edx) && ebx & 0x3f)
        c_bit = ebx & 0x3f;
    struct kvm_cpuid_entry2 *entry = NULL;
    for (uint32_t i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == LEAF_ENCRYPTION)
            entry = &cpuid->entries[i];
    if (!entry)
        entry = &cpuid->entries[cpuid->nent++];
    *entry = (struct kvm_cpuid_entry2){
        .function = LEAF_ENCRYPTION,
        .eax = entry->eax | ENCRYPTION_EAX,
        .ebx = c_bit | ENCRYPTION_LOST_BITS << 6,
    };
}
