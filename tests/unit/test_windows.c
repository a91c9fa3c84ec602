#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "igvm/igvm_defs.h"
#include "vmm/windows.h"

#include <errno.h>

static struct plan plan;

static int set_up(void **state)
{
    (void)state;
    plan = PLAN_INIT;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    plan_release(&plan);
    return 0;
}

/** pages() - @n pages of header @directive and those behind it. */
static void pages(uint64_t gpa, uint64_t n, uint32_t directive)
{
    struct error err = ERROR_INIT;
    struct plan_run *run =
        plan_add_pages(&plan, gpa, n * PAGE_BYTES, PLAN_PAGE_ZERO, "IGVM page data", &err);
    assert_non_null(run);
    run->directive = directive;
    run->directive_type = IGVM_VHT_PAGE_DATA;
    run->header_bytes = PAGE_BYTES;
}

static void required(uint64_t gpa, uint64_t len, uint32_t directive)
{
    struct error err = ERROR_INIT;
    struct plan_range range = {
        .gpa = gpa, .len = len, .directive = directive, .directive_type = IGVM_VHT_REQUIRED_MEMORY};
    assert_int_equal(plan_add_range(&plan, &range, &err), 0);
}

static int find(struct memory_windows *windows, bool igvm, struct error *err)
{
    struct windows_in in = {
        .plan = &plan, .low_ram = MIB(16), .high_ram = MIB(16), .limit = BIT64(40), .igvm = igvm};
    return windows_find(windows, &in, err);
}

static void assert_window(const struct memory_windows *windows, unsigned i, uint64_t gpa,
                          uint64_t len)
{
    assert_true(i < windows->n);
    assert_int_equal(windows->at[i].gpa, gpa);
    assert_int_equal(windows->at[i].len, len);
    assert_false(windows->at[i].readonly);
}

static void an_image_below_4_gib_is_read_only(void **state)
{
    (void)state;
    struct memory_windows windows;
    struct error err = ERROR_INIT;
    pages(0, 4, 0);
    pages(GIB(4) - MIB(2), 512, 0);
    assert_int_equal(find(&windows, false, &err), 0);
    assert_int_equal(windows.n, 1);
    assert_int_equal(windows.at[0].gpa, GIB(4) - MIB(2));
    assert_int_equal(windows.at[0].len, MIB(2));
    assert_true(windows.at[0].readonly);
    assert_int_equal(find(&windows, true, &err), 0);
    assert_window(&windows, 0, GIB(4) - MIB(2), MIB(2));
}

static void what_ram_holds_needs_no_window(void **state)
{
    (void)state;
    struct memory_windows windows;
    struct error err = ERROR_INIT;
    pages(0, MIB(16) / PAGE_BYTES, 1);
    required(GIB(4), MIB(16), 5000);
    assert_int_equal(find(&windows, true, &err), 0);
    assert_int_equal(windows.n, 0);
}

static void a_window_begins_where_ram_ends(void **state)
{
    (void)state;
    struct memory_windows windows;
    struct error err = ERROR_INIT;
    /* From low RAM through its end; across all of high RAM; apart. */
    pages(MIB(16) - PAGE_BYTES, 3, 1);
    required(GIB(4) - MIB(8), MIB(40), 4);
    pages(GIB(1), 1, 5);
    assert_int_equal(find(&windows, true, &err), 0);
    assert_int_equal(windows.n, 4);
    assert_window(&windows, 0, MIB(16), 2 * PAGE_BYTES);
    assert_window(&windows, 1, GIB(1), PAGE_BYTES);
    assert_window(&windows, 2, GIB(4) - MIB(8), MIB(8));
    assert_window(&windows, 3, GIB(4) + MIB(16), MIB(16));
    assert_int_equal(windows_end(&windows, MIB(16), GIB(2)), GIB(1) + PAGE_BYTES);
    assert_int_equal(windows_end(&windows, GIB(2), GIB(3)), GIB(2));
    assert_int_equal(windows_end(NULL, GIB(2), GIB(3)), GIB(2));
}

static void neighbours_are_one_window(void **state)
{
    (void)state;
    struct memory_windows windows;
    struct error err = ERROR_INIT;
    /* More headers than there can be windows, in no order. */
    for (uint32_t i = 0; i < 200; i++)
        pages(GIB(1) + (uint64_t)(i * 77 % 200) * PAGE_BYTES, 1, i + 1);
    /* Memory that is required may hold what is loaded. */
    required(GIB(2), MIB(1), 300);
    pages(GIB(2) + PAGE_BYTES, 1, 301);
    pages(GIB(2) + MIB(1), 1, 302);
    assert_int_equal(find(&windows, true, &err), 0);
    assert_int_equal(windows.n, 2);
    assert_window(&windows, 0, GIB(1), 200 * PAGE_BYTES);
    assert_window(&windows, 1, GIB(2), MIB(1) + PAGE_BYTES);
}

static void assert_refused(int code, const char *message)
{
    struct memory_windows windows;
    struct error err = ERROR_INIT;
    assert_int_equal(find(&windows, true, &err), code);
    assert_string_equal(err.message, message);
}

static void the_header_in_the_way_of_an_apic_is_named(void **state)
{
    (void)state;
    pages(0xfebff000, 2, 7);
    assert_refused(-EINVAL,
                   "header 8 (PAGE_DATA): 0xfec00000 cannot be memory: there the I/O APIC is");
}

static void the_header_in_the_way_of_kvm_is_named(void **state)
{
    (void)state;
    required(0xfefff000, 2 * PAGE_BYTES, 9);
    assert_refused(-EINVAL, "header 9 (REQUIRED_MEMORY): 0xfefff000 cannot be memory: there KVM "
                            "keeps pages of its own");
}

static void the_header_beyond_the_address_space_is_named(void **state)
{
    (void)state;
    pages(BIT64(40) - PAGE_BYTES, 2, 7);
    assert_refused(-EINVAL,
                   "header 8 (PAGE_DATA): 0x10000000fff is more than this processor can address");
}

static void the_header_of_one_window_too_many_is_named(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= MEMORY_WINDOWS_MAX; i++)
        pages(GIB(1) + i * 2 * PAGE_BYTES, 1, i + 1);
    assert_refused(
        -E2BIG, "header 65 (PAGE_DATA): 0x40080000 is the 65th place outside of RAM, one too many");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_below_4_gib_is_read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_ram_holds_needs_no_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_window_begins_where_ram_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(neighbours_are_one_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_header_in_the_way_of_an_apic_is_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_header_in_the_way_of_kvm_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_header_beyond_the_address_space_is_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_header_of_one_window_too_many_is_named, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
