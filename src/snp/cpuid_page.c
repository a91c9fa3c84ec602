#include "snp/cpuid_page.h"

#include "base/bytes.h"

#include <string.h>

#define STATE_SIZE_AT_RESET 0x240 /* bytes of XSAVE area with x87 and SSE state alone */

/* Functions without which Linux and OVMF do not start, most needed first; behind them the WHOLE_RANGES last, which are all. */
static const struct {
    uint32_t first, last;
} needed[] = {
    {0x0, 0x1},
    {0x80000000, 0x80000001},
    {0x7, 0x7},
    {0xd, 0xd},
    {0x8000001f, 0x8000001f},
    {0x80000002, 0x80000008},
    {0xb, 0xb},
    {0x40000000, 0x40000001},
    {0x8000001d, 0x8000001e},
    {0x80000021, 0x80000021},
    {0x0, 0xffff},
    {0x80000000, 0x8000ffff},
    {0x40000000, 0x4000ffff},
};
#define WHOLE_RANGES 3

/* What the firmware is known to refuse, though KVM offers it. */
static const struct {
    uint32_t function, index;
    uint32_t eax, ebx, ecx, edx; /* bits to clear */
} refused[] = {
    {0x1, 0, 0, 0, BIT(24) /* TSC-deadline timer */, 0},
    {0x7, 0, 0, BIT(1) /* TSC_ADJUST */, 0, UINT32_MAX},
    {0x80000008, 0, 0, BIT(25) /* VIRT_SSBD */, 0, 0},
    {0x80000021, 0, 0, 0, UINT32_MAX, 0},
};

static struct snp_cpuid_entry entry_of(const struct kvm_cpuid_entry2 *from)
{
    struct snp_cpuid_entry entry = {
        .eax_in = from->function,
        .ecx_in = from->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX ? from->index : 0,
        .eax = from->eax,
        .ebx = from->ebx,
        .ecx = from->ecx,
        .edx = from->edx,
    };
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (refused[i].function != entry.eax_in || refused[i].index != entry.ecx_in)
            continue;
        entry.eax &= ~refused[i].eax;
        entry.ebx &= ~refused[i].ebx;
        entry.ecx &= ~refused[i].ecx;
        entry.edx &= ~refused[i].edx;
    }
    /* The size of the state that is on: at the launch x87 alone. */
    if (entry.eax_in == 0xd && entry.ecx_in <= 1) {
        entry.ebx = STATE_SIZE_AT_RESET;
        entry.xcr0_in = 1;
    }
    return entry;
}

/** find() - the entry of @page with these inputs. */
static struct snp_cpuid_entry *find(struct snp_cpuid_page *page, uint32_t eax_in, uint32_t ecx_in)
{
    for (uint32_t i = 0; i < page->count; i++)
        if (page->entries[i].eax_in == eax_in && page->entries[i].ecx_in == ecx_in)
            return &page->entries[i];
    return NULL;
}

unsigned snp_cpuid_fill(struct snp_cpuid_page *page, const struct kvm_cpuid2 *cpuid)
{
    unsigned left_out = 0;
    *page = (struct snp_cpuid_page){0};
    for (size_t n = 0; n < ARRAY_SIZE(needed); n++) {
        for (uint32_t i = 0; i < cpuid->nent; i++) {
            const struct kvm_cpuid_entry2 *from = &cpuid->entries[i];
            if (from->function < needed[n].first || from->function > needed[n].last ||
                !(from->eax | from->ebx | from->ecx | from->edx))
                continue;
            struct snp_cpuid_entry entry = entry_of(from);
            if (find(page, entry.eax_in, entry.ecx_in))
                continue;
            if (page->count < SNP_CPUID_MAX)
                page->entries[page->count++] = entry;
            else
                left_out += n >= ARRAY_SIZE(needed) - WHOLE_RANGES;
        }
    }
    return left_out;
}

int snp_cpuid_compare(const struct snp_cpuid_page *given, const struct snp_cpuid_page *corrected,
                      snp_cpuid_difference_fn *told, void *opaque)
{
    int n = 0;
    if (given->count != corrected->count)
        return -1;
    for (uint32_t i = 0; i < given->count; i++) {
        const struct snp_cpuid_entry *a = &given->entries[i], *b = &corrected->entries[i];
        const struct {
            const char *name;
            uint32_t given, wanted;
        } registers[] = {
            {"EAX", a->eax, b->eax},
            {"EBX", a->ebx, b->ebx},
            {"ECX", a->ecx, b->ecx},
            {"EDX", a->edx, b->edx},
        };
        if (a->eax_in != b->eax_in || a->ecx_in != b->ecx_in)
            return -1;
        for (size_t r = 0; r < ARRAY_SIZE(registers); r++) {
            if (registers[r].given == registers[r].wanted)
                continue;
            told(a, registers[r].name, registers[r].given, registers[r].wanted, opaque);
            n++;
        }
    }
    return n;
}
