#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/units.h"
#include "fake_private_kvm.h"
#include "kvm/snp.h"
#include "memory/private.h"
#include "sandbox/seccomp.h"
#include "vmm/certs.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What KVM_RUN returns, one after the other; behind the last the guest stops by itself. */
struct exit {
    int code; /* errno of KVM_RUN; 0: it succeeds */
    uint32_t reason;
    uint64_t args[3]; /* of the hypercall; of a memory fault flags, gpa and size */
    uint64_t nr;
};

static struct guest_memory memory;
static struct kvm_run *run;
static struct vcpu_context context;
static struct stop_reason reason;
static const struct exit *exits;
static unsigned n_exits, done;
static uint64_t answer; /* what the last hypercall or request was answered with */
static uint64_t pages_needed;
static bool locked_while_fetched;
static char certs_path[] = "/tmp/husk-test-certs-XXXXXX";

static struct kvm_snp_req_certs *req_certs(void)
{
    const struct kvm_vcpu vcpu = {.run = run};
    return kvm_snp_req_certs(&vcpu);
}

/** is_locked() - whether somebody else could not change the certificates now. */
static bool is_locked(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(certs_path, O_RDWR | O_CLOEXEC);
    bool locked = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return locked;
}

static int next_exit(void)
{
    if (done > 0 && exits[done - 1].reason == KVM_EXIT_SNP_REQ_CERTS) {
        answer = req_certs()->ret;
        pages_needed = req_certs()->npages;
        if (run->immediate_exit) {
            locked_while_fetched = is_locked();
            errno = EINTR;
            return -1;
        }
    }
    if (done > 0 && exits[done - 1].reason == KVM_EXIT_HYPERCALL)
        answer = run->hypercall.ret;
    if (done == n_exits) {
        run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
        run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
        return 0;
    }
    const struct exit *exit = &exits[done++];
    /* Not every failure of KVM_RUN writes a reason. */
    if (exit->reason != KVM_EXIT_UNKNOWN)
        run->exit_reason = exit->reason;
    if (exit->reason == KVM_EXIT_HYPERCALL) {
        run->hypercall.nr = exit->nr;
        memcpy((void *)run->hypercall.args, exit->args, sizeof(exit->args));
        run->hypercall.ret = 77;
    } else if (exit->reason == KVM_EXIT_SYSTEM_EVENT) {
        run->system_event.type = (uint32_t)exit->args[0];
        run->system_event.ndata = 1;
        run->system_event.data[0] = exit->args[1];
    } else if (exit->reason == KVM_EXIT_MEMORY_FAULT || exit->reason == KVM_EXIT_SNP_REQ_CERTS ||
               exit->reason == KVM_EXIT_FAIL_ENTRY) {
        memcpy((uint8_t *)run + offsetof(struct kvm_run, hw), exit->args, sizeof(exit->args));
    }
    errno = exit->code;
    return exit->code ? -1 : 0;
}

static void on_stop(void *ctx, const struct stop_reason *why)
{
    (void)ctx;
    reason = *why;
    atomic_store(&context.stopped, true);
}

static int set_up(void **state)
{
    (void)state;
    static const struct kvm kvm = {.memory_region2 = true};
    const struct memory_params params = {.size = MIB(1), .low_size = MIB(1)};
    struct error err = ERROR_INIT;
    fake_private_kvm_reset();
    fake_private_kvm.run = next_exit;
    if (memory_create(&memory, &params, &err) < 0)
        return -1;
    run = calloc(1, 2 * PAGE_BYTES);
    context = (struct vcpu_context){
        .stop = on_stop,
        .memory = &memory,
        .certs_fd = -1,
        .private = private_memory_create(&memory, &kvm, FAKE_VM_FD, 1, &err),
    };
    return context.private ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    private_memory_free(context.private);
    memory_destroy(&memory);
    free(run);
    return 0;
}

/** guest() - run it through @n exits of @list. */
static void guest(const struct exit *list, unsigned n)
{
    static const struct seccomp_program no_filter;
    struct error err = ERROR_INIT;
    exits = list;
    n_exits = n;
    done = 0;
    answer = 55;
    reason = (struct stop_reason){0};
    atomic_store(&context.stopped, false);
    struct vcpu vcpu = {
        .kvm = {.fd = FAKE_VCPU_FD, .run = run}, .context = &context, .filter = &no_filter};
    assert_int_equal(vcpu_threads_init(&err), 0);
    assert_int_equal(vcpu_thread_start(&vcpu, &err), 0);
    vcpu_thread_join(&vcpu);
}

static uint64_t shared_bytes(void)
{
    struct memory_counters counters;
    memory_count(context.private, &counters);
    return counters.shared_bytes;
}

static struct exit hypercall(uint64_t nr, uint64_t gpa, uint64_t pages, uint64_t attributes)
{
    return (struct exit){.reason = KVM_EXIT_HYPERCALL, .nr = nr, .args = {gpa, pages, attributes}};
}

static struct exit fault(int code, uint64_t flags, uint64_t gpa)
{
    return (struct exit){
        .code = code, .reason = KVM_EXIT_MEMORY_FAULT, .args = {flags, gpa, PAGE_BYTES}};
}

static void a_hypercall_converts_and_is_answered_with_0(void **state)
{
    (void)state;
    struct exit share = hypercall(KVM_HC_MAP_GPA_RANGE, PAGE_BYTES, 3, 1 /* 2 MiB, a hint */);
    guest(&share, 1);
    assert_int_equal(reason.kind, STOP_POWER_OFF);
    assert_int_equal(answer, 0);
    assert_int_equal(shared_bytes(), 3 * PAGE_BYTES);
    struct exit unshare =
        hypercall(KVM_HC_MAP_GPA_RANGE, PAGE_BYTES, 2, KVM_MAP_GPA_RANGE_ENCRYPTED);
    guest(&unshare, 1);
    assert_int_equal(answer, 0);
    assert_int_equal(shared_bytes(), PAGE_BYTES);
}

static void a_hypercall_for_no_pages_is_answered_with_an_error_and_the_guest_goes_on(void **state)
{
    (void)state;
    const struct exit odd[] = {
        hypercall(KVM_HC_MAP_GPA_RANGE, 0, 0, 0),
        hypercall(KVM_HC_MAP_GPA_RANGE, 1, 1, 0),
        hypercall(KVM_HC_MAP_GPA_RANGE, 0, BIT64(52), 0),
        hypercall(KVM_HC_MAP_GPA_RANGE, 0, UINT64_MAX, 0),
        hypercall(KVM_HC_MAP_GPA_RANGE, UINT64_MAX - 4095, 2, 0),
    };
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        guest(&odd[i], 1);
        assert_int_equal(reason.kind, STOP_POWER_OFF);
        assert_int_equal((int64_t)answer, -EINVAL);
    }
    assert_int_equal(shared_bytes(), 0);
}

static void a_hypercall_that_husk_does_not_know_is_answered_so(void **state)
{
    (void)state;
    struct exit other = hypercall(11, 0, 1, 0);
    guest(&other, 1);
    assert_int_equal(reason.kind, STOP_POWER_OFF);
    assert_int_equal((int64_t)answer, -ENOSYS);
}

static void a_hypercall_for_memory_that_is_not_there_stops_the_guest(void **state)
{
    (void)state;
    struct exit beyond = hypercall(KVM_HC_MAP_GPA_RANGE, MIB(1) - PAGE_BYTES, 2, 0x10);
    guest(&beyond, 1);
    assert_int_equal(reason.kind, STOP_MEMORY_FAULT);
    assert_string_equal(reason.detail,
                        "the guest asked for 0x2000 bytes at 0xff000 as private memory on vCPU 0: "
                        "there is no memory at 0x100000");
}

static void a_memory_fault_converts_and_the_guest_goes_on(void **state)
{
    (void)state;
    const struct exit there_and_back[] = {fault(EFAULT, 0, PAGE_BYTES), fault(EFAULT, 0, 0),
                                          fault(EFAULT, KVM_MEMORY_EXIT_FLAG_PRIVATE, 0)};
    guest(there_and_back, ARRAY_SIZE(there_and_back));
    assert_int_equal(reason.kind, STOP_POWER_OFF);
    assert_int_equal(shared_bytes(), PAGE_BYTES);
}

static void a_loop_of_memory_faults_stops_the_guest(void **state)
{
    (void)state;
    struct exit loop[MEMORY_FAULT_LIMIT];
    for (size_t i = 0; i < ARRAY_SIZE(loop); i++)
        loop[i] = fault(EFAULT, KVM_MEMORY_EXIT_FLAG_PRIVATE, 0x3000);
    guest(loop, ARRAY_SIZE(loop) - 1);
    assert_int_equal(reason.kind, STOP_POWER_OFF);
    struct exit once = fault(EFAULT, KVM_MEMORY_EXIT_FLAG_PRIVATE, 0x3000);
    guest(&once, 1);
    assert_int_equal(reason.kind, STOP_MEMORY_FAULT);
    assert_non_null(strstr(reason.detail, "it faulted 100 times at 0x3000"));
}

static void memory_faults_that_cannot_be_answered_stop_the_guest(void **state)
{
    (void)state;
    static const struct {
        int code;
        uint64_t flags, gpa;
        enum stop_kind kind;
        const char *text;
    } bad[] = {
        {EFAULT, 8, MIB(2), STOP_MEMORY_FAULT, "there is no memory at 0x200000"},
        {EFAULT, 0, 0x123, STOP_MEMORY_FAULT, "no pages that can be converted"},
        {EFAULT, 0x10, 0, STOP_MEMORY_FAULT, "flags 0x10"},
        {EHWPOISON, 8, 0, STOP_HOST_ERROR, "is damaged"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct exit exit = fault(bad[i].code, bad[i].flags, bad[i].gpa);
        guest(&exit, 1);
        assert_int_equal(reason.kind, bad[i].kind);
        assert_non_null(strstr(reason.detail, bad[i].text));
    }
    assert_int_equal(shared_bytes(), 0);
}

static void a_conversion_that_kvm_refuses_is_the_hosts_fault(void **state)
{
    (void)state;
    fake_private_kvm.fail_request = KVM_SET_MEMORY_ATTRIBUTES;
    fake_private_kvm.fail_errno = ENOMEM;
    struct exit share = hypercall(KVM_HC_MAP_GPA_RANGE, 0, 1, 0);
    guest(&share, 1);
    assert_int_equal(reason.kind, STOP_HOST_ERROR);
    assert_non_null(strstr(reason.detail, "KVM refused to make 0x1000 bytes at 0x0 shared"));
}

static void a_failure_of_kvm_run_is_not_taken_for_the_memory_fault_before_it(void **state)
{
    (void)state;
    const struct exit list[] = {fault(EFAULT, 0, 0), {.code = EFAULT}};
    guest(list, ARRAY_SIZE(list));
    assert_int_equal(reason.kind, STOP_HOST_ERROR);
    assert_non_null(strstr(reason.detail, "KVM_RUN of vCPU 0 failed"));
    assert_int_equal(shared_bytes(), PAGE_BYTES);
}

static void a_guest_without_private_memory_has_no_memory_faults(void **state)
{
    (void)state;
    struct private_memory *private = take_ptr(context.private);
    struct exit exit = fault(EFAULT, 0, 0);
    guest(&exit, 1);
    assert_int_equal(reason.kind, STOP_HOST_ERROR);
    struct exit call = hypercall(KVM_HC_MAP_GPA_RANGE, 0, 1, 0);
    guest(&call, 1);
    assert_int_equal((int64_t)answer, -ENOSYS);
    context.private = private;
    assert_int_equal(shared_bytes(), 0);
}

/* Two pages: one certificate of 5000 bytes of 0x5a. */
#define CERTS_BYTES (48 + 5000)

/** make_certs() - a file of them, which the guest is given. */
static void make_certs(void)
{
    static uint8_t table[CERTS_BYTES];
    memset(table, 0x11, 16);
    store_le32(table + 16, 48);
    store_le32(table + 20, 5000);
    memset(table + 48, 0x5a, 5000);
    strcpy(certs_path + sizeof(certs_path) - 7, "XXXXXX");
    int fd = mkstemp(certs_path);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, table, sizeof(table)), 0);
    close(fd);
    struct error err = ERROR_INIT;
    context.certs_fd = certs_open(certs_path, &err);
    assert_true(context.certs_fd >= 0);
}

static void remove_certs(void)
{
    cleanup_close(&context.certs_fd);
    unlink(certs_path);
}

static struct exit request(uint64_t gpa, uint64_t pages)
{
    return (struct exit){.reason = KVM_EXIT_SNP_REQ_CERTS, .args = {gpa, pages}};
}

static void certificates_are_written_and_stay_until_the_report_is_there(void **state)
{
    (void)state;
    make_certs();
    struct exit fits = request(0x4000, 2);
    locked_while_fetched = false;
    guest(&fits, 1);
    assert_int_equal(reason.kind, STOP_POWER_OFF);
    assert_int_equal(answer, 0);
    assert_true(locked_while_fetched);
    assert_false(is_locked());
    const uint8_t *to = memory_ptr(&memory, 0x4000, CERTS_BYTES);
    assert_int_equal(to[0], 0x11);
    assert_int_equal(to[48], 0x5a);
    assert_int_equal(to[CERTS_BYTES - 1], 0x5a);
    remove_certs();
}

static void certificates_that_do_not_fit_are_told_of_by_their_size(void **state)
{
    (void)state;
    make_certs();
    struct exit small = request(0x8000, 1);
    guest(&small, 1);
    assert_int_equal(answer, ENOSPC);
    assert_int_equal(pages_needed, 2);
    assert_int_equal(*(const uint8_t *)memory_ptr(&memory, 0x8000, 1), 0);
    assert_false(is_locked());
    remove_certs();
}

static void certificates_that_are_being_changed_are_asked_for_again(void **state)
{
    (void)state;
    make_certs();
    int fd = open(certs_path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    struct exit busy = request(0x4000, 2);
    guest(&busy, 1);
    assert_int_equal(answer, EAGAIN);
    close(fd);
    guest(&busy, 1);
    assert_int_equal(answer, 0);
    remove_certs();
}

static void certificates_for_no_memory_or_that_are_damaged_are_an_error(void **state)
{
    (void)state;
    make_certs();
    struct exit nowhere = request(MIB(1) - PAGE_BYTES, 2), fits = request(0x4000, 2);
    guest(&nowhere, 1);
    assert_int_equal(answer, EIO);
    assert_int_equal(truncate(certs_path, 100), 0);
    guest(&fits, 1);
    assert_int_equal(answer, EIO);
    assert_int_equal(reason.kind, STOP_POWER_OFF);
    remove_certs();
    guest(&fits, 1); /* there are none */
    assert_int_equal(answer, EIO);
}

static void a_sealed_guest_ends_in_words_and_nobody_asks_for_its_registers(void **state)
{
    (void)state;
    static const struct {
        struct exit exit;
        enum stop_kind kind;
        const char *text;
    } ends[] = {
        {{.reason = KVM_EXIT_SYSTEM_EVENT, .args = {KVM_SYSTEM_EVENT_SEV_TERM, 0x21100}},
         STOP_TERMINATED,
         "the guest ended itself on vCPU 0: reason set 1 (Linux), reason 2: a page could not be "
         "validated"},
        {{.reason = KVM_EXIT_SYSTEM_EVENT, .args = {KVM_SYSTEM_EVENT_SEV_TERM, 0x10100}},
         STOP_TERMINATED,
         "GHCB protocol version"},
        {{.reason = KVM_EXIT_SHUTDOWN}, STOP_TRIPLE_FAULT, "registers are encrypted"},
        {{.reason = KVM_EXIT_FAIL_ENTRY, .args = {UINT64_MAX}},
         STOP_FAIL_ENTRY,
         "encrypted state is not valid"},
        {{.reason = KVM_EXIT_INTERNAL_ERROR}, STOP_INTERNAL_ERROR, "KVM internal error"},
        {{.reason = 999}, STOP_INTERNAL_ERROR, "KVM stopped vCPU 0 for reason 999"},
        {{.code = EINVAL}, STOP_HOST_ERROR, "KVM_RUN of vCPU 0 failed: Invalid argument"},
    };
    context.sealed = true;
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        guest(&ends[i].exit, 1);
        assert_int_equal(reason.kind, ends[i].kind);
        assert_non_null(strstr(reason.detail, ends[i].text));
        assert_null(strstr(reason.detail, "at 0x"));
    }
    context.sealed = false;
    assert_int_equal(fake_private_kvm.mistakes, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hypercall_converts_and_is_answered_with_0),
        TEST(a_hypercall_for_no_pages_is_answered_with_an_error_and_the_guest_goes_on),
        TEST(a_hypercall_that_husk_does_not_know_is_answered_so),
        TEST(a_hypercall_for_memory_that_is_not_there_stops_the_guest),
        TEST(a_memory_fault_converts_and_the_guest_goes_on),
        TEST(a_loop_of_memory_faults_stops_the_guest),
        TEST(memory_faults_that_cannot_be_answered_stop_the_guest),
        TEST(a_conversion_that_kvm_refuses_is_the_hosts_fault),
        TEST(a_failure_of_kvm_run_is_not_taken_for_the_memory_fault_before_it),
        TEST(a_guest_without_private_memory_has_no_memory_faults),
        TEST(certificates_are_written_and_stay_until_the_report_is_there),
        TEST(certificates_that_do_not_fit_are_told_of_by_their_size),
        TEST(certificates_that_are_being_changed_are_asked_for_again),
        TEST(certificates_for_no_memory_or_that_are_damaged_are_an_error),
        TEST(a_sealed_guest_ends_in_words_and_nobody_asks_for_its_registers),
    };
    return cmocka_run_group_tests_name("vcpu", tests, NULL, NULL);
}
