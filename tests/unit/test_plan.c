#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/plan.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void runs_keep_their_order(void **state)
{
    (void)state;
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(plan_add_bytes(&plan, (100 - i) * 0x1000, &i, sizeof(i), "page", &err), 0);
    assert_int_equal(plan.n_runs, 100);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(plan.runs[i].gpa, (100 - i) * 0x1000);
        assert_memory_equal(plan.runs[i].bytes, &i, sizeof(i));
    }
    assert_int_equal(plan_check(&plan, 1 << 20, &err), 0);
    plan_release(&plan);
}

static void unaligned_and_wrapping_runs_are_refused(void **state)
{
    (void)state;
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_add_bytes(&plan, 0x1001, "x", 1, "kernel", &err), -EINVAL);
    assert_string_equal(err.message, "kernel cannot be placed at 0x1001, length 0x1");
    assert_int_equal(plan_add_bytes(&plan, UINT64_MAX - 0xfff, "x", 1, "kernel", &err), -EINVAL);
    assert_int_equal(plan.n_runs, 0);
    plan_release(&plan);
}

static void a_page_held_twice_names_both_owners(void **state)
{
    (void)state;
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    uint8_t two_pages[0x1001] = {0};
    assert_int_equal(plan_add_bytes(&plan, 0x3000, "a", 1, "initramfs", &err), 0);
    assert_int_equal(plan_add_bytes(&plan, 0x2000, two_pages, sizeof(two_pages), "kernel", &err),
                     0);
    assert_int_equal(plan_check(&plan, 1 << 20, &err), -EINVAL);
    assert_non_null(strstr(err.message, "kernel"));
    assert_non_null(strstr(err.message, "initramfs"));
    assert_non_null(strstr(err.message, "overlap"));
    plan_release(&plan);
}

static void a_run_above_the_limit_is_refused(void **state)
{
    (void)state;
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(plan_add_bytes(&plan, 0x10000, "a", 1, "kernel", &err), 0);
    assert_int_equal(plan_check(&plan, 0x11000, &err), 0);
    assert_int_equal(plan_check(&plan, 0x10fff, &err), -EINVAL);
    plan_release(&plan);
}

static void contents_are_read_across_runs(void **state)
{
    (void)state;
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    uint8_t got[8];
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(write(fd, "..file", 6), 6);
    int file = plan_add_file(&plan, fd, 6, "file", &err);
    assert_true(file >= 0);
    assert_int_equal(plan_add_file_range(&plan, 0x2000, (unsigned)file, 2, 4, "kernel", &err), 0);
    uint8_t page[0x1000] = {[0xffe] = 'a', 'b'};
    assert_int_equal(plan_add_bytes(&plan, 0x1000, page, sizeof(page), "initramfs", &err), 0);
    assert_int_equal(plan_read(&plan, 0x1ffe, got, sizeof(got), &err), 0);
    assert_memory_equal(got, "abfile\0\0", 8);
    assert_int_equal(plan_read(&plan, 0x2003, got, 2, &err), 0);
    assert_memory_equal(got, "e", 2);
    assert_int_equal(ftruncate(fd, 4), 0);
    assert_int_equal(plan_read(&plan, 0x2000, got, 4, &err), -ENODATA);
    assert_non_null(strstr(err.message, "could not read 'file'"));
    plan_release(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_keep_their_order),
        cmocka_unit_test(unaligned_and_wrapping_runs_are_refused),
        cmocka_unit_test(a_page_held_twice_names_both_owners),
        cmocka_unit_test(contents_are_read_across_runs),
        cmocka_unit_test(a_run_above_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
