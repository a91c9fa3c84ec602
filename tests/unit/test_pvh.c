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

#define RAM MIB(16)

/* Offsets in an ELF64 header and program header. */
enum { E_TYPE = 16, E_MACHINE = 18, E_PHOFF = 32, E_PHENTSIZE = 54, E_PHNUM = 56 };
enum { P_TYPE = 0, P_OFFSET = 8, P_PADDR = 24, P_FILESZ = 32, P_MEMSZ = 40, P_ALIGN = 48 };

#define NOTE_PHDR PVH_PHDRS
#define LOAD_PHDR (PVH_PHDRS + PVH_PHDR)

static const struct segment_spec one_segment = {PVH_ENTRY, 0x1234, 0x5000};

static int plan_of(struct plan *plan, const struct buf *kernel, struct error *err)
{
    char path[FILE_PATH_BYTES];
    int fd = memory_file(kernel->data, kernel->len, path);
    assert_true(fd >= 0);
    const struct boot_params_in in = {
        .kernel = path, .cmdline = "a b", .vcpus = 1, .ram_bytes = RAM};
    int ret = boot_plan_kernel(plan, &in, err);
    close(fd);
    return ret;
}

static void refused(const struct buf *kernel, int code, const char *text)
{
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_of(&plan, kernel, &err), code);
    if (!strstr(err.message, text))
        fail_msg("'%s' does not say '%s'", err.message, text);
    assert_null(strchr(err.message, '\n'));
    plan_release(&plan);
}

/** loads() - every byte of @segments must be in its place, and zero everywhere else from 1 MiB on. */
static void loads(const struct buf *kernel, const struct segment_spec *segments, unsigned n)
{
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    if (plan_of(&plan, kernel, &err) != 0)
        fail_msg("%s", err.message);
    uint8_t *ram = calloc(1, RAM);
    assert_non_null(ram);
    assert_int_equal(materialise(&plan, ram, RAM), 0);
    for (unsigned i = 0; i < n; i++)
        for (uint64_t at = segments[i].paddr; at < segments[i].paddr + segments[i].filesz; at++) {
            if (ram[at] != (uint8_t)(at * 7 + 1))
                fail_msg("segment %u: wrong byte at 0x%lx", i, at);
            ram[at] = 0;
        }
    for (uint64_t at = MIB(1); at < RAM; at++)
        if (ram[at])
            fail_msg("a byte at 0x%lx, where nothing is loaded", at);
    free(ram);
    plan_release(&plan);
}

static void segments_are_loaded_wherever_they_begin_and_end(void **state)
{
    (void)state;
    static const struct {
        unsigned n;
        struct segment_spec segments[5];
    } cases[] = {
        {1, {{PVH_ENTRY, 1, 1}}},
        {1, {{PVH_ENTRY, 0x1000, 0x1000}}},
        {1, {{PVH_ENTRY, 0x1001, 0x9000}}},
        {1, {{PVH_ENTRY, 0x3fff, 0x4000}}},
        /* all in one page */
        {3,
         {{PVH_ENTRY, 0x10, 0x10},
          {PVH_ENTRY + 0x10, 0x20, 0x20},
          {PVH_ENTRY + 0x800, 0x7ff, 0x800}}},
        /* a tail and the next head share a page */
        {2, {{PVH_ENTRY, 0x2345, 0x2345}, {PVH_ENTRY + 0x2345, 0x4000, 0x4000}}},
        {2, {{PVH_ENTRY, 0x2345, 0x2400}, {PVH_ENTRY + 0x2f00, 0x101, 0x4000}}},
        {2, {{PVH_ENTRY, 0x2000, 0x2001}, {PVH_ENTRY + 0x2ff0, 0x20, 0x20}}},
        /* as the linker likes it: not in order, bss between, an empty one among them */
        {5,
         {{PVH_ENTRY + 0x8123, 0x5000, 0x5000},
          {PVH_ENTRY, 0x123, 0x123},
          {PVH_ENTRY + 0x123, 0, 0x100},
          {PVH_ENTRY + 0x223, 0x4001, 0x6000},
          {PVH_ENTRY + 0x700, 0, 0}}},
        /* up to the last byte of RAM */
        {2, {{PVH_ENTRY, 0x10, 0x10}, {RAM - 0x1801, 0x1801, 0x1801}}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_pvh(&kernel, cases[i].segments, cases[i].n);
        loads(&kernel, cases[i].segments, cases[i].n);
    }
}

static void whole_pages_stay_in_the_file(void **state)
{
    (void)state;
    static const struct segment_spec segments[] = {{PVH_ENTRY, MIB(2) + 7, MIB(3)},
                                                   {MIB(5) + 0x800, MIB(1), MIB(1)}};
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh(&kernel, segments, ARRAY_SIZE(segments));
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_of(&plan, &kernel, &err), 0);
    uint64_t copied = 0, kept = 0;
    for (size_t i = 0; i < plan.n_runs; i++) {
        if (strcmp(plan.runs[i].origin, "kernel") != 0)
            continue;
        *(plan.runs[i].source == PLAN_SOURCE_BYTES ? &copied : &kept) += plan.runs[i].len;
    }
    assert_true(copied <= 2 * 0x1000);
    assert_true(kept >= MIB(3) - 0x2000);
    plan_release(&plan);
}

static void vcpu_0_enters_in_protected_mode_with_the_start_info(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh(&kernel, &one_segment, 1);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_of(&plan, &kernel, &err), 0);
    const struct plan_vcpu *vcpu = &plan.vcpus[0];
    assert_int_equal(vcpu->rip, PVH_ENTRY);
    assert_int_equal(vcpu->rbx, 0x6000);
    assert_int_equal(vcpu->rflags, 2);
    assert_int_equal(vcpu->cr0, 0x11);
    assert_int_equal(vcpu->cr4, 0);
    assert_int_equal(vcpu->efer, 0);
    assert_int_equal(vcpu->cs.attributes, 0xc9b);
    assert_int_equal(vcpu->cs.limit, UINT32_MAX);
    assert_int_equal(vcpu->ds.attributes, 0xc93);
    assert_int_equal(vcpu->ss.attributes, 0xc93);
    assert_int_equal(vcpu->tr.attributes, 0x8b);
    assert_int_equal(vcpu->tr.limit, 0x67);
    plan_release(&plan);
}

static void the_start_info_describes_memory_modules_and_tables(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT, acpi = BUF_INIT;
    make_pvh(&kernel, &one_segment, 1);
    buf_append(&acpi, "RSD PTR ", 8);
    char path[FILE_PATH_BYTES], initramfs_path[FILE_PATH_BYTES];
    int fd = memory_file(kernel.data, kernel.len, path);
    int initramfs = memory_file("initramfs", 9, initramfs_path);
    assert_true(fd >= 0 && initramfs >= 0);
    const struct boot_params_in in = {.kernel = path,
                                      .initramfs = initramfs_path,
                                      .cmdline = "quiet",
                                      .vcpus = 1,
                                      .ram_bytes = RAM,
                                      .acpi = &acpi};
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(boot_plan_kernel(&plan, &in, &err), 0);
    close(fd);
    close(initramfs);
    uint8_t *ram = calloc(1, RAM);
    assert_non_null(ram);
    assert_int_equal(materialise(&plan, ram, RAM), 0);

    const uint8_t *info = ram + 0x6000;
    assert_int_equal(load_le32(info), 0x336ec578);
    assert_int_equal(load_le32(info + 4), 1);
    assert_int_equal(load_le32(info + 12), 1);
    const uint8_t *module = ram + load_le64(info + 16);
    assert_int_equal(load_le64(module), RAM - 0x1000);
    assert_int_equal(load_le64(module + 8), 9);
    assert_memory_equal(ram + load_le64(module), "initramfs", 9);
    assert_string_equal((const char *)ram + load_le64(info + 24), "quiet");
    assert_int_equal(load_le64(info + 32), 0xa0000);
    const uint8_t *memmap = ram + load_le64(info + 40);
    assert_int_equal(load_le32(info + 48), 6);
    assert_int_equal(load_le64(memmap), 0);
    assert_int_equal(load_le64(memmap + 8), 0x9fc00);
    assert_int_equal(load_le32(memmap + 16), 1);
    assert_int_equal(load_le64(memmap + 4 * 24), MIB(1));
    assert_int_equal(load_le64(memmap + 4 * 24 + 8), RAM - MIB(1));
    free(ram);
    plan_release(&plan);
}

static void a_32_bit_elf_file_is_loaded_too(void **state)
{
    (void)state;
    const struct segment_spec segment = {PVH_ENTRY, 0x1801, 0x1801};
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh32(&kernel, 0x1801);
    loads(&kernel, &segment, 1);
}

/** damaged() - the default file with @bytes of @value at @offset is refused. */
static void damaged(size_t offset, uint64_t value, size_t bytes, int code, const char *text)
{
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh(&kernel, &one_segment, 1);
    uint8_t le[8];
    store_le64(le, value);
    memcpy(kernel.data + offset, le, bytes);
    refused(&kernel, code, text);
}

static void a_file_of_another_machine_is_named(void **state)
{
    (void)state;
    damaged(E_MACHINE, 183, 2, -ENOEXEC, "is an ELF file for arm64");
    damaged(E_MACHINE, 243, 2, -ENOEXEC, "is an ELF file for RISC-V");
    damaged(E_MACHINE, 3, 2, -ENOEXEC, "machine number 3, not for x86");
    damaged(E_MACHINE, 0x7777, 2, -ENOEXEC, "machine number 30583");
    damaged(4, 9, 1, -ENOEXEC, "unknown class, 9");
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh(&kernel, &one_segment, 1);
    kernel.data[5] = 2; /* big-endian */
    store_le16(kernel.data + E_MACHINE, 22 << 8);
    refused(&kernel, -ENOEXEC, "is an ELF file for s390");
}

static void program_headers_that_lie_are_named(void **state)
{
    (void)state;
    damaged(E_TYPE, 1, 2, -ENOEXEC, "not an executable (its type is 1)");
    damaged(E_PHNUM, 0, 2, -ENOEXEC, "no program headers");
    damaged(E_PHNUM, 65535, 2, -ENOEXEC, "has 65535 program headers, at most 128");
    damaged(E_PHENTSIZE, 32, 2, -ENOEXEC, "program headers of 32 bytes, not 56");
    damaged(E_PHOFF, UINT64_MAX - 8, 8, -ENODATA, "truncated");
    damaged(E_PHOFF, 1 << 20, 8, -ENODATA, "its program headers are at 0x100000");
    damaged(E_PHNUM, 128, 2, -ENODATA, "truncated");
}

static void segments_that_lie_are_named(void **state)
{
    (void)state;
    damaged(LOAD_PHDR + P_FILESZ, 0x5001, 8, -ENODATA, "segment 1 takes 0x5001 from 0x500 on");
    damaged(LOAD_PHDR + P_FILESZ, UINT64_MAX, 8, -ENODATA, "truncated");
    damaged(LOAD_PHDR + P_OFFSET, UINT64_MAX, 8, -ENODATA, "truncated");
    damaged(LOAD_PHDR + P_MEMSZ, 0x1233, 8, -ENOEXEC,
            "segment 1 is larger in the file (0x1234 bytes) than in memory (0x1233)");
    damaged(LOAD_PHDR + P_MEMSZ, UINT64_MAX, 8, -ENOEXEC, "past the end of the address space");
    damaged(LOAD_PHDR + P_MEMSZ, GIB(8), 8, -E2BIG, "the RAM it may use ends at 0x1000000");
    damaged(LOAD_PHDR + P_PADDR, UINT64_MAX - 0x5000, 8, -E2BIG, "the RAM it may use ends at");
    damaged(LOAD_PHDR + P_PADDR, RAM - 0x4fff, 8, -E2BIG, "the RAM it may use ends at");
    damaged(LOAD_PHDR + P_PADDR, 0x7000, 8, -ENOEXEC, "loads at 0x7000, below 1 MiB");
    damaged(LOAD_PHDR + P_TYPE, 6, 4, -ENOEXEC, "has no segment to load");
}

static void segments_that_overlap_are_refused(void **state)
{
    (void)state;
    static const struct segment_spec overlapping[][2] = {
        {{PVH_ENTRY, 0x1000, 0x1001}, {PVH_ENTRY + 0x1000, 0x10, 0x10}},
        {{PVH_ENTRY + 8, 8, 8}, {PVH_ENTRY, 0x1000, 0x1000}},
        {{PVH_ENTRY, 8, 8}, {PVH_ENTRY, 8, 8}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(overlapping); i++) {
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_pvh(&kernel, overlapping[i], 2);
        refused(&kernel, -ENOEXEC, "segments that overlap at 0x10");
    }
}

static void notes_that_lie_are_refused(void **state)
{
    (void)state;
    damaged(NOTE_PHDR + P_FILESZ, GIB(1), 8, -ENODATA, "truncated");
    damaged(NOTE_PHDR + P_OFFSET, GIB(1), 8, -ENODATA, "truncated");
    damaged(NOTE_PHDR + P_FILESZ, 23, 8, -ENOEXEC, "damaged ELF note in segment 0");
    damaged(NOTE_PHDR + P_FILESZ, 11, 8, -ENOEXEC, "without a PVH entry point");
    damaged(PVH_NOTE, UINT32_MAX, 4, -ENOEXEC, "damaged ELF note");
    damaged(PVH_NOTE + 4, UINT32_MAX, 4, -ENOEXEC, "damaged ELF note");
    damaged(PVH_NOTE + 4, 6, 4, -ENOEXEC, "damaged ELF note");
    damaged(PVH_NOTE + 8, 17, 4, -ENOEXEC, "without a PVH entry point");
    damaged(PVH_NOTE + 12, 0x00554e47, 4, -ENOEXEC, "without a PVH entry point"); /* "GNU" */
    damaged(NOTE_PHDR + P_TYPE, 0, 4, -ENOEXEC, "without a PVH entry point");
}

static void more_notes_than_a_kernel_has_are_refused(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh(&kernel, &one_segment, 1);
    store_le64(kernel.data + NOTE_PHDR + P_FILESZ, MIB(1) + 1);
    assert_non_null(buf_extend(&kernel, MIB(2)));
    refused(&kernel, -ENOEXEC, "more than 1 MiB of ELF notes");
}

static void the_pvh_note_is_found_among_others(void **state)
{
    (void)state;
    static const uint64_t aligns[] = {4, 8};
    for (size_t i = 0; i < ARRAY_SIZE(aligns); i++) {
        _cleanup_buf_ struct buf kernel = BUF_INIT;
        make_pvh(&kernel, &one_segment, 1);
        uint8_t *note = kernel.data + PVH_NOTE;
        uint8_t pvh[24];
        memcpy(pvh, note, sizeof(pvh));
        /* A note with odd lengths first: name of 6 bytes, description of 5. */
        size_t desc = align_up(12 + 6, aligns[i]), next = align_up(desc + 5, aligns[i]);
        memset(note, 0, 24);
        store_le32(note, 6);
        store_le32(note + 4, 5);
        store_le32(note + 8, 18);
        memcpy(note + 12, "Linux", 6);
        memcpy(note + next, pvh, sizeof(pvh));
        store_le64(kernel.data + NOTE_PHDR + P_FILESZ, next + sizeof(pvh));
        store_le64(kernel.data + NOTE_PHDR + P_ALIGN, aligns[i]);
        loads(&kernel, &one_segment, 1);
    }
}

static void an_entry_point_outside_of_what_is_loaded_is_refused(void **state)
{
    (void)state;
    damaged(PVH_NOTE + 16, PVH_ENTRY - 1, 8, -ENOEXEC, "at 0xfffff, where it loads nothing");
    damaged(PVH_NOTE + 16, PVH_ENTRY + 0x1234, 8, -ENOEXEC, "where it loads nothing"); /* bss */
    damaged(PVH_NOTE + 16, GIB(4) + PVH_ENTRY, 8, -ENOEXEC, "at 0x100100000, where");
}

static void a_file_cut_off_anywhere_is_refused(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf kernel = BUF_INIT;
    make_pvh(&kernel, &one_segment, 1);
    size_t whole = kernel.len;
    for (size_t len = 0; len < whole; len += len < 0x200 ? 1 : 0x101) {
        struct plan plan = PLAN_INIT;
        struct error err = ERROR_INIT;
        kernel.len = len;
        int ret = plan_of(&plan, &kernel, &err);
        assert_int_equal(ret, len >= 1 && len < 5 ? -ENOEXEC : -ENODATA);
        assert_true(strlen(err.message) > 10);
        plan_release(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_loaded_wherever_they_begin_and_end),
        cmocka_unit_test(whole_pages_stay_in_the_file),
        cmocka_unit_test(vcpu_0_enters_in_protected_mode_with_the_start_info),
        cmocka_unit_test(the_start_info_describes_memory_modules_and_tables),
        cmocka_unit_test(a_32_bit_elf_file_is_loaded_too),
        cmocka_unit_test(a_file_of_another_machine_is_named),
        cmocka_unit_test(program_headers_that_lie_are_named),
        cmocka_unit_test(segments_that_lie_are_named),
        cmocka_unit_test(segments_that_overlap_are_refused),
        cmocka_unit_test(notes_that_lie_are_refused),
        cmocka_unit_test(more_notes_than_a_kernel_has_are_refused),
        cmocka_unit_test(the_pvh_note_is_found_among_others),
        cmocka_unit_test(an_entry_point_outside_of_what_is_loaded_is_refused),
        cmocka_unit_test(a_file_cut_off_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
