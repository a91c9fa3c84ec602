#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "x86/cpuid.h"

#include <stdlib.h>

/* 2 packages of 1 die of 3 cores of 2 threads: core ids take 2 bits, so package 1 begins at APIC id 8. */
static const struct cpu_layout layout = {.boot = 12,
                                         .max = 12,
                                         .threads_per_core = 2,
                                         .cores_per_die = 3,
                                         .dies_per_package = 1,
                                         .packages = 2};
static const struct cpu_layout single = {.boot = 1,
                                         .max = 1,
                                         .threads_per_core = 1,
                                         .cores_per_die = 1,
                                         .dies_per_package = 1,
                                         .packages = 1};

#define SIGNIFICANT KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* What a host of 64 threads might report. */
static const struct kvm_cpuid_entry2 host_entries[] = {
    {.function = 0x0, .eax = 0x1f},
    {.function = 0x1, .ebx = 0x2a400800, .ecx = 0, .edx = 0x178bfbff},
    {.function = 0x4, .index = 0, .flags = SIGNIFICANT, .eax = 0xfc004121},
    {.function = 0x4, .index = 3, .flags = SIGNIFICANT, .eax = 0xfc1fc163},
    {.function = 0x4, .index = 4, .flags = SIGNIFICANT},
    {.function = 0xb,
     .index = 0,
     .flags = SIGNIFICANT,
     .eax = 1,
     .ebx = 2,
     .ecx = 0x100,
     .edx = 42},
    {.function = 0xb,
     .index = 1,
     .flags = SIGNIFICANT,
     .eax = 7,
     .ebx = 64,
     .ecx = 0x201,
     .edx = 42},
    {.function = 0x80000001, .ecx = 0x2},
    {.function = 0x80000008, .eax = 0x3030, .ecx = 0x703f},
    {.function = 0x8000001d, .index = 3, .flags = SIGNIFICANT, .eax = 0x3c163},
    {.function = 0x8000001e, .eax = 42, .ebx = 0x115, .ecx = 0x301},
};

static struct kvm_cpuid2 *common(const struct cpu_layout *cpus, bool tsc_deadline)
{
    struct kvm_cpuid2 *host = calloc(1, sizeof(*host) + sizeof(host_entries));
    assert_non_null(host);
    host->nent = ARRAY_SIZE(host_entries);
    memcpy(host->entries, host_entries, sizeof(host_entries));
    struct kvm_cpuid2 *cpuid = cpuid_common(host, cpus, tsc_deadline);
    assert_non_null(cpuid);
    free(host);
    return cpuid;
}

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *cpuid, uint32_t function,
                                           uint32_t index)
{
    const struct kvm_cpuid_entry2 *found = NULL;
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == function && entry->index == index) {
            assert_null(found); /* no leaf twice */
            found = entry;
        }
    }
    assert_non_null(found);
    return found;
}

static void the_guest_is_told_of_its_own_topology(void **state)
{
    (void)state;
    struct kvm_cpuid2 *cpuid = common(&layout, true);
    cpuid_personalize(cpuid, &layout, 11); /* package 1, core 1, thread 1 */

    assert_int_equal(leaf(cpuid, 1, 0)->ebx, 0x0b060800);
    assert_int_equal(leaf(cpuid, 0xb, 0)->eax, 1);
    assert_int_equal(leaf(cpuid, 0xb, 0)->ebx, 2);
    assert_int_equal(leaf(cpuid, 0xb, 0)->ecx, 0x100);
    assert_int_equal(leaf(cpuid, 0xb, 1)->eax, 3);
    assert_int_equal(leaf(cpuid, 0xb, 1)->ebx, 6);
    assert_int_equal(leaf(cpuid, 0xb, 1)->ecx, 0x201);
    assert_int_equal(leaf(cpuid, 0xb, 2)->ecx, 0x2);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(leaf(cpuid, 0xb, i)->edx, 11);
    assert_int_equal(leaf(cpuid, 0x1f, 2)->ecx, 0x502);
    assert_int_equal(leaf(cpuid, 0x80000008, 0)->ecx, 0x3005);
    assert_int_equal(leaf(cpuid, 0x80000008, 0)->eax, 0x3030);
    assert_int_equal(leaf(cpuid, 0x8000001e, 0)->eax, 11);
    assert_int_equal(leaf(cpuid, 0x8000001e, 0)->ebx, 0x101);
    assert_int_equal(leaf(cpuid, 0x8000001e, 0)->ecx, 0x1);
    assert_true(leaf(cpuid, 0x80000001, 0)->ecx & 0x2);
    free(cpuid);
}

static void caches_are_shared_as_the_guest_is_laid_out(void **state)
{
    (void)state;
    struct kvm_cpuid2 *cpuid = common(&layout, true);
    /* Level 1: the two threads of a core. Level 3: the APIC ids of a die, 8. */
    assert_int_equal((leaf(cpuid, 4, 0)->eax >> 14) & 0xfff, 1);
    assert_int_equal((leaf(cpuid, 4, 3)->eax >> 14) & 0xfff, 7);
    assert_int_equal(leaf(cpuid, 4, 3)->eax >> 26, 3);
    assert_int_equal(leaf(cpuid, 4, 4)->eax, 0);
    assert_int_equal((leaf(cpuid, 0x8000001d, 3)->eax >> 14) & 0xfff, 7);
    free(cpuid);
}

static void a_single_processor_has_no_siblings(void **state)
{
    (void)state;
    struct kvm_cpuid2 *cpuid = common(&single, false);
    cpuid_personalize(cpuid, &single, 0);
    assert_int_equal(leaf(cpuid, 1, 0)->ebx, 0x00010800);
    assert_false(leaf(cpuid, 1, 0)->edx & BIT(28));
    assert_false(leaf(cpuid, 0x80000001, 0)->ecx & 0x2);
    assert_int_equal(leaf(cpuid, 0x80000008, 0)->ecx, 0);
    assert_int_equal((leaf(cpuid, 4, 3)->eax >> 14) & 0xfff, 0);
    free(cpuid);
}

static void the_hypervisor_bit_is_set_and_the_deadline_timer_follows_kvm(void **state)
{
    (void)state;
    struct kvm_cpuid2 *with = common(&single, true);
    struct kvm_cpuid2 *without = common(&single, false);
    assert_int_equal(leaf(with, 1, 0)->ecx, BIT(31) | BIT(24));
    assert_int_equal(leaf(without, 1, 0)->ecx, BIT(31));
    free(with);
    free(without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guest_is_told_of_its_own_topology),
        cmocka_unit_test(caches_are_shared_as_the_guest_is_laid_out),
        cmocka_unit_test(a_single_processor_has_no_siblings),
        cmocka_unit_test(the_hypervisor_bit_is_set_and_the_deadline_timer_follows_kvm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
