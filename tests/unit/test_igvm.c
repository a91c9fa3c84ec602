#include "igvm/igvm.h"
#include "igvm_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* What was found, the first few. */
struct findings {
    size_t n;
    uint32_t header[64];
    uint32_t offset[64];
    IgvmResult code[64];
    char first[256];
};

static void note(const struct igvm_finding *finding, void *opaque)
{
    struct findings *f = opaque;
    if (f->n == 0)
        snprintf(f->first, sizeof(f->first), "%s", finding->message);
    if (f->n < 64) {
        f->header[f->n] = finding->header;
        f->offset[f->n] = finding->offset;
        f->code[f->n] = finding->code;
    }
    f->n++;
}

static struct findings findings_of(const uint8_t *file, size_t size)
{
    struct findings f = {0};
    struct igvm_file *opened;
    igvm_file_open(file, size, note, &f, &opened);
    igvm_file_close(opened);
    return f;
}

/** expect() - that @s has a finding for header @number with @code. */
static void expect(const struct sample *s, uint32_t number, IgvmResult code)
{
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    struct findings f = findings_of(file, size);
    bool found = false;
    for (size_t i = 0; i < f.n && i < 64; i++)
        found |= f.header[i] == number && f.code[i] == code;
    if (!found)
        fail_msg("no finding %d for header %u; %zu others, first: %s", code, number, f.n, f.first);
    assert_true(igvm_new_from_binary(file, (uint32_t)size) < 0);
    free(file);
}

static void expect_valid(const struct sample *s)
{
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    struct findings f = findings_of(file, size);
    if (f.n)
        fail_msg("header %u: %s", f.header[0], f.first);
    free(file);
}

/* Written by hand from the published definitions; the checksum is Python's zlib.crc32 of the headers. */
static const uint8_t golden[] = {
    0x49, 0x47, 0x56, 0x4d, 0x01, 0, 0, 0, 24, 0, 0, 0, 80,   0, 0, 0, 0x68, 0x10, 0, 0, /**/
    0x01, 0x7d, 0x12, 0x3c,                                            /* checksum */
    0x01, 0,    0,    0,    16,   0, 0, 0,                             /* SUPPORTED_PLATFORM */
    1,    0,    0,    0,    0,    2, 1, 0, 0,  0, 0, 0, 0,    0, 0, 0, /* mask 1, SEV_SNP */
    0x01, 0x01, 0,    0,    16,   0, 0, 0,                             /* GUEST_POLICY */
    0,    0,    3,    0,    0,    0, 0, 0, 1,  0, 0, 0, 0,    0, 0, 0, /* 0x30000, mask 1 */
    0x02, 0x03, 0,    0,    24,   0, 0, 0,                             /* PAGE_DATA */
    0x00, 0xf0, 0xff, 0xff, 0,    0, 0, 0, 1,  0, 0, 0, 0x68, 0, 0, 0, /* gpa, mask, offset */
    0,    0,    0,    0,    0,    0, 0, 0,                             /* flags, type */
};

static void golden_bytes_are_what_builder_and_generator_write(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    assert_int_equal(size, sizeof(golden) + 4096);
    assert_memory_equal(file, golden, sizeof(golden));
    assert_int_equal(findings_of(file, size).n, 0);

    struct igvm_builder *b = igvm_builder_new(1, IGVM_ARCHITECTURE_X64);
    uint8_t page[4096];
    memset(page, 0x90, sizeof(page));
    /* Headers find their section whatever the order they come in. */
    IGVM_VHS_PAGE_DATA data = {.gpa = 0xFFFFF000, .compatibility_mask = 1};
    assert_int_equal(igvm_builder_add(b, IGVM_VHT_PAGE_DATA, &data, sizeof(data), page, 4096), 1);
    IGVM_VHS_GUEST_POLICY policy = {.policy = 0x30000, .compatibility_mask = 1};
    assert_int_equal(igvm_builder_add(b, IGVM_VHT_GUEST_POLICY, &policy, sizeof(policy), NULL, 0),
                     1);
    IGVM_VHS_SUPPORTED_PLATFORM platform = {.compatibility_mask = 1,
                                            .platform_type = IGVM_PLATFORM_TYPE_SEV_SNP,
                                            .platform_version = 1};
    assert_int_equal(
        igvm_builder_add(b, IGVM_VHT_SUPPORTED_PLATFORM, &platform, sizeof(platform), NULL, 0), 1);
    uint8_t *written;
    size_t written_size;
    assert_int_equal(igvm_builder_write(b, &written, &written_size), IGVMAPI_OK);
    assert_int_equal(written_size, size);
    assert_memory_equal(written, file, size);
    igvm_builder_free(b);
    free(written);
    free(file);
    free(s);
}

static void check_identity(const struct sample *s)
{
    size_t size, written_size;
    uint8_t *file = sample_finish(s, &size), *written;
    struct igvm_file *opened;
    struct findings f = {0};
    igvm_file_open(file, size, note, &f, &opened);
    if (!opened)
        fail_msg("header %u: %s", f.header[0], f.first);
    assert_int_equal(f.n, 0);
    struct igvm_builder *b = igvm_builder_from(opened);
    assert_int_equal(igvm_builder_write(b, &written, &written_size), IGVMAPI_OK);
    assert_int_equal(written_size, size);
    assert_memory_equal(written, file, size);
    free(written);
    igvm_builder_free(b);
    igvm_file_close(opened);
    free(file);
}

static void parse_then_serialise_is_the_identity_for_every_type(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    check_identity(s);
    sample_all_x64(s);
    check_identity(s);
    sample_all_aarch64(s);
    check_identity(s);
    free(s);
}

static void added_header_moves_file_data_and_keeps_it(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_all_x64(s);
    size_t size, written_size;
    uint8_t *file = sample_finish(s, &size), *written;
    struct igvm_file *opened, *again;
    assert_int_equal(igvm_file_open(file, size, NULL, NULL, &opened), IGVMAPI_OK);
    struct igvm_builder *b = igvm_builder_from(opened);
    IGVM_VHS_GUEST_POLICY policy = {.policy = 0x30000, .compatibility_mask = 8};
    int64_t number = igvm_builder_add(b, IGVM_VHT_GUEST_POLICY, &policy, sizeof(policy), NULL, 0);
    assert_int_equal(igvm_builder_write(b, &written, &written_size), IGVMAPI_OK);
    assert_int_equal(written_size, size + 24);
    assert_int_equal(igvm_file_open(written, written_size, NULL, NULL, &again), IGVMAPI_OK);
    for (uint32_t i = 1; i <= igvm_file_count(opened); i++) {
        struct igvm_header before, after;
        uint64_t len_before, len_after;
        assert_true(igvm_file_header(opened, i, &before));
        assert_true(igvm_file_header(again, i >= number ? i + 1 : i, &after));
        const uint8_t *data = igvm_file_data(opened, &before, &len_before);
        const uint8_t *moved = igvm_file_data(again, &after, &len_after);
        assert_int_equal(len_before, len_after);
        assert_int_equal(before.type, after.type);
        if (data)
            assert_memory_equal(data, moved, len_before);
    }
    /* And taken out again, the file is what it was. */
    assert_int_equal(igvm_builder_remove(b, (uint32_t)number), IGVMAPI_OK);
    free(written);
    assert_int_equal(igvm_builder_write(b, &written, &written_size), IGVMAPI_OK);
    assert_int_equal(written_size, size);
    assert_memory_equal(written, file, size);
    igvm_file_close(opened);
    igvm_file_close(again);
    igvm_builder_free(b);
    free(written);
    free(file);
    free(s);
}

static void equal_pages_are_stored_once(void **state)
{
    (void)state;
    struct igvm_builder *b = igvm_builder_new(1, IGVM_ARCHITECTURE_X64);
    uint8_t page[4096] = {1};
    for (uint32_t i = 0; i < 300; i++) {
        IGVM_VHS_PAGE_DATA data = {.gpa = i * 4096, .compatibility_mask = 1};
        page[1] = (uint8_t)(i % 3);
        assert_true(igvm_builder_add(b, IGVM_VHT_PAGE_DATA, &data, sizeof(data), page, 4096) > 0);
    }
    uint8_t *file;
    size_t size;
    assert_int_equal(igvm_builder_write(b, &file, &size), IGVMAPI_OK);
    assert_int_equal(size, 24 + 300 * 32 + 3 * 4096);
    free(file);
    igvm_builder_free(b);
}

/* One test for each thing that is known to break readers. */

static void huge_parameter_area_is_an_error_at_once(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    sample_area(s, 1ull << 60, 0);
    expect(s, 4, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    free(s);
}

static void vbs_context_of_another_processor_is_read(void **state)
{
    (void)state;
    struct sample *s = calloc(1, sizeof(*s));
    s->version = 1;
    sample_platform(s, 4, 1);
    uint32_t at = sample_data(s, 0, 36);
    s->data[at] = 1;
    sample_context(s, 0, 4, 9, at);
    expect_valid(s);
    s->data[at] = 2; /* now the second register is beyond the end */
    expect(s, 2, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    free(s);
}

static void file_without_page_data_is_read(void **state)
{
    (void)state;
    struct sample *s = calloc(1, sizeof(*s));
    s->version = 1;
    sample_platform(s, 1, 2);
    sample_page(s, 0x1000, 1, -1, 0, 0);
    expect_valid(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    IgvmHandle handle = igvm_new_from_binary(file, (uint32_t)size);
    assert_true(handle > 0);
    assert_int_equal(igvm_get_header_data(handle, IGVM_HEADER_SECTION_DIRECTIVE, 0),
                     IGVMAPI_NO_DATA);
    igvm_free(handle);
    free(file);
    free(s);
}

static void masks_decide_what_a_platform_loads(void **state)
{
    (void)state;
    struct sample *s = calloc(1, sizeof(*s));
    s->version = 1;
    sample_platform(s, 1, 2);
    sample_platform(s, 2, 0);
    sample_page(s, 0x1000, 1, 1, 0, 0);
    sample_page(s, 0x1000, 2, 2, 0, 0); /* the same address, on another platform */
    sample_page(s, 0x2000, 3, 3, 0, 0);
    expect_valid(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    struct igvm_file *opened;
    assert_int_equal(igvm_file_open(file, size, NULL, NULL, &opened), IGVMAPI_OK);
    uint32_t mask = igvm_file_platform_mask(opened, IGVM_PLATFORM_TYPE_NATIVE);
    assert_int_equal(mask, 2);
    struct igvm_header h = {0};
    assert_true(igvm_next(opened, mask, &h));
    assert_int_equal(h.number, 4);
    assert_true(igvm_next(opened, mask, &h));
    assert_int_equal(h.number, 5);
    assert_false(igvm_next(opened, mask, &h));
    igvm_file_close(opened);
    free(file);
    sample_page(s, 0x5000, 0, 3, 0, 0); /* for nobody */
    expect(s, 6, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    free(s);
}

static void duplicate_page_address_is_an_error(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    sample_page(s, 0xFFFFF000, 1, -1, 0, 0);
    expect(s, 4, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    sample_small(s);
    sample_area(s, 0x3000, 1);
    sample_insert(s, 0x1000, 1, 1);
    sample_page(s, 0x3000, 1, -1, 0, 0); /* the area's third page */
    expect(s, 6, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    sample_small(s);
    sample_page(s, 0x200000, 1, -1, 1, 0);
    sample_page(s, 0x3ff000, 1, -1, 0, 0); /* the last page of 2 MiB */
    expect(s, 5, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    free(s);
}

static void errors_across_headers_name_the_later_header(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    sample_parameter(s, 0x307, 3, 0);
    expect(s, 4, IGVMAPI_INVALID_PARAMETER_AREA_INDEX);
    sample_small(s);
    sample_area(s, 0x1000, 3);
    sample_insert(s, 0x1000, 1, 3);
    sample_insert(s, 0x8000, 1, 3);
    expect(s, 6, IGVMAPI_INVALID_PARAMETER_AREA_INDEX);
    sample_small(s);
    sample_area(s, 0x1000, 3);
    sample_area(s, 0x1000, 3);
    expect(s, 5, IGVMAPI_INVALID_PARAMETER_AREA_INDEX);
    sample_small(s);
    sample_area(s, 0x1000, 3);
    sample_parameter(s, 0x307, 3, 0xffd);
    expect(s, 5, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
    sample_small(s);
    sample_policy(s, 0x30000, 1);
    expect(s, 4, IGVMAPI_INVALID_BINARY_VARIABLE_HEADER_SECTION);
    memset(s, 0, sizeof(*s));
    s->version = 1;
    sample_platform(s, 1, 2);
    sample_platform(s, 2, 2);
    expect(s, 2, IGVMAPI_MULTIPLE_PLATFORM_HEADERS_WITH_SAME_ISOLATION);
    memset(s, 0, sizeof(*s));
    s->version = 1;
    sample_page(s, 0x1000, 1, -1, 0, 0);
    expect(s, 0, IGVMAPI_NO_PLATFORM_HEADERS);
    free(s);
}

static void all_findings_are_told_not_only_the_first(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    for (uint32_t i = 0; i < 10; i++)
        sample_page(s, i * 0x1000 + 1, 1, -1, 0, 9);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    file[20] ^= 1;
    struct findings f = findings_of(file, size);
    assert_true(f.n >= 21);
    assert_int_equal(f.code[0], IGVMAPI_INVALID_CHECKSUM);
    assert_int_equal(f.header[0], 0);
    assert_int_equal(f.header[1], 4);
    assert_int_equal(f.offset[1], 24 + 24 + 24 + 32);
    free(file);
    free(s);
}

/** sweep() - each bit of each header of @s, one at a time: the file stays valid or the header is named. */
static void sweep(const struct sample *s, uint32_t fixed)
{
    size_t size, refused = 0, named = 0;
    uint8_t *file = sample_finish(s, &size);
    for (size_t i = 0; i < s->n; i++) {
        size_t end = i + 1 < s->n ? s->starts[i + 1] : s->var_len;
        for (size_t at = s->starts[i]; at < end; at++) {
            for (int bit = 0; bit < 8; bit++) {
                file[fixed + at] ^= (uint8_t)(1 << bit);
                sample_checksum(file, size);
                struct findings f = findings_of(file, size);
                bool right = f.n == 0;
                /* Others may be at fault too, as those that needed what this header declared. */
                for (size_t k = 0; k < f.n && k < 64; k++)
                    right |=
                        f.header[k] == i + 1 || (f.header[k] > i + 1 && at >= s->starts[i] + 8);
                /* A wrong type or length can hide what follows it. */
                if (!right && at < s->starts[i] + 8)
                    right = f.header[0] >= i + 1 || f.header[0] == 0;
                /* A region earlier in the file needs the context of its processor. */
                if (!right && s->types[i] == IGVM_VHT_VP_CONTEXT)
                    right = s->types[f.header[0] - 1] == IGVM_VHT_RELOCATABLE_REGION ||
                            s->types[f.header[0] - 1] == IGVM_VHT_PAGE_TABLE_RELOCATION_REGION;
                if (!right)
                    fail_msg("header %zu (type 0x%x), byte %zu, bit %d: header %u: %s", i + 1,
                             s->types[i], at - s->starts[i], bit, f.header[0], f.first);
                refused += f.n > 0;
                named += f.n > 0 && f.header[0] == i + 1;
                file[fixed + at] ^= (uint8_t)(1 << bit);
            }
        }
    }
    assert_true(refused > 1000);
    assert_true(named > refused * 9 / 10);
    free(file);
}

static void each_corrupted_bit_is_valid_or_names_its_header(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_all_x64(s);
    sweep(s, 32);
    free(s);
}

static void fixed_header_is_checked_field_by_field(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_all_x64(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    for (size_t at = 0; at < 32; at++) {
        file[at] ^= 0x40;
        if (at < 20 || at >= 24)
            sample_checksum(file, size);
        struct findings f = findings_of(file, size);
        assert_true(f.n > 0);
        /* Where the variable headers are cannot be told from what is found there. */
        if (f.header[0] != 0 && (at < 8 || at >= 16))
            fail_msg("byte %zu: header %u: %s", at, f.header[0], f.first);
        file[at] ^= 0x40;
        sample_checksum(file, size);
    }
    for (size_t len = 0; len < size; len += 97)
        assert_true(findings_of(file, len).n > 0);
    assert_int_equal(findings_of(file, size).n, 0);
    free(file);
    free(s);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/** hostile_seconds() - processor time to refuse @size bytes of headers in the worst order, each with faults. */
static double hostile_seconds(uint32_t size)
{
    uint8_t *file = calloc(1, size);
    struct payload p = {0};
    put(&p, 4, 0x4D564749);
    put(&p, 4, 1);
    put(&p, 4, 24);
    put(&p, 4, size - 24);
    put(&p, 4, size);
    memcpy(file, p.bytes, p.len);
    size_t n = 0;
    for (size_t at = 24; at + 24 <= size; at += 24, n++) {
        struct payload h = {0};
        put(&h, 4, 0x30d);
        put(&h, 4, 16);
        put(&h, 8, n * 7919 % 1000003 << 12);
        put(&h, 4, 1);
        put(&h, 4, 0xfffff000);
        memcpy(file + at, h.bytes, h.len);
    }
    double began = seconds();
    struct findings f = findings_of(file, size);
    began = seconds() - began;
    assert_true(f.n > IGVM_FINDINGS_MAX && n > IGVM_FINDINGS_MAX);
    free(file);
    return began;
}

static void hostile_headers_are_refused_in_linear_time(void **state)
{
    (void)state;
    bool linear = false;
    /* 16 times the headers; quadratic time would be 256 times. What else the machine does may slow one of the two. */
    for (unsigned tries = 0; !linear && tries < 5; tries++)
        linear = hostile_seconds(16 << 20) < 64 * hostile_seconds(1 << 20);
    assert_true(linear);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes_are_what_builder_and_generator_write),
        cmocka_unit_test(parse_then_serialise_is_the_identity_for_every_type),
        cmocka_unit_test(added_header_moves_file_data_and_keeps_it),
        cmocka_unit_test(equal_pages_are_stored_once),
        cmocka_unit_test(huge_parameter_area_is_an_error_at_once),
        cmocka_unit_test(vbs_context_of_another_processor_is_read),
        cmocka_unit_test(file_without_page_data_is_read),
        cmocka_unit_test(masks_decide_what_a_platform_loads),
        cmocka_unit_test(duplicate_page_address_is_an_error),
        cmocka_unit_test(errors_across_headers_name_the_later_header),
        cmocka_unit_test(all_findings_are_told_not_only_the_first),
        cmocka_unit_test(each_corrupted_bit_is_valid_or_names_its_header),
        cmocka_unit_test(fixed_header_is_checked_field_by_field),
        cmocka_unit_test(hostile_headers_are_refused_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
