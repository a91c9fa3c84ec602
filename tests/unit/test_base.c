#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/units.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void an_error_reads_as_one_sentence(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(error_set_errno(&err, -ENOENT, "could not open '%s'", "vmlinux"), -ENOENT);
    assert_int_equal(error_context(&err, "loading the kernel"), -ENOENT);
    error_hint(&err, "first");
    error_hint(&err, "second");
    assert_string_equal(err.message,
                        "loading the kernel: could not open 'vmlinux': No such file or directory");
    assert_string_equal(err.hint, "first");
}

static void a_long_error_is_cut_not_overrun(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char text[3000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set_errno(&err, -EIO, "%s", text);
    error_context(&err, "%s", text);
    error_context(&err, "outer");
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    assert_memory_equal(err.message, "outer: x", 8);
}

static void sizes_are_read_as_written(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int ret;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"512M", 0, MIB(512)},
        {"3k", 0, 3072},
        {"4G", 0, GIB(4)},
        {"1T", 0, GIB(1024)},
        {"0x10", 0, 16},
        {"", -EINVAL, 0},
        {"M", -EINVAL, 0},
        {"1MB", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"0x", -EINVAL, 0},
        {"1.5G", -EINVAL, 0},
        {"16777216T", -ERANGE, 0},
        {"99999999999999999999", -ERANGE, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t bytes = 0;
        assert_int_equal(units_parse_size(cases[i].text, &bytes), cases[i].ret);
        if (cases[i].ret == 0)
            assert_int_equal(bytes, cases[i].bytes);
    }
}

static void sizes_are_written_exactly(void **state)
{
    (void)state;
    char text[UNITS_SIZE_TEXT];
    assert_string_equal(units_format_size(0, text), "0");
    assert_string_equal(units_format_size(1025, text), "1025");
    assert_string_equal(units_format_size(MIB(512), text), "512M");
    assert_string_equal(units_format_size(MIB(3584), text), "3584M");
    assert_string_equal(units_format_size(GIB(4096), text), "4T");
}

static void a_buffer_grows_and_stays_terminated(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    buf_align(&b, 64);
    assert_false(buf_failed(&b));
    assert_int_equal(b.len % 64, 0);
    buf_append_le32(&b, 0x01020304);
    assert_int_equal(b.data[b.len - 4], 4);
    assert_int_equal(b.data[b.len], 0);
    buf_release(&b);
}

struct removal {
    struct loop *loop;
    struct loop_source *other;
    int calls;
};

static void remove_other(void *ctx, uint32_t events)
{
    (void)events;
    struct removal *r = ctx;
    r->calls++;
    loop_remove(r->other);
    r->other = NULL;
    loop_stop(r->loop, 7);
}

static void a_source_removed_in_a_batch_is_not_called(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    assert_non_null(loop);
    int a = eventfd(1, EFD_CLOEXEC);
    int b = eventfd(1, EFD_CLOEXEC);
    /* Both are ready at once; whichever runs first removes the other. */
    struct removal ra = {.loop = loop}, rb = {.loop = loop};
    rb.other = loop_add(loop, a, EPOLLIN, remove_other, &ra);
    ra.other = loop_add(loop, b, EPOLLIN, remove_other, &rb);
    assert_int_equal(loop_run(loop), 7);
    assert_int_equal(ra.calls + rb.calls, 1);
    loop_free(loop);
    close(a);
    close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_reads_as_one_sentence),
        cmocka_unit_test(a_long_error_is_cut_not_overrun),
        cmocka_unit_test(sizes_are_read_as_written),
        cmocka_unit_test(sizes_are_written_exactly),
        cmocka_unit_test(a_buffer_grows_and_stays_terminated),
        cmocka_unit_test(a_source_removed_in_a_batch_is_not_called),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
