#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/units.h"
#include "fake_private_kvm.h"
#include "launch/loaded_plan.h"
#include "snp/cpuid_page.h"
#include "snp/digest.h"
#include "snp/status.h"
#include "snp/termination.h"
#include "vmm/snp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kvm_cpuid2 *cpuid_of(size_t n, const struct kvm_cpuid_entry2 *entries)
{
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + n * sizeof(*entries));
    assert_non_null(cpuid);
    cpuid->nent = (uint32_t)n;
    memcpy(cpuid->entries, entries, n * sizeof(*entries));
    return cpuid;
}

static const struct snp_cpuid_entry *found(const struct snp_cpuid_page *page, uint32_t eax,
                                           uint32_t ecx)
{
    for (uint32_t i = 0; i < page->count; i++)
        if (page->entries[i].eax_in == eax && page->entries[i].ecx_in == ecx)
            return &page->entries[i];
    return NULL;
}

static void what_the_firmware_refuses_is_not_in_the_cpuid_page(void **state)
{
    (void)state;
    const struct kvm_cpuid_entry2 entries[] = {
        {.function = 1, .eax = 5, .ecx = UINT32_MAX},
        {.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 0xff, .edx = 0xff},
        {.function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7, .ebx = 0x988},
        {.function = 0x80000008, .eax = 0x3030, .ebx = UINT32_MAX},
        {.function = 0x80000021, .eax = 1, .ecx = 9},
        {.function = 0x2},                  /* says nothing */
        {.function = 0xC0000001, .eax = 1}, /* in no range */
    };
    _cleanup_free_ struct kvm_cpuid2 *cpuid = cpuid_of(ARRAY_SIZE(entries), entries);
    struct snp_cpuid_page page;
    assert_int_equal(snp_cpuid_fill(&page, cpuid), 0);
    assert_int_equal(page.count, 5);
    assert_int_equal(found(&page, 1, 0)->ecx, ~BIT(24));
    assert_int_equal(found(&page, 7, 0)->ebx, 0xfd);
    assert_int_equal(found(&page, 7, 0)->edx, 0);
    assert_int_equal(found(&page, 0xd, 0)->ebx, 0x240);
    assert_int_equal(found(&page, 0xd, 0)->xcr0_in, 1);
    assert_int_equal(found(&page, 0x80000008, 0)->ebx, ~BIT(25));
    assert_int_equal(found(&page, 0x80000021, 0)->ecx, 0);
}

static void a_full_cpuid_page_keeps_what_guests_need(void **state)
{
    (void)state;
    struct kvm_cpuid_entry2 entries[100] = {0};
    for (uint32_t i = 0; i < 96; i++)
        entries[i] = (struct kvm_cpuid_entry2){.function = 0x100 + i, .eax = 1};
    entries[96] = (struct kvm_cpuid_entry2){.function = 0, .eax = 0x10};
    entries[97] = (struct kvm_cpuid_entry2){.function = 1, .eax = 1};
    entries[98] = (struct kvm_cpuid_entry2){.function = 0x80000000, .eax = 0x8000001f};
    entries[99] = (struct kvm_cpuid_entry2){.function = 0x8000001f, .eax = 0x1a};
    _cleanup_free_ struct kvm_cpuid2 *cpuid = cpuid_of(ARRAY_SIZE(entries), entries);
    struct snp_cpuid_page page;
    assert_int_equal(snp_cpuid_fill(&page, cpuid), ARRAY_SIZE(entries) - SNP_CPUID_MAX);
    assert_int_equal(page.count, SNP_CPUID_MAX);
    for (unsigned i = 96; i < 100; i++)
        assert_non_null(found(&page, entries[i].function, 0));
}

static char told[256];

static void tell(const struct snp_cpuid_entry *entry, const char *reg, uint32_t given,
                 uint32_t wanted, void *opaque)
{
    (void)opaque;
    size_t used = strlen(told);
    snprintf(told + used, sizeof(told) - used, "%x %s %x->%x;", entry->eax_in, reg, given, wanted);
}

static void each_correction_of_the_cpuid_page_is_told(void **state)
{
    (void)state;
    struct snp_cpuid_page a = {.count = 2,
                               .entries = {{.eax_in = 1, .ecx = 7}, {.eax_in = 7, .ebx = 3}}};
    struct snp_cpuid_page b = a;
    told[0] = '\0';
    assert_int_equal(snp_cpuid_compare(&a, &b, tell, NULL), 0);
    b.entries[0].ecx = 5;
    b.entries[1].ebx = 1;
    assert_int_equal(snp_cpuid_compare(&a, &b, tell, NULL), 2);
    assert_string_equal(told, "1 ECX 7->5;7 EBX 3->1;");
    b.entries[1].eax_in = 8;
    assert_int_equal(snp_cpuid_compare(&a, &b, tell, NULL), -1);
    b.count = 1;
    assert_int_equal(snp_cpuid_compare(&a, &b, tell, NULL), -1);
}

static void a_termination_is_told_in_words(void **state)
{
    (void)state;
    char text[SNP_TERMINATION_TEXT];
    assert_non_null(strstr(snp_termination_describe(0x21100, text), "PVALIDATE"));
    assert_non_null(strstr(snp_termination_describe(0x10100, text), "GHCB protocol version"));
    assert_non_null(
        strstr(snp_termination_describe(0xff1100, text), "reason set 1 (Linux), reason 255"));
    assert_non_null(strstr(snp_termination_describe(0x5f100, text), "set 15"));
    assert_non_null(strstr(snp_termination_describe(0x7000, text), "the host's kernel logs it"));
}

static void statuses_have_the_names_of_the_abi(void **state)
{
    (void)state;
    assert_string_equal(snp_status_name(7), "POLICY_FAILURE");
    assert_non_null(snp_status_help(7));
    assert_string_equal(snp_status_name(0x16), "INVALID_PARAM");
    assert_string_equal(snp_status_name(0x27), "INVALID_KEY");
    assert_string_equal(snp_status_name(0x1e), "a status that husk does not know");
    assert_null(snp_status_help(UINT32_MAX));
}

static void base64_is_read_with_line_breaks_and_refused_where_it_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        ssize_t len;
        const char *bytes;
    } cases[] = {
        {"", 0, ""},      {"Zm9vYmFy", 6, "foobar"}, {"Zm9v\nYg==\n", 4, "foob"}, {"Zm8=", 2, "fo"},
        {"Zm8", -1, ""},  {"Zm=v", -1, ""},          {"Zg==Zg==", -1, ""},        {"Z===", -1, ""},
        {"Zm9*", -1, ""}, {"Zm9vYmFyYg==", -1, ""}, /* too long */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[6];
        assert_int_equal(base64_decode(cases[i].text, strlen(cases[i].text), bytes, sizeof(bytes)),
                         cases[i].len);
        if (cases[i].len > 0)
            assert_memory_equal(bytes, cases[i].bytes, (size_t)cases[i].len);
    }
}

static uint8_t pages[8 * PAGE_BYTES];

/* Addresses 0x1000 to 0x4fff lie in one mapping, those behind in another, from 0x7000 on nowhere. */
static void *place(void *opaque, uint64_t gpa, uint64_t *len)
{
    (void)opaque;
    if (gpa < 0x1000 || gpa >= 0x7000)
        return NULL;
    uint64_t end = gpa < 0x5000 ? 0x5000 : 0x7000;
    *len = MIN(*len, end - gpa);
    return pages + (gpa - 0x1000) + (gpa >= 0x5000 ? PAGE_BYTES : 0);
}

static void runs_that_are_neighbours_are_imported_at_once(void **state)
{
    (void)state;
    struct plan_run runs[] = {
        {.gpa = 0x1000, .len = 100, .origin = "a"},
        {.gpa = 0x2000, .len = 2 * PAGE_BYTES, .origin = "b"},
        {.gpa = 0x4000, .len = 2 * PAGE_BYTES, .origin = "c"},
        {.gpa = 0x6000, .len = PAGE_BYTES, .type = PLAN_PAGE_ZERO, .origin = "d"},
        {.gpa = 0x9000, .len = PAGE_BYTES, .shared = true, .origin = "e"},
    };
    struct plan plan = {.runs = runs, .n_runs = ARRAY_SIZE(runs)}, loaded;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_loaded(&loaded, &plan, place, NULL, &err), 0);
    assert_int_equal(loaded.n_runs, 3);
    assert_int_equal(loaded.runs[0].gpa, 0x1000);
    assert_int_equal(loaded.runs[0].len, 4 * PAGE_BYTES);
    assert_int_equal(loaded.runs[1].gpa, 0x5000);
    assert_int_equal(loaded.runs[1].len, PAGE_BYTES);
    assert_int_equal(loaded.runs[2].type, PLAN_PAGE_ZERO);
    plan_loaded_release(&loaded);

    runs[4].shared = false;
    assert_int_equal(plan_loaded(&loaded, &plan, place, NULL, &err), -EFAULT);
    assert_non_null(strstr(err.message, "e at 0x9000"));
}

/* What the firmware was asked, and how it answers CPUID pages: as so many refusals, each with a correction. */
static unsigned updates, refusals;
static uint32_t status = SNP_STATUS_INVALID_PARAM;
static bool corrects;
static struct snp_cpuid_page imported;

/* struct kvm_sev_cmd and struct kvm_sev_snp_launch_update (uapi/asm/kvm.h). */
struct command {
    uint32_t id, pad;
    uint64_t data;
    uint32_t status, sev_fd;
};
struct update {
    uint64_t gfn_start, uaddr, len;
    uint8_t type;
};

static int answer(void *opaque)
{
    struct command *command = opaque;
    if (command->id != 101)
        return 0;
    struct update *update = (struct update *)(uintptr_t)command->data;
    updates++;
    if (update->type == SNP_PAGE_CPUID) {
        struct snp_cpuid_page *page = (struct snp_cpuid_page *)(uintptr_t)update->uaddr;
        if (refusals) {
            refusals--;
            if (corrects)
                page->entries[0].ecx = 0x55;
            command->status = status;
            errno = EIO;
            return -1;
        }
        imported = *page;
    }
    update->len = 0;
    return 0;
}

/** launch_cpuid() - a guest with nothing but a CPUID page. */
static int launch_cpuid(struct error *err)
{
    static const struct kvm kvm = {.memory_region2 = true};
    const struct memory_params params = {.size = MIB(2), .low_size = MIB(2)};
    const struct kvm_cpuid_entry2 entries[] = {{.function = 1, .eax = 7, .ecx = 0x77}};
    _cleanup_free_ struct kvm_cpuid2 *cpuid = cpuid_of(ARRAY_SIZE(entries), entries);
    struct plan_run run = {.gpa = 0x1000,
                           .len = PAGE_BYTES,
                           .type = PLAN_PAGE_CPUID,
                           .origin = "CPUID",
                           .directive = 4};
    struct plan plan = {
        .runs = &run, .n_runs = 1, .platform = PLAN_SEV_SNP, .policy = 0x30000, .vmsa_features = 1};
    struct vm_config config = {0};
    struct guest_memory memory;
    struct snp_host host = SNP_HOST_INIT;
    fake_private_kvm_reset();
    fake_private_kvm.encrypt = answer;
    updates = 0;
    assert_int_equal(memory_create(&memory, &params, err), 0);
    struct private_memory *private = private_memory_create(&memory, &kvm, FAKE_VM_FD, 1, err);
    assert_non_null(private);
    const struct snp_launch_in in = {
        .config = &config,
        .plan = &plan,
        .memory = &memory,
        .private = private,
        .cpuid = cpuid,
        .vm_fd = FAKE_VM_FD,
    };
    int ret = snp_launch(&host, &in, err);
    private_memory_free(private);
    memory_destroy(&memory);
    return ret;
}

static void a_corrected_cpuid_page_is_imported_as_the_firmware_wants_it(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    corrects = true;
    refusals = 0;
    assert_int_equal(launch_cpuid(&err), 0);
    assert_int_equal(updates, 1);
    assert_int_equal(imported.entries[0].ecx, 0x77);
    refusals = 1;
    assert_int_equal(launch_cpuid(&err), 0);
    assert_int_equal(updates, 2);
    assert_int_equal(imported.entries[0].ecx, 0x55);
}

static void a_cpuid_page_is_tried_twice_at_most(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    corrects = true;
    refusals = 100;
    assert_int_equal(launch_cpuid(&err), -EIO);
    assert_int_equal(updates, 2);
    assert_non_null(strstr(err.message, "SNP_LAUNCH_UPDATE of the CPUID page at 0x1000"));
    assert_non_null(strstr(err.message, "INVALID_PARAM"));
    /* Without a correction there is nothing else to try. */
    corrects = false;
    refusals = 100;
    assert_int_equal(launch_cpuid(&err), -EIO);
    assert_int_equal(updates, 1);
}

static void a_failure_of_kvms_own_is_not_taken_for_the_firmwares(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    corrects = true;
    refusals = 100;
    status = UINT32_MAX; /* SEV_RET_NO_FW_CALL */
    assert_int_equal(launch_cpuid(&err), -EIO);
    status = SNP_STATUS_INVALID_PARAM;
    assert_null(strstr(err.message, "firmware answered"));
    assert_non_null(strstr(err.message, "Input/output error"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_firmware_refuses_is_not_in_the_cpuid_page),
        cmocka_unit_test(a_full_cpuid_page_keeps_what_guests_need),
        cmocka_unit_test(each_correction_of_the_cpuid_page_is_told),
        cmocka_unit_test(a_termination_is_told_in_words),
        cmocka_unit_test(statuses_have_the_names_of_the_abi),
        cmocka_unit_test(base64_is_read_with_line_breaks_and_refused_where_it_is_none),
        cmocka_unit_test(runs_that_are_neighbours_are_imported_at_once),
        cmocka_unit_test(a_corrected_cpuid_page_is_imported_as_the_firmware_wants_it),
        cmocka_unit_test(a_cpuid_page_is_tried_twice_at_most),
        cmocka_unit_test(a_failure_of_kvms_own_is_not_taken_for_the_firmwares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
