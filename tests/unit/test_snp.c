#include "base/bytes.h"
#include "launch/digest_sink.h"
#include "launch/producers.h"
#include "snp/cpu_model.h"
#include "snp/firmware.h"
#include "snp/id_block.h"
#include "snp/policy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void hex(const uint8_t *bytes, size_t len, char *text)
{
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static void assert_hex(const uint8_t *bytes, size_t len, const char *expected)
{
    char text[2 * 64 + 1];
    hex(bytes, len, text);
    assert_string_equal(text, expected);
}

/* The expected values are Python's hashlib over PAGE_INFO written with struct.pack. */
static void digest_chain_is_sha384_over_page_info(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(crypto_load(&err), 0);
    struct crypto_hash *hash = crypto_hash_new(CRYPTO_SHA384);
    uint8_t digest[SHA384_BYTES] = {0}, contents[SHA384_BYTES];
    static const uint8_t page[4096] = {0x90};
    assert_int_equal(crypto_digest(hash, page, sizeof(page), contents), 0);
    assert_int_equal(snp_digest_extend(hash, digest, SNP_PAGE_NORMAL, 0xfffff000, contents), 0);
    assert_hex(digest, 48,
               "e2ce5472dd38b5b38b5be10d6310086c3a6518df6b2c9b3a03f965a312c11771da3af35236b02985e10"
               "87e77b22d5fb8");
    assert_int_equal(snp_digest_extend(hash, digest, SNP_PAGE_CPUID, 0x80e000, NULL), 0);
    assert_hex(digest, 48,
               "2c41ee96d0ae5de3a81039c5a2956c111dd345f2a183d7a186d2b33fad1a9c0eac0abdac3fde18ab41d"
               "570cbbc6560ed");
    crypto_hash_free(hash);
}

static void cpu_signatures_follow_the_processors_rule(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint32_t signature;
    assert_int_equal(cpu_signature(23, 1, 2), 0x800f12);
    assert_int_equal(cpu_signature(6, 0x8e, 10), 0x806ea);
    assert_int_equal(cpu_signature_parse("25,0x11,0", &signature, &err), 0);
    assert_int_equal(signature, 0xa10f10);
    assert_int_equal(cpu_signature_parse("023,01,02", &signature, &err), 0);
    assert_int_equal(signature, 0x800f12);
    static const char *const wrong[] = {"",       "1",       "1,2",    "1,2,3,4",
                                        "1,2,16", "300,1,1", "-1,2,3", "a,b,c"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(cpu_signature_parse(wrong[i], &signature, &err), -EINVAL);
    assert_int_equal(cpu_model_signature("epyc-milan-v2", &signature, &err), 0);
    assert_int_equal(signature, 0xa00f11);
    assert_int_equal(cpu_model_signature("EPYC-v", &signature, &err), -EINVAL);
    assert_int_equal(cpu_model_signature("Opteron", &signature, &err), -EINVAL);
    assert_non_null(strstr(err.hint, "EPYC-Genoa"));
}

static void policies_without_the_bit_that_must_be_one_are_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char text[SNP_POLICY_TEXT];
    assert_int_equal(snp_policy_check(0x30000, &err), 0);
    assert_int_equal(snp_policy_check(0x10000, &err), -EINVAL);
    assert_int_equal(snp_policy_check(0x8000000000020000, &err), -EINVAL);
    assert_string_equal(snp_policy_describe(0xb0137, text),
                        "ABI 1.55, SMT allowed, debugging allowed");
}

static void put_guid_entry(uint8_t *end, uint16_t len, const uint8_t guid[16])
{
    memcpy(end - 16, guid, 16);
    store_le16(end - 18, len);
}

static const uint8_t footer[] = {0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45,
                                 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d};
static const uint8_t metadata[] = {0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47,
                                   0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc};

/** make_image() - two pages with SEV metadata of one section. */
static void make_image(uint8_t image[8192])
{
    memset(image, 0, 8192);
    uint8_t *end = image + 8192 - 32;
    put_guid_entry(end, 18 + 22, footer);
    put_guid_entry(end - 18, 22, metadata);
    store_le32(end - 18 - 22, 0x100);
    uint8_t *list = image + 8192 - 0x100;
    memcpy(list, "ASEV", 4);
    store_le32(list + 4, 28);
    store_le32(list + 8, 1);
    store_le32(list + 12, 1);
    store_le32(list + 16, 0x800000);
    store_le32(list + 20, 0x1000);
    store_le32(list + 24, FIRMWARE_SECRETS);
}

static void firmware_tables_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    uint8_t image[8192];
    struct firmware fw;
    struct error err = ERROR_INIT;
    make_image(image);
    assert_int_equal(firmware_read(&fw, image, sizeof(image), &err), 0);
    assert_int_equal(fw.n_sections, 1);
    assert_int_equal(fw.sections[0].type, FIRMWARE_SECRETS);
    assert_int_equal(fw.gpa, 0xffffe000);
    static const struct {
        size_t from_end;
        uint32_t value;
        const char *word;
    } wrong[] = {
        {32 + 18 + 22, 0xffff, "not where its table says"},
        {0x100 - 8, 2, "version 2"},
        {0x100 - 12, 9, "claims 9 entries"},
        {0x100 - 12, 0xffffffff, "entries"},
        {0x100 - 16, 0x800010, "whole pages"},
        {0x100 - 20, 0, "whole pages"},
        {0x100 - 20, 0xfffff000, "below 4 GiB"},
        {0x100 - 24, 77, "type 0x4d"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        make_image(image);
        store_le32(image + sizeof(image) - wrong[i].from_end, wrong[i].value);
        assert_int_equal(firmware_read(&fw, image, sizeof(image), &err), -EINVAL);
        if (!strstr(err.message, wrong[i].word))
            fail_msg("%zu: %s", i, err.message);
    }
    /* Two sections, the second over the end of the first; behind it, it is fine. */
    make_image(image);
    uint8_t *list = image + sizeof(image) - 0x100;
    store_le32(list + 4, 40);
    store_le32(list + 12, 2);
    store_le32(list + 20, 0x2000);
    store_le32(list + 28, 0x801000);
    store_le32(list + 32, 0x1000);
    store_le32(list + 36, FIRMWARE_CPUID);
    assert_int_equal(firmware_read(&fw, image, sizeof(image), &err), -EINVAL);
    assert_non_null(strstr(err.message, "at 0x801000, overlaps the one at 0x800000"));
    store_le32(list + 28, 0x802000);
    assert_int_equal(firmware_read(&fw, image, sizeof(image), &err), 0);
    make_image(image);
    store_le16(image + sizeof(image) - 32 - 18, 8180);
    assert_int_equal(firmware_read(&fw, image, sizeof(image), &err), -EINVAL);
    assert_int_equal(firmware_read(&fw, image, 100, &err), -EINVAL);
    assert_int_equal(firmware_read(&fw, image, 0, &err), -EINVAL);
    memset(image, 0, sizeof(image));
    assert_int_equal(firmware_read(&fw, image, sizeof(image), &err), 0);
    assert_false(fw.has_metadata);
}

static void vmsa_has_what_kvm_forces_and_goes_back_to_the_same_state(void **state)
{
    (void)state;
    struct plan_vcpu vcpu, back;
    struct vmsa vmsa, again;
    vcpu_firmware_reset(&vcpu, 3, 0x0080b004, 0x600, LAUNCH_HUSK);
    vcpu.cr0 = 0x60000010;
    vcpu_to_vmsa(&vmsa, &vcpu, 1, LAUNCH_HUSK);
    assert_int_equal(le64toh(vmsa.cr0), 0x10);
    assert_int_equal(le64toh(vmsa.cr4), 0x40);
    assert_int_equal(le64toh(vmsa.efer), 0x1000);
    assert_int_equal(le64toh(vmsa.cs.base), 0x800000);
    assert_int_equal(le64toh(vmsa.rip), 0xb004);
    vcpu_from_vmsa(&back, 3, &vmsa);
    vcpu_to_vmsa(&again, &back, 1, LAUNCH_HUSK);
    assert_null(vmsa_difference(&vmsa, &again));
    /* Cloud Hypervisor passes on no PAT. */
    back.pat = 0x1234;
    vcpu_to_vmsa(&again, &back, 1, LAUNCH_QEMU);
    assert_string_equal(vmsa_difference(&vmsa, &again), "g_pat");
    vcpu_to_vmsa(&again, &back, 1, LAUNCH_CLOUD_HYPERVISOR);
    assert_null(vmsa_difference(&vmsa, &again));
}

static void file_that_shrinks_while_it_is_measured_is_an_error(void **state)
{
    (void)state;
    char path[] = "/tmp/husk-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4 << 20), 0);
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    plan.platform = PLAN_SEV_SNP;
    assert_int_equal(plan_add_file(&plan, dup(fd), 4 << 20, path, &err), 0);
    assert_int_equal(plan_add_file_range(&plan, 0, 0, 0, 4 << 20, "test", &err), 0);
    assert_int_equal(ftruncate(fd, 5000), 0);
    uint8_t digest[SHA384_BYTES];
    for (unsigned threads = 1; threads < 4; threads += 2) {
        struct digest_options options = {.threads = threads};
        assert_int_equal(plan_launch_digest(&plan, &options, digest, &err), -EIO);
    }
    plan_release(&plan);
    close(fd);
    unlink(path);
}

static void ids_are_up_to_16_bytes_of_hexadecimal(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    uint8_t id[16];
    assert_int_equal(snp_id_parse("0aFF", id, &err), 0);
    assert_hex(id, 4, "0aff0000");
    static const char *const wrong[] = {"", "0", "0x10", "zz",
                                        "000000000000000000000000000000000000"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(snp_id_parse(wrong[i], id, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digest_chain_is_sha384_over_page_info),
        cmocka_unit_test(cpu_signatures_follow_the_processors_rule),
        cmocka_unit_test(policies_without_the_bit_that_must_be_one_are_refused),
        cmocka_unit_test(firmware_tables_that_contradict_themselves_are_refused),
        cmocka_unit_test(vmsa_has_what_kvm_forces_and_goes_back_to_the_same_state),
        cmocka_unit_test(file_that_shrinks_while_it_is_measured_is_an_error),
        cmocka_unit_test(ids_are_up_to_16_bytes_of_hexadecimal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
