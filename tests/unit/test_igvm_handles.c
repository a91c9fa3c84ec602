/* The published C interface. */
#include "igvm/igvm.h"
#include "igvm_samples.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* What sample_small() comes to. */
#define FILE_BYTES (24 + 24 + 24 + 32 + 4096)

/* The file of the published interface's own test: its second policy names a platform that is not there. */
static void published_interface_reads_what_its_own_test_reads(void **state)
{
    (void)state;
    struct sample *s = calloc(1, sizeof(*s));
    s->version = 1;
    sample_platform(s, 1, 1);
    sample_policy(s, 0x30000, 1);
    sample_policy(s, 0x30000, 2);
    static const uint8_t pages[] = {0, 1, 2, 4, 10, 11, 12, 14};
    for (unsigned i = 0; i < 8; i++)
        sample_page(s, pages[i] * 4096u, 1, (int)(i % 4 + 1), 0, 0);
    sample_area(s, 4096, 0);
    sample_parameter(s, 0x307, 0, 0);
    sample_insert(s, 0x14000, 1, 0);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    IgvmHandle igvm = igvm_new_from_binary(file, (uint32_t)size);
    free(file); /* the library has its own copy */
    assert_true(igvm > 0);
    assert_int_equal(igvm_header_count(igvm, IGVM_HEADER_SECTION_PLATFORM), 1);
    assert_int_equal(igvm_header_count(igvm, IGVM_HEADER_SECTION_INITIALIZATION), 2);
    assert_int_equal(igvm_header_count(igvm, IGVM_HEADER_SECTION_DIRECTIVE), 11);
    IgvmHandle buffer = igvm_get_header(igvm, IGVM_HEADER_SECTION_DIRECTIVE, 1);
    const uint8_t *raw = igvm_get_buffer(igvm, buffer);
    const IGVM_VHS_VARIABLE_HEADER *header = (const void *)raw;
    assert_int_equal(header->typ, IGVM_VHT_PAGE_DATA);
    assert_int_equal(header->length, sizeof(IGVM_VHS_PAGE_DATA));
    const IGVM_VHS_PAGE_DATA *page = (const void *)(raw + sizeof(*header));
    assert_int_equal(page->gpa, 0x1000);
    assert_int_equal(page->flags.is_2mb_page, 0);
    igvm_free_buffer(igvm, buffer);
    buffer = igvm_get_header_data(igvm, IGVM_HEADER_SECTION_DIRECTIVE, 3);
    assert_int_equal(igvm_get_buffer_size(igvm, buffer), 4096);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(igvm_get_buffer(igvm, buffer)[i], 4);
    assert_int_equal(igvm_get_header_data(igvm, IGVM_HEADER_SECTION_DIRECTIVE, 9), IGVMAPI_NO_DATA);
    assert_int_equal(igvm_get_header_type(igvm, IGVM_HEADER_SECTION_DIRECTIVE, 10),
                     IGVM_VHT_PARAMETER_INSERT);
    igvm_free(igvm);
    free(s);
}

static void misused_handles_are_refused(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    IgvmHandle a = igvm_new_from_binary(file, (uint32_t)size);
    IgvmHandle b = igvm_new_from_binary(file, (uint32_t)size);
    IgvmHandle buffer = igvm_get_header_data(a, IGVM_HEADER_SECTION_DIRECTIVE, 0);
    assert_true(a > 0 && b > 0 && buffer > 0 && a != b);
    assert_null(igvm_get_buffer(b, buffer)); /* another file's buffer */
    assert_null(igvm_get_buffer(buffer, a));
    assert_int_equal(igvm_get_buffer_size(a, 12345678), IGVMAPI_INVALID_HANDLE);
    igvm_free_buffer(b, buffer);
    assert_non_null(igvm_get_buffer(a, buffer));
    igvm_free_buffer(a, buffer);
    igvm_free_buffer(a, buffer); /* twice */
    assert_null(igvm_get_buffer(a, buffer));
    IgvmHandle other = igvm_get_header_data(a, IGVM_HEADER_SECTION_DIRECTIVE, 0);
    assert_int_not_equal(other, buffer); /* a number that was freed does not come back */
    assert_int_equal(igvm_get_header(a, 3, 0), IGVMAPI_INVALID_PARAMETER);
    assert_int_equal(igvm_get_header(a, IGVM_HEADER_SECTION_DIRECTIVE, 1),
                     IGVMAPI_INVALID_PARAMETER);
    assert_int_equal(igvm_get_header_data(a, IGVM_HEADER_SECTION_PLATFORM, 0),
                     IGVMAPI_INVALID_PARAMETER);
    igvm_free(a);
    igvm_free(a);
    assert_int_equal(igvm_header_count(a, 0), IGVMAPI_INVALID_HANDLE);
    assert_int_equal(igvm_header_count(-1, 0), IGVMAPI_INVALID_HANDLE);
    assert_int_equal(igvm_header_count(0, 0), IGVMAPI_INVALID_HANDLE);
    igvm_free(b);
    assert_int_equal(igvm_new_from_binary(NULL, 5), IGVMAPI_INVALID_PARAMETER);
    assert_int_equal(igvm_new_from_binary(file, 16), IGVMAPI_INVALID_FIXED_HEADER);
    free(file);
    free(s);
}

static void optional_headers_are_hidden_from_the_published_interface(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_all_x64(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    IgvmHandle handle = igvm_new_from_binary(file, (uint32_t)size);
    assert_true(handle > 0);
    int32_t n = 0;
    for (unsigned section = 0; section < 3; section++)
        n += igvm_header_count(handle, section);
    assert_int_equal(n, s->n - 1);
    igvm_free(handle);
    free(file);
    free(s);
}

static void *use_many_handles(void *opaque)
{
    const uint8_t *file = opaque;
    IgvmHandle handle = igvm_new_from_binary(file, FILE_BYTES);
    size_t wrong = handle <= 0;
    IgvmHandle buffers[500];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 500; i++)
            buffers[i] = igvm_get_header_data(handle, IGVM_HEADER_SECTION_DIRECTIVE, 0);
        for (int i = 0; i < 500; i++) {
            const uint8_t *data = igvm_get_buffer(handle, buffers[i]);
            wrong += !data || data[4095] != 0x90;
            igvm_free_buffer(handle, buffers[i]);
            wrong += igvm_get_buffer(handle, buffers[i]) != NULL;
        }
    }
    igvm_free(handle);
    return (void *)wrong;
}

static void handles_may_be_used_from_many_threads(void **state)
{
    (void)state;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_many_handles, file), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    free(file);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_interface_reads_what_its_own_test_reads),
        cmocka_unit_test(misused_handles_are_refused),
        cmocka_unit_test(optional_headers_are_hidden_from_the_published_interface),
        cmocka_unit_test(handles_may_be_used_from_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
