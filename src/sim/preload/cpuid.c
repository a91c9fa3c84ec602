/* CPUID: the VMM sees a host with SNP, the guest does not. */
#include "sim/preload/preload.h"

#include "base/bytes.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define LEAF_EXTENDED 0x80000000u
#define LEAF_SEV 0x8000001fu
#define SEV_BITS ((1u << 1) | (1u << 3) | (1u << 4)) /* EAX: SEV, SEV-ES, SEV-SNP */
#define C_BIT 51u
#define OSXSAVE (1u << 27)
#define OSPKE (1u << 4)
#define XSAVES_XSAVEC ((1u << 3) | (1u << 1))
#define XSAVE_LEGACY_BYTES 0x240u                  /* of an XSAVE area while XCR0 has only x87 */
#define XSAVE_SUBLEAVES 10u                        /* of leaf 0xd: up to PKRU, state component 9 */
#define AMX ((1u << 22) | (1u << 24) | (1u << 25)) /* leaf 7, EDX: AMX-BF16, AMX-TILE, AMX-INT8 */

void show_sev(struct kvm_cpuid2 *cpuid, uint32_t room)
{
    struct kvm_cpuid_entry2 *sev = NULL;
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == LEAF_EXTENDED && entry->eax < LEAF_SEV)
            entry->eax = LEAF_SEV;
        if (entry->function == LEAF_SEV)
            sev = entry;
    }
    if (!sev && cpuid->nent < room) {
        sev = &cpuid->entries[cpuid->nent++];
        *sev = (struct kvm_cpuid_entry2){.function = LEAF_SEV};
    }
    if (!sev)
        return;
    sev->eax |= SEV_BITS;
    if (!(sev->ebx & 0x3f))
        sev->ebx |= C_BIT;
}

void hide_sev(struct kvm_cpuid_entry2 *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].function == LEAF_SEV)
            entries[i].eax &= ~SEV_BITS;
    }
}

void refresh_cpuid(struct kvm_cpuid2 *cpuid)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == 1)
            entry->ecx &= ~OSXSAVE;
        else if (entry->function == 7 && entry->index == 0)
            entry->ecx &= ~OSPKE;
        else if (entry->function == 0xd &&
                 (entry->index == 0 || (entry->index == 1 && entry->eax & XSAVES_XSAVEC)))
            entry->ebx = XSAVE_LEGACY_BYTES;
    }
}

/** add_leaf() - one more entry, unless there is no room. */
static void add_leaf(struct kvm_cpuid2 *cpuid, uint32_t room, uint32_t leaf, uint32_t subleaf,
                     uint32_t entry_flags)
{
    if (cpuid->nent >= room) {
        cpuid->nent = room + 1;
        return;
    }
    struct kvm_cpuid_entry2 *entry = &cpuid->entries[cpuid->nent++];
    *entry = (struct kvm_cpuid_entry2){.function = leaf, .index = subleaf, .flags = entry_flags};
    __cpuid_count(leaf, subleaf, entry->eax, entry->ebx, entry->ecx, entry->edx);
}

static uint32_t subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 0x4:
    case 0x8000001d:
        return 5;
    case 0x7:
    case 0xb:
        return 2;
    case 0xd:
        return XSAVE_SUBLEAVES;
    default:
        return 0;
    }
}

/**
 * hide_amx() - KVM leaves the tile registers out of what a program may offer, until it asks for them (ARCH_REQ_XCOMP_GUEST_PERM), and an
 * SNP host has none: VMMs take the size of the XSAVE area for that of struct kvm_xsave.
 */
static void hide_amx(struct kvm_cpuid2 *cpuid)
{
    struct kvm_cpuid_entry2 *area = NULL;
    uint32_t bytes = XSAVE_LEGACY_BYTES;
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == 7 && entry->index == 0)
            entry->edx &= ~AMX;
        if (entry->function != 0xd)
            continue;
        if (entry->index == 0)
            area = entry;
        else if (entry->index > 1 && area && area->eax >> entry->index & 1)
            bytes = MAX(bytes, entry->ebx + entry->eax); /* where it is, and its length */
    }
    if (!area)
        return;
    area->eax &= (1u << XSAVE_SUBLEAVES) - 1;
    area->edx = 0;
    area->ebx = area->ecx = bytes;
}

int supported_cpuid(struct kvm_cpuid2 *cpuid)
{
    uint32_t room = cpuid->nent;
    cpuid->nent = 0;
    const uint32_t bases[] = {0, LEAF_EXTENDED};
    for (size_t b = 0; b < 2; b++) {
        uint32_t last = (uint32_t)__get_cpuid_max(bases[b], NULL);
        for (uint32_t leaf = bases[b]; leaf <= last && last - bases[b] < 0x100; leaf++) {
            uint32_t n = subleaves(leaf);
            for (uint32_t i = 0; i < (n ? n : 1); i++)
                add_leaf(cpuid, room, leaf, i, n ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0);
        }
    }
    if (cpuid->nent > room)
        return -E2BIG;
    hide_amx(cpuid);
    show_sev(cpuid, room);
    return 0;
}
