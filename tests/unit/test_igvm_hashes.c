#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "launch/igvm_hashes.h"
#include "snp/firmware.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACE 0x810c00u
#define PAGE 0x810000u

/* As firmware stores them: 96b582de-1fb2-45f7-baea-a366c55a082d, 7255371f-3a3b-4b04-927b-1da6efa8d454. */
static const uint8_t footer_guid[] = {0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45,
                                      0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d};
static const uint8_t hashes_guid[] = {0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b,
                                      0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54};

static struct plan plan;
static uint8_t hashes[KERNEL_HASHES_BYTES];

/** firmware() - an image of two pages that names @place for hashes. */
static void firmware(uint32_t place)
{
    struct error err = ERROR_INIT;
    uint8_t image[2 * PAGE_BYTES] = {0};
    uint8_t *table = image + sizeof(image) - 32 - 18 - 26;
    store_le32(table, place);
    store_le32(table + 4, 0x400);
    store_le16(table + 8, 26);
    memcpy(table + 10, hashes_guid, 16);
    store_le16(table + 26, 26 + 18);
    memcpy(table + 28, footer_guid, 16);
    assert_int_equal(plan_add_bytes(&plan, FIRMWARE_END - sizeof(image), image, sizeof(image),
                                    "IGVM page data", &err),
                     0);
}

static int set_up(void **state)
{
    (void)state;
    plan = PLAN_INIT;
    for (unsigned i = 0; i < sizeof(hashes); i++)
        hashes[i] = (uint8_t)(i + 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    plan_release(&plan);
    return 0;
}

/** pages() - @n pages from @gpa on, of the headers from @directive on. */
static struct plan_run *pages(uint64_t gpa, uint64_t n, uint32_t directive)
{
    struct error err = ERROR_INIT;
    struct plan_run *run =
        plan_add_pages(&plan, gpa, n * PAGE_BYTES, PLAN_PAGE_ZERO, "IGVM page data", &err);
    assert_non_null(run);
    run->directive = directive;
    run->header_bytes = PAGE_BYTES;
    return run;
}

static void assert_place(int want)
{
    struct error err = ERROR_INIT;
    uint64_t gpa = 0;
    assert_int_equal(plan_place_hashes(&plan, hashes, &gpa, false, &err), want);
    if (want != HASHES_NO_PLACE)
        assert_int_equal(gpa, PLACE);
}

static void assert_run(size_t i, uint64_t gpa, uint64_t n, enum plan_page_type type,
                       uint32_t directive)
{
    assert_true(i < plan.n_runs);
    assert_int_equal(plan.runs[i].gpa, gpa);
    assert_int_equal(plan.runs[i].len, n * PAGE_BYTES);
    assert_int_equal(plan.runs[i].type, type);
    assert_int_equal(plan.runs[i].directive, directive);
}

static void assert_hashes(void)
{
    struct error err = ERROR_INIT;
    uint8_t got[KERNEL_HASHES_BYTES];
    assert_int_equal(plan_read(&plan, PLACE, got, sizeof(got), &err), 0);
    assert_memory_equal(got, hashes, sizeof(got));
}

static void a_plan_without_firmware_has_no_place(void **state)
{
    (void)state;
    assert_place(HASHES_NO_PLACE);
    pages(FIRMWARE_END - PAGE_BYTES, 1, 1);
    assert_place(HASHES_NO_PLACE);
    assert_int_equal(plan.n_runs, 1);
}

static void a_page_is_added_where_there_is_none(void **state)
{
    (void)state;
    firmware(PLACE);
    assert_place(HASHES_PLACED);
    assert_int_equal(plan.n_runs, 2);
    assert_run(1, PAGE, 1, PLAN_PAGE_NORMAL, 0);
    assert_hashes();
    assert_place(HASHES_SAME);
}

static void a_page_within_a_run_keeps_its_place(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    pages(PAGE - 3 * PAGE_BYTES, 5, 10);
    pages(0, 1, 15);
    firmware(PLACE);
    struct plan_parameter before = {.run = 0}, behind = {.run = 1};
    assert_int_equal(plan_add_parameter(&plan, &before, &err), 0);
    assert_int_equal(plan_add_parameter(&plan, &behind, &err), 0);
    struct plan_vmsa vmsa = {.vcpu = 0};
    assert_int_equal(plan_add_vmsa(&plan, &vmsa, &err), 0);
    assert_place(HASHES_PLACED);
    assert_int_equal(plan.n_runs, 5);
    assert_run(0, PAGE - 3 * PAGE_BYTES, 3, PLAN_PAGE_ZERO, 10);
    assert_run(1, PAGE, 1, PLAN_PAGE_NORMAL, 13);
    assert_run(2, PAGE + PAGE_BYTES, 1, PLAN_PAGE_ZERO, 14);
    assert_run(3, 0, 1, PLAN_PAGE_ZERO, 15);
    assert_hashes();
    assert_int_equal(plan.parameters[0].run, 0);
    assert_int_equal(plan.parameters[1].run, 3);
    assert_int_equal(plan.vmsas[0].position, 5);
}

static void what_else_a_file_has_in_that_page_stays(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint8_t bytes[3 * PAGE_BYTES];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i / PAGE_BYTES + 1);
    memset(bytes + PAGE_BYTES + PLACE % PAGE_BYTES, 0, KERNEL_HASHES_BYTES);
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    int file = plan_add_file(&plan, fd, sizeof(bytes), "file", &err);
    struct plan_run *run = pages(PAGE - PAGE_BYTES, 3, 7);
    run->type = PLAN_PAGE_NORMAL;
    run->source = PLAN_SOURCE_FILE;
    run->range.file = (unsigned)file;
    run->range.offset = 0;
    firmware(PLACE);
    assert_place(HASHES_PLACED);
    memcpy(bytes + PAGE_BYTES + PLACE % PAGE_BYTES, hashes, sizeof(hashes));
    uint8_t got[3 * PAGE_BYTES];
    assert_int_equal(plan_read(&plan, PAGE - PAGE_BYTES, got, sizeof(got), &err), 0);
    assert_memory_equal(got, bytes, sizeof(got));
    assert_int_equal(plan.runs[2].range.offset, 2 * PAGE_BYTES);
}

static void hashes_of_another_kernel_stay(void **state)
{
    (void)state;
    firmware(PLACE);
    assert_place(HASHES_PLACED);
    hashes[0]++;
    assert_place(HASHES_OTHER);
    hashes[0]--;
    assert_hashes();
}

static void assert_refused(const char *message)
{
    struct error err = ERROR_INIT;
    uint64_t gpa = 0;
    assert_int_equal(plan_place_hashes(&plan, hashes, &gpa, false, &err), -EINVAL);
    assert_string_equal(err.message, message);
}

static void a_page_that_is_not_measured_is_refused(void **state)
{
    (void)state;
    pages(PAGE, 1, 9)->type = PLAN_PAGE_UNMEASURED;
    firmware(PLACE);
    assert_refused(
        "header 9 (IGVM page data): the kernel hashes lie in its page 0x810000, which is "
        "no measured page of 4 KiB");
}

static void hashes_across_two_pages_are_refused(void **state)
{
    (void)state;
    firmware(PAGE + 0xff0);
    assert_refused("the kernel hashes at 0x810ff0 cross a page");
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROMISE(a_plan_without_firmware_has_no_place),
        PROMISE(a_page_is_added_where_there_is_none),
        PROMISE(a_page_within_a_run_keeps_its_place),
        PROMISE(what_else_a_file_has_in_that_page_stays),
        PROMISE(hashes_of_another_kernel_stay),
        PROMISE(a_page_that_is_not_measured_is_refused),
        PROMISE(hashes_across_two_pages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
