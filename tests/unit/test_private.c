#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/units.h"
#include "fake_private_kvm.h"
#include "memory/page_map.h"
#include "memory/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VCPUS 4
/* RAM at 0 to 4 MiB and 8 to 12 MiB; a window right behind the first, and one by itself. */
#define LOW_LEN MIB(4)
#define HIGH_GPA MIB(8)
#define NEXT_GPA LOW_LEN
#define NEXT_LEN (16 * (uint64_t)PAGE_BYTES)
#define ALONE_GPA MIB(14)

static struct guest_memory memory;
static struct private_memory *private;
static struct error err;
static const struct kvm kvm = {.memory_region2 = true, .readonly_memory = true};

static struct private_memory *create(void)
{
    err = ERROR_INIT;
    return private_memory_create(&memory, &kvm, FAKE_VM_FD, VCPUS, &err);
}

static int set_up(void **state)
{
    (void)state;
    fake_private_kvm_reset();
    struct memory_windows windows = {
        .n = 2,
        .at = {{.gpa = NEXT_GPA, .len = NEXT_LEN, .readonly = true},
               {.gpa = ALONE_GPA, .len = PAGE_BYTES}},
    };
    struct memory_params params = {
        .size = 2 * LOW_LEN, .low_size = LOW_LEN, .high_gpa = HIGH_GPA, .windows = &windows};
    err = ERROR_INIT;
    if (memory_create(&memory, &params, &err) < 0)
        return -1;
    private = create();
    return private ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    private_memory_free(private);
    private = NULL;
    memory_destroy(&memory);
    return fake_private_kvm.mistakes ? -1 : 0;
}

static struct memory_counters count(void)
{
    struct memory_counters counters;
    memory_count(private, &counters);
    return counters;
}

static int to(bool to_private, uint64_t gpa, uint64_t len, enum memory_cause cause)
{
    err = ERROR_INIT;
    return memory_convert(private, gpa, len, to_private, cause, 0, &err);
}

static int ask(bool to_private, uint64_t gpa, uint64_t len)
{
    return to(to_private, gpa, len, MEMORY_BY_HYPERCALL);
}

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static int private_fd(unsigned slot)
{
    return (int)fake_private_kvm.slots[slot].guest_memfd;
}

/** private_bytes_of_kvm() - the pages that KVM holds for private. */
static uint64_t private_bytes_of_kvm(void)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < FAKE_PAGES; i++)
        n += fake_private_kvm.private_page[i];
    return n * PAGE_BYTES;
}

static void every_slot_has_a_guest_memfd_of_its_size_closed_on_exec(void **state)
{
    (void)state;
    static const uint64_t gpas[] = {0, HIGH_GPA, NEXT_GPA, ALONE_GPA};
    static const uint64_t lens[] = {LOW_LEN, LOW_LEN, NEXT_LEN, PAGE_BYTES};
    assert_int_equal(fake_private_kvm.n_slots, ARRAY_SIZE(gpas));
    for (unsigned i = 0; i < ARRAY_SIZE(gpas); i++) {
        const struct kvm_userspace_memory_region2 *slot = &fake_private_kvm.slots[i];
        assert_int_equal(slot->slot, i);
        assert_int_equal(slot->guest_phys_addr, gpas[i]);
        assert_int_equal(slot->memory_size, lens[i]);
        assert_int_equal(slot->flags, KVM_MEM_GUEST_MEMFD); /* the read-only window too */
        assert_int_equal(slot->guest_memfd_offset, 0);
        assert_int_equal(lseek(private_fd(i), 0, SEEK_END), (off_t)lens[i]);
        assert_int_equal(fcntl(private_fd(i), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    }
}

static void all_memory_is_private_at_first_by_one_call_a_slot(void **state)
{
    (void)state;
    assert_int_equal(fake_private_kvm.attribute_calls, 4);
    uint64_t all = 2 * LOW_LEN + NEXT_LEN + PAGE_BYTES;
    assert_int_equal(private_bytes_of_kvm(), all);
    assert_int_equal(count().private_bytes, all);
    assert_int_equal(count().shared_bytes, 0);
}

static void what_kvm_lacks_is_named(void **state)
{
    (void)state;
    static const struct {
        int capability;
        const char *name;
    } needed[] = {{KVM_CAP_USER_MEMORY2, "KVM_CAP_USER_MEMORY2"},
                  {KVM_CAP_GUEST_MEMFD, "KVM_CAP_GUEST_MEMFD"},
                  {KVM_CAP_MEMORY_ATTRIBUTES, "KVM_CAP_MEMORY_ATTRIBUTES"}};
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        fake_private_kvm.missing = needed[i].capability;
        assert_null(create());
        assert_int_equal(err.code, -ENOTSUP);
        assert_non_null(strstr(err.message, needed[i].name));
        assert_non_null(strstr(err.hint, "husk probe"));
    }
}

static void a_failure_while_it_is_made_leaves_nothing_behind(void **state)
{
    (void)state;
    static const unsigned long requests[] = {KVM_CREATE_GUEST_MEMFD, KVM_SET_USER_MEMORY_REGION2,
                                             KVM_SET_MEMORY_ATTRIBUTES};
    unsigned before = open_files();
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        for (unsigned after = 0; after < 4; after++) {
            fake_private_kvm_reset();
            fake_private_kvm.fail_request = requests[i];
            fake_private_kvm.fail_errno = ENOMEM;
            fake_private_kvm.fail_after = after;
            assert_null(create());
            assert_int_equal(err.code, -ENOMEM);
            assert_non_null(strstr(err.message, "KVM"));
            assert_int_equal(open_files(), before);
        }
    }
}

static void ordinary_guests_do_without_region2(void **state)
{
    (void)state;
    const struct kvm old = {.memory_region2 = false, .readonly_memory = true};
    unsigned slots = fake_private_kvm.n_slots;
    assert_int_equal(memory_register(&memory, &old, FAKE_VM_FD, &err), 0);
    assert_int_equal(fake_private_kvm.v1_calls, 4);
    assert_int_equal(fake_private_kvm.n_slots, slots);

    const struct kvm_memory slot = {.len = PAGE_BYTES, .has_private = true};
    assert_int_equal(kvm_set_memory(&old, FAKE_VM_FD, &slot, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "KVM_CAP_USER_MEMORY2"));
}

static uint8_t byte_of(int fd, uint64_t offset)
{
    uint8_t byte = 0xff;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    return byte;
}

static void a_conversion_gives_back_the_half_that_is_no_longer_used(void **state)
{
    (void)state;
    static const enum memory_cause causes[] = {MEMORY_BY_HYPERCALL, MEMORY_BY_FAULT};
    uint64_t offset =
        3 * PAGE_BYTES; /* in the high region, whose RAM begins at LOW_LEN of the memfd */
    uint8_t *shared = memory_ptr(&memory, HIGH_GPA + offset, PAGE_BYTES);
    for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
        assert_int_equal(pwrite(private_fd(1), "\1\2", 2, (off_t)(offset + PAGE_BYTES - 1)), 2);
        shared[0] = 3;
        assert_int_equal(to(false, HIGH_GPA + offset, PAGE_BYTES, causes[i]), 0);
        assert_int_equal(byte_of(private_fd(1), offset + PAGE_BYTES - 1), 0);
        assert_int_equal(byte_of(private_fd(1), offset + PAGE_BYTES), 2); /* its neighbour stays */
        assert_int_equal(shared[0], 3);
        assert_false(fake_private_kvm.private_page[(HIGH_GPA + offset) / PAGE_BYTES]);

        shared[-1] = 4;
        assert_int_equal(to(true, HIGH_GPA + offset, PAGE_BYTES, causes[i]), 0);
        assert_int_equal(shared[0], 0);
        assert_int_equal(shared[-1], 4);
        assert_true(fake_private_kvm.private_page[(HIGH_GPA + offset) / PAGE_BYTES]);
    }
    struct memory_counters counters = count();
    assert_int_equal(counters.to_private, 2);
    assert_int_equal(counters.to_shared, 2);
    assert_int_equal(counters.punches, 4);
    assert_int_equal(counters.punched_bytes, 4 * PAGE_BYTES);
    assert_int_equal(counters.shared_bytes, 0);
}

static void at_launch_nothing_is_given_back_or_counted(void **state)
{
    (void)state;
    assert_int_equal(pwrite(private_fd(0), "\1", 1, 0), 1);
    assert_int_equal(to(false, 0, PAGE_BYTES, MEMORY_AT_LAUNCH), 0);
    assert_int_equal(byte_of(private_fd(0), 0), 1);
    assert_int_equal(count().punches, 0);
    assert_int_equal(count().to_shared, 0);
    assert_int_equal(count().shared_bytes, PAGE_BYTES);
}

static void a_range_may_span_slots(void **state)
{
    (void)state;
    uint64_t gpa = LOW_LEN - 2 * PAGE_BYTES;
    uint8_t *ram = memory_ptr(&memory, gpa, PAGE_BYTES), *window = memory.windows.at[0].base;
    assert_int_equal(ask(false, gpa, 4 * PAGE_BYTES), 0);
    assert_int_equal(count().shared_bytes, 4 * PAGE_BYTES);
    assert_int_equal(count().to_shared, 1);
    assert_int_equal(count().punches, 2);
    ram[0] = 1;
    window[0] = 2;
    window[2 * PAGE_BYTES] = 3;
    assert_int_equal(ask(true, gpa, 4 * PAGE_BYTES), 0);
    assert_int_equal(ram[0], 0);
    assert_int_equal(window[0], 0);
    assert_int_equal(window[2 * PAGE_BYTES], 3);
    assert_int_equal(count().shared_bytes, 0);
}

static void what_is_as_asked_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(pwrite(private_fd(0), "\1", 1, 0), 1);
    unsigned calls = fake_private_kvm.attribute_calls;
    assert_int_equal(ask(true, 0, LOW_LEN), 0);
    assert_int_equal(to(true, 0, PAGE_BYTES, MEMORY_BY_FAULT), 0);
    assert_int_equal(fake_private_kvm.attribute_calls, calls);
    assert_int_equal(byte_of(private_fd(0), 0), 1);
    assert_int_equal(count().unchanged, 2);
    assert_int_equal(count().punches, 0);

    /* Where a part is, only the rest counts. */
    assert_int_equal(ask(false, PAGE_BYTES, PAGE_BYTES), 0);
    assert_int_equal(ask(false, 0, 3 * PAGE_BYTES), 0);
    assert_int_equal(count().shared_bytes, 3 * PAGE_BYTES);
}

static void odd_shapes_change_nothing(void **state)
{
    (void)state;
    static const struct {
        uint64_t gpa, len;
    } odd[] = {
        {0, 0},
        {1, PAGE_BYTES},
        {0, PAGE_BYTES - 1},
        {PAGE_BYTES / 2, PAGE_BYTES / 2},
        {0 - (uint64_t)PAGE_BYTES, 2 * PAGE_BYTES},
        {PAGE_BYTES, 0 - (uint64_t)PAGE_BYTES},
        {UINT64_MAX, UINT64_MAX},
    };
    unsigned calls = fake_private_kvm.attribute_calls;
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        assert_int_equal(ask(false, odd[i].gpa, odd[i].len), -EINVAL);
        assert_int_equal(to(false, odd[i].gpa, odd[i].len, MEMORY_BY_FAULT), -EINVAL);
    }
    assert_int_equal(fake_private_kvm.attribute_calls, calls);
    assert_int_equal(count().shared_bytes, 0);
}

static void where_no_memory_is_nothing_is_converted(void **state)
{
    (void)state;
    uint64_t hole = NEXT_GPA + NEXT_LEN;
    static const char *const text = "no memory at 0x";
    unsigned calls = fake_private_kvm.attribute_calls;
    const struct {
        uint64_t gpa, len;
    } bad[] = {{hole, PAGE_BYTES},
               {0, LOW_LEN + NEXT_LEN + PAGE_BYTES},
               {hole - PAGE_BYTES, HIGH_GPA},
               {ALONE_GPA, 2 * PAGE_BYTES},
               {BIT64(60), PAGE_BYTES},
               {0, 0 - (uint64_t)PAGE_BYTES}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(ask(false, bad[i].gpa, bad[i].len), -ENXIO);
        assert_non_null(strstr(err.message, text));
        assert_int_equal(to(true, bad[i].gpa, bad[i].len, MEMORY_BY_FAULT), -ENXIO);
    }
    assert_int_equal(fake_private_kvm.attribute_calls, calls);
    assert_int_equal(count().shared_bytes, 0);
}

static int fault(uint32_t vcpu, uint64_t gpa)
{
    err = ERROR_INIT;
    return memory_convert(private, gpa, PAGE_BYTES, true, MEMORY_BY_FAULT, vcpu, &err);
}

static void a_vcpu_that_faults_on_one_page_without_end_is_stopped(void **state)
{
    (void)state;
    for (int i = 1; i < MEMORY_FAULT_LIMIT; i++)
        assert_int_equal(fault(1, 0), 0);
    /* Another vCPU, a hypercall, and a vCPU that there is not: not counted with it. */
    assert_int_equal(fault(2, 0), 0);
    assert_int_equal(ask(true, 0, PAGE_BYTES), 0);
    assert_int_equal(fault(VCPUS, 0), 0);
    assert_int_equal(fault(1, 0), -ELOOP);
    assert_non_null(strstr(err.message, "100 times at 0x0"));
}

static void a_fault_that_changes_something_begins_a_new_count(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(ask(false, 0, PAGE_BYTES), 0);
        for (int i = 0; i < MEMORY_FAULT_LIMIT; i++)
            assert_int_equal(fault(0, 0), 0);
    }
    assert_int_equal(fault(0, 0), -ELOOP);
    assert_int_equal(fault(0, PAGE_BYTES), 0);
    assert_int_equal(fault(0, 0), 0);
}

static void a_thousand_hypercalls_as_asked_are_no_loop(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ask(true, 0, PAGE_BYTES), 0);
    assert_int_equal(count().unchanged, 1000);
}

static void where_kvm_refuses_nothing_counts_as_converted(void **state)
{
    (void)state;
    fake_private_kvm.fail_request = KVM_SET_MEMORY_ATTRIBUTES;
    fake_private_kvm.fail_errno = ENOMEM;
    assert_int_equal(ask(false, 0, PAGE_BYTES), -ENOMEM);
    assert_non_null(strstr(err.message, "0x1000 bytes at 0x0 shared"));
    assert_int_equal(count().shared_bytes, 0);
    assert_int_equal(count().punches, 0);
    fake_private_kvm.fail_request = 0;
    assert_int_equal(ask(false, 0, PAGE_BYTES), 0);
    assert_int_equal(count().shared_bytes, PAGE_BYTES);
}

static void a_host_that_takes_nothing_back_does_not_stop_the_guest(void **state)
{
    (void)state;
    fake_private_kvm.fail_fallocate = ENOMEM;
    assert_int_equal(ask(false, 0, PAGE_BYTES), 0);
    assert_int_equal(ask(true, 0, PAGE_BYTES), 0);
    assert_int_equal(count().punch_failures, 2);
    assert_int_equal(count().punches, 0);
    assert_int_equal(count().to_shared, 1);
}

static void counters_and_attributes_stay_in_step_however_ranges_fall(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 5000; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        uint64_t first = random % (LOW_LEN / PAGE_BYTES);
        uint64_t pages = (random >> 20) % 200 + 1;
        uint64_t room = (LOW_LEN + NEXT_LEN) / PAGE_BYTES - first;
        pages = MIN(pages, room);
        assert_int_equal(ask(random >> 40 & 1, first * PAGE_BYTES, pages * PAGE_BYTES), 0);
        assert_int_equal(count().private_bytes, private_bytes_of_kvm());
    }
    struct memory_counters counters = count();
    assert_int_equal(counters.private_bytes + counters.shared_bytes,
                     2 * LOW_LEN + NEXT_LEN + PAGE_BYTES);
    assert_int_equal(counters.to_private + counters.to_shared + counters.unchanged, 5000);
}

static void a_guest_that_shares_every_other_page_is_kept_track_of(void **state)
{
    (void)state;
    for (uint64_t gpa = 0; gpa < LOW_LEN; gpa += 2 * PAGE_BYTES)
        assert_int_equal(ask(false, gpa, PAGE_BYTES), 0);
    assert_int_equal(count().shared_bytes, LOW_LEN / 2);
    unsigned calls = fake_private_kvm.attribute_calls;
    assert_int_equal(ask(true, 0, LOW_LEN), 0);
    assert_int_equal(fake_private_kvm.attribute_calls, calls + 1);
    assert_int_equal(count().shared_bytes, 0);
}

static void *convert_much(void *arg)
{
    const bool *odd = arg;
    struct error mine = ERROR_INIT;
    for (int i = 0; i < 3000; i++) {
        uint64_t gpa = (uint64_t)(i * 7 % 64) * PAGE_BYTES;
        bool to_private = (i & 1) == *odd;
        if (memory_convert(private, gpa, 5 * PAGE_BYTES, to_private, MEMORY_BY_HYPERCALL, *odd,
                           &mine) < 0)
            return arg;
    }
    return NULL;
}

static void two_vcpus_that_race_leave_attributes_and_counters_in_step(void **state)
{
    (void)state;
    static bool odd[2] = {false, true};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, convert_much, &odd[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    struct memory_counters counters = count();
    assert_int_equal(counters.private_bytes, private_bytes_of_kvm());
    assert_int_equal(counters.to_private + counters.to_shared + counters.unchanged, 6000);
    for (unsigned page = 0; page < 80; page++) {
        uint64_t gpa = page * (uint64_t)PAGE_BYTES, unchanged = count().unchanged;
        assert_int_equal(ask(fake_private_kvm.private_page[page], gpa, PAGE_BYTES), 0);
        assert_int_equal(count().unchanged, unchanged + 1);
    }
}

static const struct kvm_vcpu vcpu = {.fd = FAKE_VCPU_FD};

static void prefaulting_takes_all_private_pages_and_no_others(void **state)
{
    (void)state;
    assert_int_equal(to(false, PAGE_BYTES, 3 * PAGE_BYTES, MEMORY_AT_LAUNCH), 0);
    fake_private_kvm.prefault_most = 100 * PAGE_BYTES;
    assert_int_equal(memory_prefault_private(private, &vcpu, &err), 0);
    assert_int_equal(fake_private_kvm.prefaulted, count().private_bytes);
}

static void prefaulting_that_cannot_be_is_an_error_that_says_so(void **state)
{
    (void)state;
    fake_private_kvm.fail_request = KVM_PRE_FAULT_MEMORY;
    fake_private_kvm.fail_errno = ENOMEM;
    assert_int_equal(memory_prefault_private(private, &vcpu, &err), -ENOMEM);
    assert_non_null(strstr(err.message, "private memory from 0x0"));
    fake_private_kvm.missing = KVM_CAP_PRE_FAULT_MEMORY;
    assert_int_equal(memory_prefault_private(private, &vcpu, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "KVM_CAP_PRE_FAULT_MEMORY"));
}

static void a_signal_ends_prefaulting(void **state)
{
    (void)state;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, &old), 0);
    raise(SIGTERM);
    int ret = memory_prefault_private(private, &vcpu, &err);
    struct timespec now = {0};
    assert_int_equal(sigtimedwait(&set, NULL, &now), SIGTERM);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert_int_equal(ret, -EINTR);
    assert_int_equal(fake_private_kvm.prefaulted, 0);
}

static void only_map_gpa_range_is_handed_over(void **state)
{
    (void)state;
    assert_int_equal(kvm_exit_map_gpa_range(FAKE_VM_FD, &err), 0);
    assert_int_equal(fake_private_kvm.enabled, BIT64(KVM_HC_MAP_GPA_RANGE));
    fake_private_kvm.fail_request = KVM_ENABLE_CAP;
    fake_private_kvm.fail_errno = EINVAL;
    assert_int_equal(kvm_exit_map_gpa_range(FAKE_VM_FD, &err), -EINVAL);
    assert_non_null(strstr(err.message, "KVM_CAP_EXIT_HYPERCALL"));
}

static void a_page_map_finds_and_counts_across_words(void **state)
{
    (void)state;
    struct page_map map;
    assert_int_equal(page_map_init(&map, 200), 0);
    assert_int_equal(page_map_next(&map, 0, 200, true), 200);
    assert_int_equal(page_map_set(&map, 60, 130, true), 70);
    assert_int_equal(page_map_set(&map, 0, 200, true), 130);
    assert_int_equal(page_map_set(&map, 63, 65, false), 2);
    assert_int_equal(map.n_set, 198);
    assert_int_equal(page_map_next(&map, 0, 200, false), 63);
    assert_int_equal(page_map_next(&map, 65, 200, false), 200);
    assert_int_equal(page_map_next(&map, 63, 64, true), 64);
    assert_int_equal(page_map_next(&map, 63, 200, true), 65);
    assert_int_equal(page_map_set(&map, 5, 5, true), 0);
    page_map_release(&map);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_slot_has_a_guest_memfd_of_its_size_closed_on_exec),
        TEST(all_memory_is_private_at_first_by_one_call_a_slot),
        TEST(what_kvm_lacks_is_named),
        TEST(a_failure_while_it_is_made_leaves_nothing_behind),
        TEST(ordinary_guests_do_without_region2),
        TEST(a_conversion_gives_back_the_half_that_is_no_longer_used),
        TEST(at_launch_nothing_is_given_back_or_counted),
        TEST(a_range_may_span_slots),
        TEST(what_is_as_asked_is_left_alone),
        TEST(odd_shapes_change_nothing),
        TEST(where_no_memory_is_nothing_is_converted),
        TEST(a_vcpu_that_faults_on_one_page_without_end_is_stopped),
        TEST(a_fault_that_changes_something_begins_a_new_count),
        TEST(a_thousand_hypercalls_as_asked_are_no_loop),
        TEST(where_kvm_refuses_nothing_counts_as_converted),
        TEST(a_host_that_takes_nothing_back_does_not_stop_the_guest),
        TEST(counters_and_attributes_stay_in_step_however_ranges_fall),
        TEST(a_guest_that_shares_every_other_page_is_kept_track_of),
        TEST(two_vcpus_that_race_leave_attributes_and_counters_in_step),
        TEST(prefaulting_takes_all_private_pages_and_no_others),
        TEST(prefaulting_that_cannot_be_is_an_error_that_says_so),
        TEST(a_signal_ends_prefaulting),
        TEST(only_map_gpa_range_is_handed_over),
        TEST(a_page_map_finds_and_counts_across_words),
    };
    return cmocka_run_group_tests_name("private", tests, NULL, NULL);
}
