#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernel_files.h"

#include "base/bytes.h"
#include "x86/boot.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAM MIB(64)

/** plan_with() - the plan of a kernel, an initramfs of @initramfs_len bytes (0: none) and a command line. */
static int plan_with(struct plan *plan, const struct buf *kernel, size_t initramfs_len,
                     const char *cmdline, uint64_t ram, struct error *err)
{
    char kernel_path[FILE_PATH_BYTES], initramfs_path[FILE_PATH_BYTES];
    static uint8_t initramfs[MIB(4)];
    memset(initramfs, 0x5a, sizeof(initramfs));
    int kernel_fd = memory_file(kernel->data, kernel->len, kernel_path);
    int initramfs_fd = memory_file(initramfs, initramfs_len, initramfs_path);
    assert_true(kernel_fd >= 0 && initramfs_fd >= 0);
    const struct boot_params_in in = {
        .kernel = kernel_path,
        .initramfs = initramfs_len ? initramfs_path : NULL,
        .cmdline = cmdline,
        .vcpus = 1,
        .ram_bytes = ram,
    };
    int ret = boot_plan_kernel(plan, &in, err);
    close(kernel_fd);
    close(initramfs_fd);
    return ret;
}

/** refused() - the kernel must be refused with @code and one sentence that contains @text. */
static void refused(const struct buf *kernel, uint64_t ram, int code, const char *text)
{
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, kernel, 0, "", ram, &err), code);
    if (!strstr(err.message, text))
        fail_msg("'%s' does not say '%s'", err.message, text);
    assert_null(strchr(err.message, '\n'));
    plan_release(&plan);
}

static const struct plan_run *run_of(const struct plan *plan, const char *origin)
{
    for (size_t i = 0; i < plan->n_runs; i++)
        if (strcmp(plan->runs[i].origin, origin) == 0)
            return &plan->runs[i];
    fail_msg("the plan has no %s", origin);
    return NULL;
}

static void a_kernel_is_loaded_whole_behind_any_number_of_setup_sectors(void **state)
{
    (void)state;
    static const uint8_t setup_sects[] = {0, 1, 4, 39, 255};
    for (size_t i = 0; i < ARRAY_SIZE(setup_sects); i++) {
        struct bzimage_spec spec = bzimage_default;
        spec.setup_sects = setup_sects[i];
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_bzimage(&kernel, &spec);
        struct plan plan = PLAN_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
        const struct plan_run *run = run_of(&plan, "kernel");
        assert_int_equal(run->source, PLAN_SOURCE_FILE);
        assert_int_equal(run->gpa, MIB(2));
        assert_int_equal(run->len, spec.payload_len);
        assert_int_equal(run->range.offset, ((setup_sects[i] ? setup_sects[i] : 4u) + 1) * 512);
        plan_release(&plan);
    }
}

static void vcpu_0_enters_at_the_64_bit_entry_point_in_long_mode(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
    assert_int_equal(plan.n_vcpus, 1);
    const struct plan_vcpu *vcpu = &plan.vcpus[0];
    assert_int_equal(vcpu->rip, MIB(2) + 0x200);
    assert_int_equal(vcpu->rsi, 0x7000);
    assert_int_equal(vcpu->rflags, 2);
    assert_int_equal(vcpu->cr0, 0x80000011);
    assert_int_equal(vcpu->cr3, 0x9000);
    assert_int_equal(vcpu->cr4, 0x20);
    assert_int_equal(vcpu->efer, 0x500);
    assert_int_equal(vcpu->cs.selector, 0x10);
    assert_int_equal(vcpu->cs.attributes, 0xa9b);
    assert_int_equal(vcpu->ds.selector, 0x18);
    assert_int_equal(vcpu->ds.attributes, 0xc93);
    assert_int_equal(vcpu->ss.selector, 0x18);
    assert_int_equal(vcpu->tr.attributes, 0x8b);
    plan_release(&plan);
}

static void the_gdt_holds_the_segments_that_are_loaded(void **state)
{
    (void)state;
    static const uint8_t gdt[] = {
        0,    0,    0, 0, 0, 0,    0,    0, /* null */
        0,    0,    0, 0, 0, 0,    0,    0, /* unused */
        0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0, /* code, 64-bit */
        0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0, /* data */
        0x67, 0,    0, 0, 0, 0x8b, 0,    0, /* TSS, and its upper half */
        0,    0,    0, 0, 0, 0,    0,    0,
    };
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
    const struct plan_vcpu *vcpu = &plan.vcpus[0];
    assert_int_equal(vcpu->gdtr.base, 0x500);
    assert_int_equal(vcpu->gdtr.limit, sizeof(gdt) - 1);
    assert_memory_equal(run_of(&plan, "boot GDT")->bytes + 0x500, gdt, sizeof(gdt));
    plan_release(&plan);
}

/** walk() - what a 4-level walk of @ram's tables makes of @address; large pages only at the third level. */
static uint64_t walk(const uint8_t *ram, uint64_t cr3, uint64_t address)
{
    uint64_t entry = cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        entry = load_le64(ram + (entry & 0xffffffffff000) + (address >> shift & 511) * 8);
        assert_true(entry & 1);
    }
    assert_true(entry & 0x80);
    return (entry & 0xfffffffe00000) + (address & 0x1fffff);
}

static void the_first_4_gib_are_mapped_to_themselves(void **state)
{
    (void)state;
    static const uint64_t addresses[] = {0,          0x7000, MIB(2) + 0x200, MIB(64) - 1,
                                         GIB(1) - 1, GIB(1), GIB(3) + 123,   GIB(4) - 1};
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
    uint8_t *ram = calloc(1, RAM);
    assert_non_null(ram);
    assert_int_equal(materialise(&plan, ram, RAM), 0);
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
        assert_int_equal(walk(ram, plan.vcpus[0].cr3, addresses[i]), addresses[i]);
    free(ram);
    plan_release(&plan);
}

static void the_zero_page_has_the_files_header_and_the_loaders_fields(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 5000, "console=ttyS0", RAM, &err), 0);
    const struct plan_run *run = run_of(&plan, "zero page");
    const uint8_t *page = run->bytes;
    assert_int_equal(run->gpa, 0x7000);
    assert_memory_equal(page + 0x202, "HdrS", 4);
    assert_int_equal(load_le32(page + 0x238), 2047);
    assert_int_equal(page[0x210], 0xff);
    assert_int_equal(load_le32(page + 0x214), MIB(2));
    assert_int_equal(load_le32(page + 0x218), RAM - 0x2000);
    assert_int_equal(load_le32(page + 0x21c), 5000);
    assert_int_equal(load_le32(page + 0x228), 0x20000);
    assert_int_equal(load_le64(page + 0x250), 0);
    assert_int_equal(load_le64(page + 0x70), 0); /* no ACPI tables given */
    assert_int_equal(page[0x1ef], 0);            /* sentinel: the header was copied, no more */
    assert_int_equal(page[0x26c], 0);
    assert_string_equal((const char *)run_of(&plan, "command line")->bytes, "console=ttyS0");
    assert_int_equal(run_of(&plan, "command line")->gpa, 0x20000);
    /* E820: below 0x9fc00 and from 1 MiB on is RAM. */
    assert_int_equal(page[0x1e8], 6);
    assert_int_equal(load_le64(page + 0x2d0), 0);
    assert_int_equal(load_le64(page + 0x2d8), 0x9fc00);
    assert_int_equal(load_le32(page + 0x2e0), 1);
    assert_int_equal(load_le64(page + 0x2d0 + 4 * 20), MIB(1));
    assert_int_equal(load_le64(page + 0x2d8 + 4 * 20), RAM - MIB(1));
    plan_release(&plan);
}

static void an_initramfs_goes_as_high_as_kernel_and_ram_allow(void **state)
{
    (void)state;
    struct bzimage_spec spec = bzimage_default;
    static const struct {
        uint32_t addr_max;
        uint64_t gpa;
    } cases[] = {{0x7fffffff, RAM - MIB(1)},
                 {MIB(32) - 1, MIB(31)},
                 {MIB(32) + 99, MIB(31)},
                 {0xffffffff, RAM - MIB(1)}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        spec.initrd_addr_max = cases[i].addr_max;
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_bzimage(&kernel, &spec);
        struct plan plan = PLAN_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(plan_with(&plan, &kernel, MIB(1), "", RAM, &err), 0);
        assert_int_equal(run_of(&plan, "initramfs")->gpa, cases[i].gpa);
        assert_int_equal(run_of(&plan, "initramfs")->len, MIB(1));
        plan_release(&plan);
    }
}

static void an_initramfs_never_lies_where_the_kernel_unpacks(void **state)
{
    (void)state;
    struct bzimage_spec spec = bzimage_default;
    spec.init_size = (uint32_t)MIB(60);
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &spec);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, MIB(2), "", RAM, &err), 0);
    assert_int_equal(run_of(&plan, "initramfs")->gpa, MIB(62));
    plan_release(&plan);
    assert_int_equal(plan_with(&plan, &kernel, MIB(2) + 1, "", RAM, &err), -E2BIG);
    assert_non_null(strstr(err.message, "(2097153 bytes) does not fit"));
    plan_release(&plan);
}

static void an_initramfs_larger_than_ram_names_both_sizes(void **state)
{
    (void)state;
    struct bzimage_spec spec = bzimage_default;
    spec.pref_address = MIB(1);
    spec.alignment = 0x1000;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &spec);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, MIB(4), "", MIB(2), &err), -E2BIG);
    assert_non_null(strstr(err.message, "(4194304 bytes) is larger than the guest's RAM of 2M"));
    assert_non_null(strstr(err.hint, "--memory"));
    plan_release(&plan);
}

static void a_kernel_that_cannot_be_relocated_is_loaded_at_1_mib(void **state)
{
    (void)state;
    struct bzimage_spec spec = bzimage_default;
    spec.not_relocatable = true;
    spec.pref_address = MIB(16);
    spec.alignment = 0;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &spec);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
    assert_int_equal(run_of(&plan, "kernel")->gpa, MIB(1));
    assert_int_equal(plan.vcpus[0].rip, MIB(1) + 0x200);
    plan_release(&plan);
    refused(&kernel, MIB(16), -E2BIG, "takes 0x100000 bytes of memory from 0x1000000 on");
}

static void the_place_follows_preference_and_alignment(void **state)
{
    (void)state;
    static const struct {
        uint64_t preferred;
        uint32_t alignment;
        uint64_t load;
    } cases[] = {{MIB(16), (uint32_t)MIB(2), MIB(16)},
                 {MIB(16) + 1, (uint32_t)MIB(2), MIB(18)},
                 {0, 0x1000, MIB(1)},
                 {0, (uint32_t)MIB(16), MIB(16)},
                 {0x1000, 1, MIB(1)},
                 {MIB(3) + 1, 1, MIB(3) + 0x1000}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct bzimage_spec spec = bzimage_default;
        spec.pref_address = cases[i].preferred;
        spec.alignment = cases[i].alignment;
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_bzimage(&kernel, &spec);
        struct plan plan = PLAN_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
        assert_int_equal(run_of(&plan, "kernel")->gpa, cases[i].load);
        plan_release(&plan);
    }
}

static void a_kernel_that_does_not_fit_ram_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t preferred;
        uint32_t alignment, init_size, payload_len;
    } cases[] = {
        {MIB(2), (uint32_t)MIB(2), 0xffffffff, 0x3000},
        {MIB(2), (uint32_t)MIB(2), (uint32_t)(RAM - MIB(2) + 1), 0x3000},
        {UINT64_MAX, (uint32_t)MIB(2), 0, 0x3000},
        {GIB(4), (uint32_t)MIB(2), 0, 0x3000},
        {MIB(2), 0x80000000, 0, 0x3000},
        {RAM - 0x2000, 0x1000, 0, 0x3000},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct bzimage_spec spec = bzimage_default;
        spec.pref_address = cases[i].preferred;
        spec.alignment = cases[i].alignment;
        spec.init_size = cases[i].init_size;
        spec.payload_len = cases[i].payload_len;
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_bzimage(&kernel, &spec);
        refused(&kernel, RAM, -E2BIG, "but the RAM it may use ends at 0x4000000");
    }
}

static void a_kernel_cut_off_anywhere_is_truncated_not_loaded(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        int code;
        const char *text;
    } cases[] = {
        {0, -ENODATA, "is empty"},
        {1, -ENOEXEC, "neither a bzImage nor an ELF file"},
        {0x1ff, -ENOEXEC, "neither a bzImage nor an ELF file"},
        {0x205, -ENOEXEC, "neither a bzImage nor an ELF file"},
        {0x206, -ENODATA, "within its setup header"},
        {0x267, -ENODATA, "within its setup header"},
        {0x268, -ENODATA, "2560 of setup code"},
        {5 * 512, -ENODATA, "2560 of setup code"},
        {5 * 512 + 0x200, -ENODATA, "2560 of setup code"},
        {5 * 512 + 0x201, -ENODATA, "it has 3073 bytes, its header says 14848"},
        {5 * 512 + 0x2fff, -ENODATA, "it has 14847 bytes, its header says 14848"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_bzimage(&kernel, &bzimage_default);
        kernel.len = cases[i].len;
        refused(&kernel, RAM, cases[i].code, cases[i].text);
    }
}

static void a_header_that_lies_is_named(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        uint32_t value;
        size_t bytes;
        const char *text;
    } cases[] = {
        {0x206, 0x20b, 2, "has boot protocol 2.11; the 64-bit entry point needs 2.12"},
        {0x206, 0, 2, "has boot protocol 0.00"},
        {0x236, 0xfffe, 2, "is a 32-bit kernel"},
        {0x211, 0, 1, "is a zImage"},
        {0x200, 0xe9, 1, "too short for its boot protocol"},
        {0x201, 0, 1, "too short for its boot protocol"},
        {0x201, 0x65, 1, "too short for its boot protocol"},
        {0x230, 0, 4, "an alignment of 0x0, which is not a power of two"},
        {0x230, 0x300000, 4, "an alignment of 0x300000, which is not a power of two"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_bzimage(&kernel, &bzimage_default);
        uint8_t value[4];
        store_le32(value, cases[i].value);
        memcpy(kernel.data + cases[i].offset, value, cases[i].bytes);
        refused(&kernel, RAM, -ENOEXEC, cases[i].text);
    }
}

static void a_header_longer_than_its_space_stays_within_it(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    kernel.data[0x201] = 0xff;
    memset(kernel.data + 0x26c, 0xee, 0x200);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, "", RAM, &err), 0);
    const uint8_t *page = run_of(&plan, "zero page")->bytes;
    assert_int_equal(page[0x28f], 0xee);
    assert_int_equal(page[0x290], 0);
    plan_release(&plan);
}

static void a_command_line_longer_than_the_kernel_takes_names_both_lengths(void **state)
{
    (void)state;
    struct bzimage_spec spec = bzimage_default;
    spec.cmdline_size = 20;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &spec);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, "12345678901234567890", RAM, &err), 0);
    plan_release(&plan);
    assert_int_equal(plan_with(&plan, &kernel, 0, "123456789012345678901", RAM, &err), -E2BIG);
    assert_non_null(strstr(err.message, "the command line is 21 characters long"));
    assert_non_null(strstr(err.message, "takes at most 20"));
    plan_release(&plan);
}

static void an_unbounded_command_line_still_fits_its_place(void **state)
{
    (void)state;
    static char cmdline[LAYOUT_CMDLINE_MAX + 1];
    memset(cmdline, 'x', LAYOUT_CMDLINE_MAX);
    struct bzimage_spec spec = bzimage_default;
    spec.cmdline_size = UINT32_MAX;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &spec);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_with(&plan, &kernel, 0, cmdline, RAM, &err), -E2BIG);
    plan_release(&plan);
    cmdline[LAYOUT_CMDLINE_MAX - 1] = '\0';
    assert_int_equal(plan_with(&plan, &kernel, 0, cmdline, RAM, &err), 0);
    plan_release(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_is_loaded_whole_behind_any_number_of_setup_sectors),
        cmocka_unit_test(vcpu_0_enters_at_the_64_bit_entry_point_in_long_mode),
        cmocka_unit_test(the_gdt_holds_the_segments_that_are_loaded),
        cmocka_unit_test(the_first_4_gib_are_mapped_to_themselves),
        cmocka_unit_test(the_zero_page_has_the_files_header_and_the_loaders_fields),
        cmocka_unit_test(an_initramfs_goes_as_high_as_kernel_and_ram_allow),
        cmocka_unit_test(an_initramfs_never_lies_where_the_kernel_unpacks),
        cmocka_unit_test(an_initramfs_larger_than_ram_names_both_sizes),
        cmocka_unit_test(a_kernel_that_cannot_be_relocated_is_loaded_at_1_mib),
        cmocka_unit_test(the_place_follows_preference_and_alignment),
        cmocka_unit_test(a_kernel_that_does_not_fit_ram_is_refused),
        cmocka_unit_test(a_kernel_cut_off_anywhere_is_truncated_not_loaded),
        cmocka_unit_test(a_header_that_lies_is_named),
        cmocka_unit_test(a_header_longer_than_its_space_stays_within_it),
        cmocka_unit_test(a_command_line_longer_than_the_kernel_takes_names_both_lengths),
        cmocka_unit_test(an_unbounded_command_line_still_fits_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
