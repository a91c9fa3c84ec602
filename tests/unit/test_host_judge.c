/* husk probe's reasoning: what it says of hosts that lack one thing or another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "snp/host_facts.h"

#include <errno.h>
#include <string.h>

/* A host with all that there is; tests take things away. */
static struct host_facts good(void)
{
    struct host_facts facts = {
        .kernel = "6.19.0",
        .cpu = {.vendor = "AuthenticAMD",
                .brand = "AMD EPYC 9654",
                .family = 0x19,
                .model = 0x11,
                .eax = 0x1f,
                .ebx = 51 | 5 << 6,
                .ecx = 1006,
                .edx = 100},
        .module = {true, 'Y', 'Y', 'Y'},
        .has_asids = true,
        .asids = 99,
        .asids_in_use = 3,
        .kvm = {.api_version = 12,
                .vm_types = BIT(0) | BIT(1) | BIT(4),
                .has_vmsa_features = true,
                .vmsa_features = 0x20,
                .has_policy_bits = true,
                .policy_bits = 0x3ff0000},
        .firmware = {.api_major = 1,
                     .api_minor = 58,
                     .state = 1,
                     .rmp_is_initialized = true,
                     .build = 21,
                     .current_tcb = 0xd41800000000000aULL,
                     .reported_tcb = 0xd31700000000000aULL},
    };
    for (unsigned i = 0; i < HOST_CAPS; i++)
        facts.kvm.caps[i] = i == HOST_CAP_EXIT_HYPERCALL ? BIT(12) : 1;
    return facts;
}

static const struct host_finding *finding(const struct host_report *report, const char *part)
{
    for (size_t i = 0; i < report->n; i++)
        if (strstr(report->findings[i].text, part))
            return &report->findings[i];
    fail_msg("nothing says '%s'", part);
    return NULL;
}

static size_t missing(const struct host_report *report)
{
    size_t n = 0;
    for (size_t i = 0; i < report->n; i++)
        n += report->findings[i].verdict == HOST_MISSING;
    return n;
}

/** assert_blames() - exactly one thing is missing for SEV-SNP on @facts: it is told with @part, and its hint has @hint. */
static void assert_blames(const struct host_facts *facts, const char *part, const char *hint)
{
    struct host_report report;
    host_judge(facts, &report);
    assert_false(report.sev_snp);
    const struct host_finding *found = finding(&report, part);
    assert_int_equal(found->verdict, HOST_MISSING);
    assert_non_null(strstr(found->hint, hint));
    assert_int_equal(missing(&report), 1);
}

static void a_complete_host_can_start_every_guest_and_lacks_nothing(void **state)
{
    (void)state;
    struct host_facts facts = good();
    struct host_report report;
    host_judge(&facts, &report);
    assert_true(report.ordinary && report.sw_protected && report.sev_snp);
    assert_int_equal(missing(&report), 0);
    finding(&report, "AMD EPYC 9654, family 0x19 model 0x11 (Zen 4)");
    finding(&report,
            "C-bit 51, 5 physical address bits fewer, ASIDs for SEV-SNP and SEV-ES 1 to 99");
    finding(&report, "3 of 99 ASIDs");
    finding(&report, "policy bits that guests may have: 0x3ff0000");
    finding(&report, "SEV-SNP ABI 1.58, build 21, 0 guests");
    finding(&report,
            "reported TCB 0xd31700000000000a: boot loader 10, TEE 0, SNP 23, microcode 211");
    finding(&report,
            "current TCB 0xd41800000000000a: boot loader 10, TEE 0, SNP 24, microcode 212");
}

static void tcb_versions_are_split_as_the_family_has_them(void **state)
{
    (void)state;
    struct host_tcb genoa = host_tcb_split(0x0807060504030201ULL, 0x19);
    struct host_tcb turin = host_tcb_split(0x0807060504030201ULL, 0x1a);
    assert_false(genoa.has_fmc);
    assert_int_equal(genoa.bootloader, 1);
    assert_int_equal(genoa.tee, 2);
    assert_int_equal(genoa.snp, 7);
    assert_int_equal(genoa.microcode, 8);
    assert_true(turin.has_fmc);
    assert_int_equal(turin.fmc, 1);
    assert_int_equal(turin.bootloader, 2);
    assert_int_equal(turin.tee, 3);
    assert_int_equal(turin.snp, 4);
    assert_int_equal(turin.microcode, 8);
}

static void what_the_processor_lacks_is_named(void **state)
{
    (void)state;
    struct host_facts facts = good();
    facts.kvm.vm_types = BIT(0);
    facts.cpu.eax = 0xf;
    struct host_report report;
    host_judge(&facts, &report);
    assert_non_null(strstr(finding(&report, "no SEV-SNP: CPUID")->hint, "EPYC 7003"));
    facts.cpu.is_virtual = true;
    host_judge(&facts, &report);
    assert_non_null(strstr(finding(&report, "no SEV-SNP: CPUID")->hint, "on the machine itself"));
    strcpy(facts.cpu.vendor, "GenuineIntel");
    strcpy(facts.cpu.brand, "Intel Xeon");
    host_judge(&facts, &report);
    finding(&report, "Intel Xeon is not AMD's");
    assert_true(report.ordinary);
    assert_false(report.sev_snp);
}

static void no_asid_set_aside_is_a_matter_of_the_firmware_setup(void **state)
{
    (void)state;
    struct host_facts facts = good();
    facts.kvm.vm_types = BIT(0);
    facts.cpu.edx = 1;
    struct host_report report;
    host_judge(&facts, &report);
    assert_non_null(strstr(finding(&report, "no ASID")->hint, "ASID space limit"));
}

static void why_the_module_offers_no_snp_is_told_by_its_parameters(void **state)
{
    (void)state;
    static const struct {
        struct host_module module;
        const char *part, *hint;
    } cases[] = {
        {{false, 0, 0, 0}, "kvm_amd is not loaded", "modprobe kvm_amd"},
        {{true, 'Y', 'Y', 0}, "kvm_amd of Linux 6.19.0 knows nothing", "6.11 or later"},
        {{true, 'N', 'N', 'N'}, "sev=N, sev_es=N", "sev=1 sev_es=1 sev_snp=1"},
        {{true, 'Y', 'N', 'N'}, "sev=Y, sev_es=N", "sev=1 sev_es=1 sev_snp=1"},
        {{true, 'Y', 'Y', 'N'}, "sev_snp=N", "RMP"},
        {{true, 'Y', 'Y', 'Y'}, "but KVM offers no SEV-SNP", "modprobe"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct host_facts facts = good();
        facts.kvm.vm_types = BIT(0);
        facts.module = cases[i].module;
        assert_blames(&facts, cases[i].part, cases[i].hint);
    }
}

static void each_capability_that_kvm_lacks_is_named(void **state)
{
    (void)state;
    for (unsigned cap = 0; cap < HOST_CAPS; cap++) {
        struct host_facts facts = good();
        facts.kvm.caps[cap] = 0;
        struct host_report report;
        host_judge(&facts, &report);
        const struct host_finding *found = finding(&report, host_cap_name(cap));
        assert_int_equal(found->verdict, cap < HOST_CAP_OPTIONAL ? HOST_MISSING : HOST_NOTE);
        assert_int_equal(report.sev_snp, cap >= HOST_CAP_OPTIONAL);
    }
    struct host_facts facts = good();
    facts.kvm.caps[HOST_CAP_EXIT_HYPERCALL] = BIT(0);
    assert_blames(&facts, "page conversions (hypercall 12)", "6.11");
}

static void devices_that_cannot_be_opened_are_told_with_what_to_do(void **state)
{
    (void)state;
    struct host_facts facts = good();
    facts.firmware = (struct host_firmware){.open_error = EACCES};
    assert_blames(&facts, "/dev/sev may not be opened: Permission denied", "root");
    facts.firmware = (struct host_firmware){.open_error = ENOENT};
    assert_blames(&facts, "/dev/sev could not be opened: No such file", "modprobe ccp");
    facts = good();
    facts.kvm = (struct host_kvm){.open_error = EACCES};
    struct host_report report;
    host_judge(&facts, &report);
    assert_false(report.ordinary || report.sw_protected || report.sev_snp);
    assert_non_null(strstr(finding(&report, "/dev/kvm may not be opened")->hint, "group"));
    facts.kvm = (struct host_kvm){.api_version = 13};
    host_judge(&facts, &report);
    assert_false(report.ordinary);
}

static void firmware_that_is_not_ready_is_told(void **state)
{
    (void)state;
    struct host_facts facts = good();
    facts.firmware = (struct host_firmware){.status_error = EIO, .status = 1};
    assert_blames(&facts, "answers with error 1", "dmesg");
    facts.firmware = (struct host_firmware){.status_error = EINVAL};
    assert_blames(&facts, "gives no status: Invalid argument", "not initialized");
    facts = good();
    facts.firmware.state = 0;
    assert_blames(&facts, "state 0, RMP initialized", "dmesg");
    facts = good();
    facts.firmware.rmp_is_initialized = false;
    assert_blames(&facts, "state 1, RMP not initialized", "dmesg");
}

static void a_host_without_room_for_a_guest_says_so(void **state)
{
    (void)state;
    struct host_facts facts = good();
    facts.asids_in_use = 99;
    struct host_report report;
    host_judge(&facts, &report);
    assert_int_equal(finding(&report, "99 of 99 ASIDs")->verdict, HOST_NOTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_complete_host_can_start_every_guest_and_lacks_nothing),
        cmocka_unit_test(tcb_versions_are_split_as_the_family_has_them),
        cmocka_unit_test(what_the_processor_lacks_is_named),
        cmocka_unit_test(no_asid_set_aside_is_a_matter_of_the_firmware_setup),
        cmocka_unit_test(why_the_module_offers_no_snp_is_told_by_its_parameters),
        cmocka_unit_test(each_capability_that_kvm_lacks_is_named),
        cmocka_unit_test(devices_that_cannot_be_opened_are_told_with_what_to_do),
        cmocka_unit_test(firmware_that_is_not_ready_is_told),
        cmocka_unit_test(a_host_without_room_for_a_guest_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
