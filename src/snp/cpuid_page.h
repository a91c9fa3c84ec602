/* The CPUID page, in which an SEV-SNP guest finds what the secure processor has checked (SNP firmware ABI, 8.17.2.6). */
#ifndef HUSK_SNP_CPUID_PAGE_H
#define HUSK_SNP_CPUID_PAGE_H

#include "base/error.h"

#include <linux/kvm.h>
#include <stdint.h>

#define SNP_CPUID_MAX 64

struct snp_cpuid_entry {
    uint32_t eax_in, ecx_in;
    uint64_t xcr0_in, xss_in;
    uint32_t eax, ebx, ecx, edx;
    uint64_t reserved;
};

struct snp_cpuid_page {
    uint32_t count;
    uint32_t reserved1;
    uint64_t reserved2;
    struct snp_cpuid_entry entries[SNP_CPUID_MAX];
    uint8_t reserved3[4096 - 16 - SNP_CPUID_MAX * 48];
};

_Static_assert(sizeof(struct snp_cpuid_entry) == 48, "SNP firmware ABI, table 69");
_Static_assert(sizeof(struct snp_cpuid_page) == 4096, "SNP firmware ABI, table 70");

/**
 * snp_cpuid_fill() - the page for vCPUs that were given @cpuid.
 *
 * Functions outside of the ranges that the firmware takes and those that say nothing are left out, and bits that it is known to
 * refuse are cleared. If more than SNP_CPUID_MAX are left, those that no guest can start without are kept first.
 *
 * Return: how many were left out for want of room.
 */
unsigned snp_cpuid_fill(struct snp_cpuid_page *page, const struct kvm_cpuid2 *cpuid);

/** snp_cpuid_difference - one register that the firmware wants another way. */
typedef void snp_cpuid_difference_fn(const struct snp_cpuid_entry *entry, const char *reg,
                                     uint32_t given, uint32_t wanted, void *opaque);

/** snp_cpuid_compare() - tell of each difference between what was @given and the firmware's @corrected page.
 *
 * Return: how many there are; -1 if the two pages do not have the same functions in the same order.
 */
int snp_cpuid_compare(const struct snp_cpuid_page *given, const struct snp_cpuid_page *corrected,
                      snp_cpuid_difference_fn *told, void *opaque);

#endif
