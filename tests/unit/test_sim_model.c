#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "sim/crypto.h"
#include "sim/faults.h"
#include "sim/rangemap.h"
#include "sim/vcpu_state.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGES 64

/** check_runs() - runs are sorted, apart, not empty, and neighbours that touch differ. */
static void check_runs(const struct rangemap *map)
{
    for (size_t i = 0; i < map->len; i++) {
        assert_true(map->runs[i].start < map->runs[i].end);
        assert_int_not_equal(map->runs[i].value, 0);
        if (i == 0)
            continue;
        assert_true(map->runs[i - 1].end <= map->runs[i].start);
        assert_false(map->runs[i - 1].end == map->runs[i].start &&
                     map->runs[i - 1].value == map->runs[i].value);
    }
}

static void runs_say_what_an_array_says(void **state)
{
    (void)state;
    struct rangemap map = {0};
    uint32_t array[PAGES] = {0};
    srand(1);
    for (int round = 0; round < 20000; round++) {
        uint64_t start = (uint64_t)rand() % PAGES;
        uint64_t end = start + (uint64_t)rand() % (PAGES + 1 - start);
        uint32_t value = (uint32_t)rand() % 3;
        assert_int_equal(rangemap_set(&map, start, end, value), 0);
        for (uint64_t i = start; i < end; i++)
            array[i] = value;
        check_runs(&map);
        for (uint64_t i = 0; i < PAGES; i++) {
            uint64_t change;
            assert_int_equal(rangemap_get(&map, i, &change), array[i]);
            uint64_t next = i;
            while (next < PAGES && array[next] == array[i])
                next++;
            assert_true(change == next || (next == PAGES && change == UINT64_MAX));
        }
    }
    rangemap_release(&map);
}

static void too_many_runs_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct rangemap map = {0};
    uint64_t i = 0;
    while (rangemap_set(&map, 2 * i, 2 * i + 1, 1) == 0)
        i++;
    assert_int_equal(map.len, RANGEMAP_RUNS_MAX);
    assert_int_equal(rangemap_get(&map, 2 * i, NULL), 0);
    assert_int_equal(rangemap_set(&map, 0, UINT64_MAX, 0), 0);
    assert_int_equal(map.len, 0);
    rangemap_release(&map);
}

static void hex_is(const uint8_t *data, size_t len, const char *expected)
{
    char text[2 * 64 + 1];
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    assert_string_equal(text, expected);
}

static void sha384_is_the_published_one(void **state)
{
    (void)state;
    uint8_t digest[CRYPTO_DIGEST];
    assert_int_equal(sim_crypto_sha384("abc", 3, digest), 0); /* FIPS 180-4, example */
    hex_is(digest, sizeof(digest),
           "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca"
           "134c825a7");
}

/** reset_vmsa() - the page of a vCPU as KVM_CREATE_VCPU leaves it. */
static void reset_vmsa(uint8_t page[VMSA_BYTES], bool keep_cd_nw)
{
    struct vcpu_state vcpu;
    vcpu_state_reset(&vcpu);
    vcpu_state_vmsa(&vcpu, 1, keep_cd_nw, page);
}

static void a_vcpu_at_reset_has_the_registers_that_kvm_gives_it(void **state)
{
    (void)state;
    uint8_t page[VMSA_BYTES];
    reset_vmsa(page, false);
    assert_int_equal(load_le16(page + 0x10), 0xf000); /* CS */
    assert_int_equal(load_le16(page + 0x12), 0x9a);   /* svm.c init_vmcb(): not accessed */
    assert_int_equal(load_le64(page + 0x18), 0xffff0000);
    assert_int_equal(load_le64(page + 0xd0), 0x1000);  /* EFER.SVME */
    assert_int_equal(load_le64(page + 0x148), 0x40);   /* CR4.MCE */
    assert_int_equal(load_le64(page + 0x158), 0x10);   /* CR0 without CD and NW */
    assert_int_equal(load_le64(page + 0x178), 0xfff0); /* RIP */
    assert_int_equal(load_le64(page + 0x310), 0x600);  /* RDX */
    assert_int_equal(load_le64(page + 0x3b0), 1);      /* SEV_FEATURES */
    assert_int_equal(load_le64(page + 0x3e8), 1);      /* XCR0 */
    assert_int_equal(load_le32(page + 0x408), 0x1f80); /* MXCSR */
    assert_int_equal(load_le16(page + 0x410), 0x37f);  /* FCW */
    reset_vmsa(page, true);
    assert_int_equal(load_le64(page + 0x158), 0x60000010);
}

static void segments_are_packed_as_the_vmcb_has_them(void **state)
{
    (void)state;
    struct vcpu_state vcpu;
    struct kvm_sregs sregs;
    enum rule_id rule;
    uint8_t page[VMSA_BYTES];
    vcpu_state_reset(&vcpu);
    sregs = vcpu.sregs;
    sregs.ss = (struct kvm_segment){.selector = 0x18,
                                    .base = 0x1122334455667788,
                                    .limit = 0xfffff,
                                    .type = 3,
                                    .s = 1,
                                    .dpl = 3,
                                    .present = 1,
                                    .avl = 1,
                                    .l = 1,
                                    .db = 1,
                                    .g = 1};
    sregs.ds.unusable = 1;
    assert_int_equal(vcpu_state_set(&vcpu, KVM_SET_SREGS, &sregs, sizeof(sregs), &rule), 0);
    vcpu_state_vmsa(&vcpu, 1, false, page);
    assert_int_equal(load_le16(page + 0x20), 0x18);
    assert_int_equal(load_le16(page + 0x22), 0xff3);
    assert_int_equal(load_le64(page + 0x28), 0x1122334455667788);
    assert_int_equal(page[0xcb], 3);                    /* CPL follows SS.DPL */
    assert_int_equal(load_le16(page + 0x32) & 0x80, 0); /* an unusable segment is not present */
}

static void x87_registers_are_split_in_two_areas(void **state)
{
    (void)state;
    struct vcpu_state vcpu;
    struct kvm_fpu fpu = {.fcw = 0x27f, .mxcsr = 0x1234};
    enum rule_id rule;
    uint8_t page[VMSA_BYTES];
    for (size_t i = 0; i < 8; i++)
        memset(fpu.fpr[i], (int)(0x10 + i), 10);
    vcpu_state_reset(&vcpu);
    assert_int_equal(vcpu_state_set(&vcpu, KVM_SET_FPU, &fpu, sizeof(fpu), &rule), 0);
    vcpu_state_vmsa(&vcpu, 1, false, page);
    assert_int_equal(load_le64(page + 0x420 + 8), 0x1111111111111111);
    assert_int_equal(load_le16(page + 0x420 + 64 + 2), 0x1111);
    assert_int_equal(load_le16(page + 0x410), 0x27f);
    assert_int_equal(load_le32(page + 0x408), 0x1f80); /* KVM_SET_FPU does not set MXCSR */
}

static void xsave_sets_the_components_it_names(void **state)
{
    (void)state;
    struct vcpu_state vcpu;
    static uint8_t area[sizeof(struct kvm_xsave)];
    enum rule_id rule;
    uint8_t page[VMSA_BYTES];
    memset(area, 0xaa, sizeof(area));
    store_le64(area + 512, 4); /* YMM alone */
    store_le32(area + 24, 0x1fa0);
    vcpu_state_reset(&vcpu);
    assert_int_equal(vcpu_state_set(&vcpu, KVM_SET_XSAVE, area, sizeof(area), &rule), 0);
    vcpu_state_vmsa(&vcpu, 1, false, page);
    assert_int_equal(load_le16(page + 0x410), 0x37f);
    assert_int_equal(load_le32(page + 0x408), 0x1fa0);
    assert_int_equal(page[0x470], 0);
    assert_int_equal(page[0x570], 0xaa);
}

static void msrs_reach_the_vmsa(void **state)
{
    (void)state;
    struct vcpu_state vcpu;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[4];
    } msrs = {.head.nmsrs = 4,
              .entries = {{.index = 0xc0000081, .data = 1},
                          {.index = 0x176, .data = 2},
                          {.index = 0x277, .data = 3},
                          {.index = 0xc0000080, .data = 0x800}}};
    enum rule_id rule;
    uint8_t page[VMSA_BYTES];
    vcpu_state_reset(&vcpu);
    assert_int_equal(vcpu_state_set(&vcpu, KVM_SET_MSRS, &msrs, sizeof(msrs), &rule), 4);
    vcpu_state_vmsa(&vcpu, 1, false, page);
    assert_int_equal(load_le64(page + 0x200), 1);
    assert_int_equal(load_le64(page + 0x238), 2);
    assert_int_equal(load_le64(page + 0x268), 3);
    assert_int_equal(load_le64(page + 0xd0), 0x1800);
}

static void a_list_that_is_longer_than_its_message_is_refused(void **state)
{
    (void)state;
    struct vcpu_state vcpu;
    struct kvm_msrs head = {.nmsrs = UINT32_MAX};
    enum rule_id rule;
    vcpu_state_reset(&vcpu);
    assert_int_equal(vcpu_state_set(&vcpu, KVM_SET_MSRS, &head, sizeof(head), &rule), -E2BIG);
    assert_int_equal(vcpu_state_get(&vcpu, KVM_GET_MSRS, &head, sizeof(head)), -E2BIG);
    assert_int_equal(vcpu_state_set(&vcpu, KVM_SET_REGS, &head, sizeof(head), &rule), -EFAULT);
}

static void faults_count_their_calls(void **state)
{
    (void)state;
    static struct sim_faults faults;
    struct error err = ERROR_INIT;
    assert_int_equal(sim_faults_add(&faults, "launch-update,at=2,times=2,vm=3,fw=22", &err), 0);
    const bool due[] = {false, true, true, false};
    for (size_t i = 0; i < ARRAY_SIZE(due); i++) {
        assert_null(sim_faults_match(&faults, SIM_CALL_UPDATE, 2));
        assert_null(sim_faults_match(&faults, SIM_CALL_FINISH, 3));
        const struct sim_fault *fault = sim_faults_match(&faults, SIM_CALL_UPDATE, 3);
        assert_int_equal(fault != NULL, due[i]);
        if (fault)
            assert_true(fault->error == EIO && fault->fw == 22);
    }
}

static void a_signature_of_another_key_is_refused(void **state)
{
    (void)state;
    uint8_t key[CRYPTO_KEY_BYTES] = {2};
    uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {1};
    signature[72] = 1;
    assert_true(sim_crypto_key_is_p384(key));
    assert_false(sim_crypto_verify(key, signature, "x", 1)); /* (0, 0) is no point */
    memset(key + 4, 0xff, sizeof(key) - 4);
    assert_false(sim_crypto_verify(key, signature, "x", 1));
    key[0] = 1;
    assert_false(sim_crypto_key_is_p384(key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_say_what_an_array_says),
        cmocka_unit_test(too_many_runs_are_refused_and_change_nothing),
        cmocka_unit_test(sha384_is_the_published_one),
        cmocka_unit_test(a_vcpu_at_reset_has_the_registers_that_kvm_gives_it),
        cmocka_unit_test(segments_are_packed_as_the_vmcb_has_them),
        cmocka_unit_test(x87_registers_are_split_in_two_areas),
        cmocka_unit_test(xsave_sets_the_components_it_names),
        cmocka_unit_test(msrs_reach_the_vmsa),
        cmocka_unit_test(a_list_that_is_longer_than_its_message_is_refused),
        cmocka_unit_test(faults_count_their_calls),
        cmocka_unit_test(a_signature_of_another_key_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
