#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memory/huge_pages.h"
#include "memory/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct memory_params params = {.size = MIB(62), .low_size = MIB(62), .thp = true};

/** resident_kib() - what of @memory has been allocated. */
static uint64_t resident_kib(const struct guest_memory *memory)
{
    struct stat info;
    assert_int_equal(fstat(memory->fd, &info), 0);
    return (uint64_t)info.st_blocks / 2;
}

/** wait_for_kib() - until at least @kib are allocated; 60 s at most. */
static bool wait_for_kib(const struct guest_memory *memory, uint64_t kib)
{
    for (unsigned i = 0; i < 6000; i++) {
        if (resident_kib(memory) >= kib)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

static void make(struct guest_memory *memory)
{
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(memory, &params, &err), 0);
    if (!memory->huge_by_hand) {
        memory_destroy(memory);
        print_message(
            "needs a kernel whose shmem_enabled is 'never' and that knows MADV_COLLAPSE\n");
        skip();
    }
}

static void ram_is_mapped_where_huge_pages_fit(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(&memory, &params, &err), 0);
    assert_true(is_aligned((uint64_t)(uintptr_t)memory.base, HUGE_PAGE_BYTES));
    memory_destroy(&memory);
}

static void nothing_beside_ram_stays_mapped(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    struct memory_params odd = {.size = MIB(5) + PAGE_BYTES, .low_size = MIB(5) + PAGE_BYTES};
    assert_int_equal(memory_create(&memory, &odd, &err), 0);
    unsigned char resident;
    assert_int_equal(mincore(memory.base + odd.size - PAGE_BYTES, PAGE_BYTES, &resident), 0);
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    char line[512];
    bool seen = false;
    while (fgets(line, sizeof(line), maps)) {
        uint64_t start, end;
        assert_int_equal(sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end), 2);
        if (start != (uint64_t)(uintptr_t)memory.base)
            continue;
        seen = true;
        assert_int_equal(end - start, odd.size);
    }
    fclose(maps);
    assert_true(seen);
    memory_destroy(&memory);
}

static void whole_pieces_of_what_is_filled_become_huge(void **state)
{
    (void)state;
    struct guest_memory memory;
    make(&memory);
    huge_pages_prepare(memory.base + MIB(3), MIB(8));
    assert_int_equal(resident_kib(&memory), MIB(6) >> 10);
    huge_pages_prepare(memory.base + MIB(33), MIB(2));
    huge_pages_prepare(memory.base + MIB(40), MIB(1));
    assert_int_equal(resident_kib(&memory), MIB(6) >> 10);
    for (uint64_t at = 0; at < MIB(62); at += PAGE_BYTES)
        assert_int_equal(memory.base[at], 0);
    memory_destroy(&memory);
}

static void what_is_used_becomes_huge_and_keeps_its_bytes(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    make(&memory);
    /* Two groups, one at the very end, of a piece less; and one of which too little is used. */
    memset(memory.base + MIB(10), 0x5a, MIB(1));
    memset(memory.base + MIB(61), 0xa5, MIB(1));
    memset(memory.base + MIB(30), 1, PAGE_BYTES);
    struct huge_pages *watch = huge_pages_watch(&memory, &err);
    assert_non_null(watch);
    bool grown = wait_for_kib(&memory, (MIB(14) + PAGE_BYTES) >> 10);
    huge_pages_free(watch);
    assert_true(grown);
    assert_int_equal(resident_kib(&memory), (MIB(14) + PAGE_BYTES) >> 10);
    for (uint64_t at = 0; at < MIB(1); at++) {
        assert_int_equal(memory.base[MIB(10) + at], 0x5a);
        assert_int_equal(memory.base[MIB(11) + at], 0);
        assert_int_equal(memory.base[MIB(61) + at], 0xa5);
    }
    memory_destroy(&memory);
}

static void the_watch_ends_at_once_when_asked(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct error err = ERROR_INIT;
    assert_int_equal(memory_create(&memory, &params, &err), 0);
    for (unsigned i = 0; i < 100; i++) {
        struct huge_pages *watch = huge_pages_watch(&memory, &err);
        assert_non_null(watch);
        huge_pages_free(watch);
    }
    huge_pages_free(NULL);
    memory_destroy(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ram_is_mapped_where_huge_pages_fit),
        cmocka_unit_test(nothing_beside_ram_stays_mapped),
        cmocka_unit_test(whole_pieces_of_what_is_filled_become_huge),
        cmocka_unit_test(what_is_used_becomes_huge_and_keeps_its_bytes),
        cmocka_unit_test(the_watch_ends_at_once_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
