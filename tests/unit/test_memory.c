#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memory/load.h"
#include "memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct memory_params split = {
    .size = MIB(64), .low_size = MIB(16), .high_gpa = GIB(4), .thp = true, .reserve = true};

static void ram_lies_on_both_sides_of_the_hole(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(&memory, &split, &err), 0);
    assert_ptr_equal(memory_ptr(&memory, 0, MIB(16)), memory.base);
    assert_ptr_equal(memory_ptr(&memory, GIB(4), MIB(48)), memory.base + MIB(16));
    assert_null(memory_ptr(&memory, MIB(16), 1));
    assert_null(memory_ptr(&memory, MIB(16) - 1, 2));
    assert_null(memory_ptr(&memory, GIB(4) - 1, 2));
    assert_null(memory_ptr(&memory, GIB(4), MIB(48) + 1));
    assert_null(memory_ptr(&memory, UINT64_MAX, 2));
    assert_null(memory_ptr(&memory, 1, UINT64_MAX));
    memory_destroy(&memory);
}

/** loaded_at() - where @len bytes at @gpa go; fails unless there is room for exactly @room of them. */
static void *loaded_at(const struct guest_memory *memory, uint64_t gpa, uint64_t len, uint64_t room)
{
    void *at = memory_load_ptr(memory, gpa, &len);
    assert_non_null(at);
    assert_int_equal(len, room);
    return at;
}

static void windows_are_memory_that_is_no_ram(void **state)
{
    (void)state;
    struct memory_windows windows = {
        .at = {{.gpa = MIB(16), .len = PAGE_BYTES}, {.gpa = GIB(4) - MIB(4), .len = MIB(4)}},
        .n = 2};
    struct memory_params params = split;
    params.windows = &windows;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(&memory, &params, &err), 0);
    const uint8_t *small = memory.windows.at[0].base, *top = memory.windows.at[1].base;
    assert_null(memory_ptr(&memory, MIB(16), 1));
    assert_null(memory_ptr(&memory, GIB(4) - 1, 1));
    assert_ptr_equal(loaded_at(&memory, GIB(4) - MIB(4), MIB(4), MIB(4)), top);
    assert_ptr_equal(loaded_at(&memory, GIB(4) - 16, 17, 16), top + MIB(4) - 16);
    assert_ptr_equal(loaded_at(&memory, GIB(4), 1, 1), memory.base + MIB(16));
    assert_ptr_equal(loaded_at(&memory, MIB(16) - 1, 2, 1), memory.base + MIB(16) - 1);
    assert_ptr_equal(loaded_at(&memory, MIB(16), MIB(1), PAGE_BYTES), small);
    uint64_t one = 1;
    assert_null(memory_load_ptr(&memory, MIB(16) + PAGE_BYTES, &one));
    assert_null(memory_load_ptr(&memory, UINT64_MAX, &one));

    /* A run goes on where RAM ends and a window begins. */
    struct plan plan = PLAN_INIT;
    assert_int_equal(plan_add_bytes(&plan, MIB(16) - PAGE_BYTES,
                                    (uint8_t[PAGE_BYTES + 3]){[4095] = 1, 2, 3, 4}, PAGE_BYTES + 3,
                                    "test", &err),
                     0);
    assert_int_equal(memory_load_plan(&memory, &plan, &err), 0);
    assert_int_equal(memory.base[MIB(16) - 1], 1);
    assert_memory_equal(small, ((uint8_t[]){2, 3, 4, 0}), 4);
    plan_release(&plan);
    memory_destroy(&memory);
}

static void nobody_can_shrink_ram(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(&memory, &split, &err), 0);
    assert_int_equal(ftruncate(memory.fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(memory.fd, (off_t)MIB(128)), -1);
    assert_int_equal(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_true(fcntl(memory.fd, F_GETFD) & FD_CLOEXEC);
    memory_destroy(&memory);
}

static void prefault_allocates_every_page(void **state)
{
    (void)state;
    struct memory_params params = {.size = MIB(8), .low_size = MIB(8), .prefault = true};
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(&memory, &params, &err), 0);
    unsigned char resident[MIB(8) / PAGE_BYTES];
    assert_int_equal(mincore(memory.base, MIB(8), resident), 0);
    for (size_t i = 0; i < sizeof(resident); i++)
        assert_true(resident[i] & 1);
    memory_destroy(&memory);
}

static void lacking_huge_pages_are_named(void **state)
{
    (void)state;
    /* More than any machine has set aside. */
    struct memory_params params = {.size = GIB(1) * 65536,
                                   .low_size = GIB(1),
                                   .high_gpa = GIB(4),
                                   .hugepages = true,
                                   .hugepage_size = MIB(2),
                                   .reserve = true};
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_true(memory_create(&memory, &params, &err) < 0);
    assert_non_null(strstr(err.message, "huge pages of 2M"));
    assert_true(err.hint[0] != '\0');

    params.size = MIB(3);
    params.low_size = MIB(3);
    assert_int_equal(memory_create(&memory, &params, &err), -EINVAL);
    assert_non_null(strstr(err.message, "a multiple of 2M"));
}

static int file_of(const void *bytes, size_t len)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    return fd;
}

static void a_plan_lands_byte_for_byte(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    struct plan plan = PLAN_INIT;
    assert_int_equal(memory_create(&memory, &split, &err), 0);
    int file = plan_add_file(&plan, file_of("0123456789", 10), 10, "digits", &err);
    assert_int_equal(file, 0);
    assert_int_equal(plan_add_bytes(&plan, 0x1000, "abc", 3, "bytes", &err), 0);
    assert_int_equal(plan_add_file_range(&plan, GIB(4), 0, 3, 5, "digits", &err), 0);
    assert_int_equal(memory_load_plan(&memory, &plan, &err), 0);
    assert_memory_equal(memory_ptr(&memory, 0x1000, 4), "abc\0", 4);
    assert_memory_equal(memory_ptr(&memory, GIB(4), 6), "34567\0", 6);
    plan_release(&plan);
    memory_destroy(&memory);
}

static void a_run_outside_of_ram_is_named(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    struct plan plan = PLAN_INIT;
    assert_int_equal(memory_create(&memory, &split, &err), 0);
    assert_int_equal(plan_add_bytes(&plan, MIB(16), "x", 1, "initramfs", &err), 0);
    assert_int_equal(memory_load_plan(&memory, &plan, &err), -EFAULT);
    assert_non_null(strstr(err.message, "initramfs at 0x1000000"));
    plan_release(&plan);
    memory_destroy(&memory);
}

static void a_file_that_shrank_is_an_error(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    struct plan plan = PLAN_INIT;
    assert_int_equal(memory_create(&memory, &split, &err), 0);
    int fd = file_of("0123456789", 10);
    assert_int_equal(plan_add_file(&plan, fd, 10, "digits", &err), 0);
    assert_int_equal(plan_add_file_range(&plan, 0, 0, 0, 10, "digits", &err), 0);
    assert_int_equal(ftruncate(fd, 4), 0);
    assert_int_equal(memory_load_plan(&memory, &plan, &err), -ENODATA);
    assert_string_equal(err.message, "'digits' became shorter while it was read");
    plan_release(&plan);
    memory_destroy(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ram_lies_on_both_sides_of_the_hole),
        cmocka_unit_test(windows_are_memory_that_is_no_ram),
        cmocka_unit_test(nobody_can_shrink_ram),
        cmocka_unit_test(prefault_allocates_every_page),
        cmocka_unit_test(lacking_huge_pages_are_named),
        cmocka_unit_test(a_plan_lands_byte_for_byte),
        cmocka_unit_test(a_run_outside_of_ram_is_named),
        cmocka_unit_test(a_file_that_shrank_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
