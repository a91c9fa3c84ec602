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
#include <string.h>
#include <unistd.h>

/** plan_bytes() - the plan of a kernel of @len bytes. */
static int plan_bytes(struct plan *plan, const void *bytes, size_t len, struct boot_params_in in,
                      struct error *err)
{
    char path[FILE_PATH_BYTES];
    int fd = memory_file(bytes, len, path);
    assert_true(fd >= 0);
    in.kernel = path;
    int ret = boot_plan_kernel(plan, &in, err);
    close(fd);
    return ret;
}

static void the_memory_map_has_a_hole_below_4_gib(void **state)
{
    (void)state;
    static const struct {
        uint64_t ram, low, high;
    } cases[] = {
        {MIB(2), MIB(2), 0},      {MIB(256), MIB(256), 0},
        {GIB(3), GIB(3), 0},      {GIB(3) + 0x1000, GIB(3), 0x1000},
        {GIB(6), GIB(3), GIB(3)}, {GIB(4096), GIB(3), GIB(4093)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct e820_map map;
        e820_build(&map, cases[i].ram);
        assert_int_equal(layout_low_ram(cases[i].ram), cases[i].low);
        uint64_t end = 0, ram = 0;
        for (unsigned j = 0; j < map.n; j++) {
            assert_true(map.entries[j].base >= end); /* in order, none on another */
            assert_true(map.entries[j].len > 0);
            end = map.entries[j].base + map.entries[j].len;
            if (map.entries[j].type == E820_RAM)
                ram += map.entries[j].len;
        }
        /* All RAM but what lies below 1 MiB behind the conventional memory. */
        assert_int_equal(ram, cases[i].ram - (MIB(1) - LAYOUT_EBDA));
        const struct e820_entry *last = &map.entries[map.n - 1];
        if (cases[i].high) {
            assert_int_equal(last->base, GIB(4));
            assert_int_equal(last->len, cases[i].high);
        } else {
            assert_int_equal(last->base, 0xe8000000);
            assert_int_equal(last->type, E820_RESERVED);
        }
    }
}

static void what_is_no_kernel_is_told_by_what_it_is(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        const char *magic;
        size_t len;
        const char *text;
    } cases[] = {
        {0, "text", 4, "is neither a bzImage nor an ELF file"},
        {0, "\x1f\x8b\x08", 3, "gzip-compressed data"},
        {0, "\x28\xb5\x2f\xfd", 4, "zstd-compressed data"},
        {0, "\xfd\x37zXZ", 6, "xz-compressed data"},
        {0, "MZ", 2, "an EFI program"},
        {0, "MZ\0\0zimg", 8, "an EFI zboot image"},
        {0x38, "ARM\x64", 4, "an arm64 Linux image"},
        {0x38, "RSC\x05", 4, "a RISC-V Linux image"},
        {0x24, "\x18\x28\x6f\x01", 4, "a 32-bit ARM zImage"},
        {0, "070701", 6, "a cpio archive"},
        {0, "IGVM", 4, "an IGVM file"},
        {0x1fe, "\x55\xaa", 2, "a boot sector"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[1024] = {0};
        memcpy(bytes + cases[i].offset, cases[i].magic, cases[i].len);
        struct plan plan = PLAN_INIT;
        struct error err = ERROR_INIT;
        const struct boot_params_in in = {.cmdline = "", .vcpus = 1, .ram_bytes = MIB(64)};
        assert_int_equal(plan_bytes(&plan, bytes, sizeof(bytes), in, &err), -ENOEXEC);
        if (!strstr(err.message, cases[i].text))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].text);
        plan_release(&plan);
    }
}

static void what_cannot_be_opened_is_named(void **state)
{
    (void)state;
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    struct boot_params_in in = {.kernel = "/nonexistent/vmlinuz", .vcpus = 1, .ram_bytes = MIB(64)};
    assert_int_equal(boot_plan_kernel(&plan, &in, &err), -ENOENT);
    assert_non_null(strstr(err.message, "/nonexistent/vmlinuz"));
    in.kernel = "/tmp";
    assert_int_equal(boot_plan_kernel(&plan, &in, &err), -EISDIR);
    plan_release(&plan);
}

static void an_empty_initramfs_is_refused(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    char path[FILE_PATH_BYTES];
    int fd = memory_file("", 0, path);
    assert_true(fd >= 0);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    const struct boot_params_in in = {.initramfs = path, .vcpus = 1, .ram_bytes = MIB(64)};
    assert_int_equal(plan_bytes(&plan, kernel.data, kernel.len, in, &err), -ENODATA);
    assert_non_null(strstr(err.message, "initramfs '/proc/self/fd/"));
    assert_non_null(strstr(err.message, "is empty"));
    close(fd);
    plan_release(&plan);
}

static void tables_and_vcpus_are_part_of_the_plan(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT, acpi = BUF_INIT, smbios = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    assert_non_null(buf_extend(&acpi, LAYOUT_ACPI_MAX));
    assert_non_null(buf_extend(&smbios, LAYOUT_SMBIOS_MAX));
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    const struct boot_params_in in = {
        .cmdline = "", .vcpus = 3, .ram_bytes = MIB(64), .acpi = &acpi, .smbios = &smbios};
    assert_int_equal(plan_bytes(&plan, kernel.data, kernel.len, in, &err), 0);
    assert_int_equal(plan.n_vcpus, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(plan.vcpus[i].index, i);
        assert_int_equal(plan.vcpus[i].waits_for_sipi, i > 0);
    }
    unsigned seen = 0;
    for (size_t i = 0; i < plan.n_runs; i++) {
        if (plan.runs[i].gpa == 0xa0000 && plan.runs[i].len == LAYOUT_ACPI_MAX)
            seen |= 1;
        if (plan.runs[i].gpa == 0xf0000 && plan.runs[i].len == LAYOUT_SMBIOS_MAX)
            seen |= 2;
        if (plan.runs[i].gpa == 0x7000 && load_le64(plan.runs[i].bytes + 0x70) == 0xa0000)
            seen |= 4; /* acpi_rsdp_addr */
    }
    assert_int_equal(seen, 7);
    plan_release(&plan);

    assert_non_null(buf_extend(&acpi, 1));
    assert_int_equal(plan_bytes(&plan, kernel.data, kernel.len, in, &err), -E2BIG);
    assert_non_null(strstr(err.message, "ACPI tables take 327681 bytes"));
    plan_release(&plan);
}

static void a_jump_to_the_bios_resets_the_machine(void **state)
{
    (void)state;
    /* mov al, 1; mov dx, 0x600; out dx, al; hlt; jmp $-1 */
    static const uint8_t code[] = {0xb0, 0x01, 0xba, 0x00, 0x06, 0xee, 0xf4, 0xeb, 0xfd};
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_bzimage(&kernel, &bzimage_default);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    const struct boot_params_in in = {.vcpus = 1, .ram_bytes = MIB(64)};
    assert_int_equal(plan_bytes(&plan, kernel.data, kernel.len, in, &err), 0);
    bool found = false;
    for (size_t i = 0; i < plan.n_runs; i++)
        if (plan.runs[i].gpa == 0xff000) {
            assert_memory_equal(plan.runs[i].bytes + 0xff0, code, sizeof(code));
            found = true;
        }
    assert_true(found);
    plan_release(&plan);
}

static void ram_that_no_kernel_fits_is_refused(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 0x1000, MIB(2) - 0x1000, MIB(64) + 1};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct plan plan = PLAN_INIT;
        struct error err = ERROR_INIT;
        const struct boot_params_in in = {.kernel = "/dev/null", .vcpus = 1, .ram_bytes = sizes[i]};
        assert_int_equal(boot_plan_kernel(&plan, &in, &err), -EINVAL);
        assert_non_null(strstr(err.message, "bytes of RAM"));
        plan_release(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_map_has_a_hole_below_4_gib),
        cmocka_unit_test(what_is_no_kernel_is_told_by_what_it_is),
        cmocka_unit_test(what_cannot_be_opened_is_named),
        cmocka_unit_test(an_empty_initramfs_is_refused),
        cmocka_unit_test(tables_and_vcpus_are_part_of_the_plan),
        cmocka_unit_test(a_jump_to_the_bios_resets_the_machine),
        cmocka_unit_test(ram_that_no_kernel_fits_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
