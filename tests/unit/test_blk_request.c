#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/blk_request.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#define DISK_BYTES 8192u
#define PIECES_MAX 8

/* A request in its buffers, cut up in some way. */
struct sample {
    uint8_t out[512 + BLK_HEADER_BYTES], in[1024 + 1];
    size_t out_len, in_len;
    struct iovec iov[2 * PIECES_MAX], data[2 * PIECES_MAX];
    struct vu_chain chain;
    struct blk_request request;
};

static struct blk_disk disk = {.bytes = DISK_BYTES, .can_discard = true};

static void header(struct sample *s, uint32_t type, uint64_t sector)
{
    memset(s, 0, sizeof(*s));
    store_le32(s->out, type);
    store_le64(s->out + 8, sector);
    s->out_len = BLK_HEADER_BYTES;
    s->in_len = 1;
}

/* @bytes in up to PIECES_MAX pieces that end where the bits of @cuts are set, at multiples of @step. */
static unsigned cut(struct iovec *iov, uint8_t *bytes, size_t len, unsigned cuts, size_t step)
{
    unsigned n = 0;
    size_t start = 0;
    for (unsigned i = 0; i < PIECES_MAX - 1; i++) {
        size_t end = (i + 1) * step;
        if (!(cuts & BIT(i)) || end >= len)
            continue;
        iov[n++] = (struct iovec){bytes + start, end - start};
        start = end;
    }
    if (len > start)
        iov[n++] = (struct iovec){bytes + start, len - start};
    return n;
}

static uint8_t parse_cut(struct sample *s, unsigned out_cuts, unsigned in_cuts)
{
    struct vu_chain *chain = &s->chain;
    chain->iov = s->iov;
    chain->iov_max = ARRAY_SIZE(s->iov);
    chain->n_out = cut(s->iov, s->out, s->out_len, out_cuts, MAX(s->out_len / PIECES_MAX, 1));
    chain->n_in =
        cut(s->iov + chain->n_out, s->in, s->in_len, in_cuts, MAX(s->in_len / PIECES_MAX, 1));
    chain->out_len = s->out_len;
    chain->in_len = s->in_len;
    return blk_request_parse(&s->request, &disk, chain, s->data);
}

static uint8_t parse(struct sample *s)
{
    return parse_cut(s, 0, 0);
}

static size_t data_len(const struct blk_request *request)
{
    size_t len = 0;
    for (unsigned i = 0; i < request->n_data; i++) {
        assert_true(request->data[i].iov_len > 0);
        len += request->data[i].iov_len;
    }
    return len;
}

static void header_and_data_of_a_write_may_be_parted_anywhere(void **state)
{
    (void)state;
    for (unsigned cuts = 0; cuts < BIT(PIECES_MAX - 1); cuts++) {
        struct sample s;
        uint8_t found[512];
        header(&s, BLK_T_OUT, 3);
        s.out_len += 512;
        for (size_t i = 0; i < 512; i++)
            s.out[BLK_HEADER_BYTES + i] = (uint8_t)(i * 7);
        assert_int_equal(parse_cut(&s, cuts, 0), BLK_S_OK);
        assert_int_equal(s.request.offset, 3 * 512);
        assert_int_equal(s.request.len, 512);
        assert_int_equal(data_len(&s.request), 512);
        assert_int_equal(blk_iov_read(s.request.data, s.request.n_data, found, 512), 512);
        assert_memory_equal(found, s.out + BLK_HEADER_BYTES, 512);
        assert_ptr_equal(s.request.status_at, s.in);
    }
}

static void a_header_byte_by_byte_is_read(void **state)
{
    (void)state;
    struct sample s;
    header(&s, BLK_T_FLUSH, 0);
    struct vu_chain chain = {.out_len = BLK_HEADER_BYTES, .in_len = 1};
    struct iovec iov[BLK_HEADER_BYTES + 1], data[BLK_HEADER_BYTES + 1];
    for (unsigned i = 0; i < BLK_HEADER_BYTES; i++)
        iov[i] = (struct iovec){s.out + i, 1};
    iov[BLK_HEADER_BYTES] = (struct iovec){s.in, 1};
    chain.iov = iov;
    chain.n_out = BLK_HEADER_BYTES;
    chain.n_in = 1;
    assert_int_equal(blk_request_parse(&s.request, &disk, &chain, data), BLK_S_OK);
    assert_int_equal(s.request.type, BLK_T_FLUSH);
}

static void data_and_status_of_a_read_may_be_parted_anywhere(void **state)
{
    (void)state;
    for (unsigned cuts = 0; cuts < BIT(PIECES_MAX - 1); cuts++) {
        struct sample s;
        header(&s, BLK_T_IN, 14);
        s.in_len = 1024 + 1;
        assert_int_equal(parse_cut(&s, 0, cuts), BLK_S_OK);
        assert_int_equal(s.request.len, 1024);
        assert_int_equal(data_len(&s.request), 1024);
        assert_ptr_equal(s.request.status_at, s.in + 1024);
        /* The chain goes back as it came. */
        assert_int_equal(
            s.chain.iov[s.chain.n_out + s.chain.n_in - 1].iov_len,
            s.in_len -
                (size_t)((uint8_t *)s.chain.iov[s.chain.n_out + s.chain.n_in - 1].iov_base - s.in));
    }
}

static void a_status_with_a_buffer_of_its_own_leaves_no_empty_one(void **state)
{
    (void)state;
    struct sample s;
    header(&s, BLK_T_IN, 0);
    struct iovec iov[] = {{s.out, BLK_HEADER_BYTES}, {s.in, 512}, {s.in + 512, 1}}, data[3];
    struct vu_chain chain = {
        .iov = iov, .n_out = 1, .n_in = 2, .out_len = BLK_HEADER_BYTES, .in_len = 513};
    assert_int_equal(blk_request_parse(&s.request, &disk, &chain, data), BLK_S_OK);
    assert_int_equal(s.request.n_data, 1);
    assert_int_equal(data_len(&s.request), 512);
    assert_int_equal(iov[2].iov_len, 1);
}

static void ranges_beyond_the_disk_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t sector;
        size_t len;
        uint8_t status;
    } cases[] = {
        {15, 512, BLK_S_OK},
        {15, 1024, BLK_S_IOERR},
        {16, 512, BLK_S_IOERR},
        {16, 0, BLK_S_OK},
        {17, 0, BLK_S_IOERR},
        {0, 511, BLK_S_IOERR},
        {0, 513, BLK_S_IOERR},
        {UINT64_MAX, 512, BLK_S_IOERR},
        {UINT64_MAX / 512, 512, BLK_S_IOERR},
        {1ull << 55, 512, BLK_S_IOERR},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sample s;
        header(&s, BLK_T_IN, cases[i].sector);
        s.in_len = cases[i].len + 1;
        assert_int_equal(parse(&s), cases[i].status);
        assert_ptr_equal(s.request.status_at, s.in + cases[i].len);
        if (cases[i].len > 512)
            continue;
        header(&s, BLK_T_OUT, cases[i].sector);
        s.out_len += MIN(cases[i].len, 512);
        assert_int_equal(parse(&s), cases[i].status);
    }
}

static void a_short_header_is_an_error_with_a_status(void **state)
{
    (void)state;
    for (size_t len = 0; len < BLK_HEADER_BYTES; len++) {
        struct sample s;
        header(&s, BLK_T_IN, 0);
        s.out_len = len;
        assert_int_equal(parse(&s), BLK_S_IOERR);
        assert_ptr_equal(s.request.status_at, s.in);
    }
}

static void a_request_without_room_for_a_status_has_none(void **state)
{
    (void)state;
    struct sample s;
    header(&s, BLK_T_FLUSH, 0);
    s.in_len = 0;
    assert_int_equal(parse(&s), BLK_S_IOERR);
    assert_null(s.request.status_at);
    memset(&s, 0, sizeof(s));
    assert_int_equal(parse(&s), BLK_S_IOERR);
    assert_null(s.request.status_at);
}

static void unknown_types_are_unsupported(void **state)
{
    (void)state;
    static const uint32_t types[] = {2, 3, 5, 9, 10, 12, 14, 15, 16, 18, 24, 26, UINT32_MAX, 256};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct sample s;
        header(&s, types[i], 0);
        assert_int_equal(parse(&s), BLK_S_UNSUPP);
        assert_ptr_equal(s.request.status_at, s.in);
    }
}

static void add_segment(struct sample *s, uint64_t sector, uint32_t len, uint32_t flags)
{
    uint8_t *at = s->out + s->out_len;
    store_le64(at, sector);
    store_le32(at + 8, len);
    store_le32(at + 12, flags);
    s->out_len += BLK_SEGMENT_BYTES;
}

static void segments_may_be_parted_anywhere(void **state)
{
    (void)state;
    for (unsigned cuts = 0; cuts < BIT(PIECES_MAX - 1); cuts++) {
        struct sample s;
        header(&s, BLK_T_WRITE_ZEROES, 77);
        add_segment(&s, 1, 2, 0);
        add_segment(&s, 5, 11, 1);
        assert_int_equal(parse_cut(&s, cuts, 0), BLK_S_OK);
        assert_int_equal(s.request.n_segments, 2);
        assert_int_equal(s.request.segments[0].offset, 512);
        assert_int_equal(s.request.segments[0].len_sectors, 2);
        assert_false(s.request.segments[0].unmap);
        assert_int_equal(s.request.segments[1].offset, 5 * 512);
        assert_int_equal(s.request.segments[1].len_sectors, 11);
        assert_true(s.request.segments[1].unmap);
    }
}

static void segments_are_checked_each(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t len, flags;
        uint8_t status;
    } cases[] = {
        {BLK_T_DISCARD, 0, 16, 0, BLK_S_OK},
        {BLK_T_DISCARD, 0, 17, 0, BLK_S_IOERR},
        {BLK_T_DISCARD, 16, 1, 0, BLK_S_IOERR},
        {BLK_T_DISCARD, UINT64_MAX, 2, 0, BLK_S_IOERR},
        {BLK_T_DISCARD, 0, UINT32_MAX, 0, BLK_S_IOERR},
        {BLK_T_DISCARD, 0, 1, 1, BLK_S_UNSUPP}, /* virtio 1.2: unmap is of write zeroes alone */
        {BLK_T_DISCARD, 0, 1, 2, BLK_S_UNSUPP},
        {BLK_T_WRITE_ZEROES, 0, 1, 2, BLK_S_UNSUPP},
        {BLK_T_WRITE_ZEROES, 15, 2, 1, BLK_S_IOERR},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sample s;
        header(&s, cases[i].type, 0);
        add_segment(&s, 0, 1, 0);
        add_segment(&s, cases[i].sector, cases[i].len, cases[i].flags);
        assert_int_equal(parse(&s), cases[i].status);
    }
}

static void segments_must_be_whole_and_few(void **state)
{
    (void)state;
    struct sample s;
    header(&s, BLK_T_DISCARD, 0);
    assert_int_equal(parse(&s), BLK_S_IOERR); /* none */
    add_segment(&s, 0, 1, 0);
    s.out_len--;
    assert_int_equal(parse(&s), BLK_S_IOERR);
    header(&s, BLK_T_DISCARD, 0);
    for (unsigned i = 0; i < BLK_SEGMENTS_MAX; i++)
        add_segment(&s, i, 1, 0);
    assert_int_equal(parse(&s), BLK_S_OK);
    add_segment(&s, 0, 1, 0);
    assert_int_equal(parse(&s), BLK_S_IOERR);
}

static void a_read_only_disk_is_read_only(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        uint8_t status;
    } cases[] = {
        {BLK_T_IN, BLK_S_OK},     {BLK_T_OUT, BLK_S_IOERR},     {BLK_T_FLUSH, BLK_S_OK},
        {BLK_T_GET_ID, BLK_S_OK}, {BLK_T_DISCARD, BLK_S_IOERR}, {BLK_T_WRITE_ZEROES, BLK_S_IOERR},
    };
    disk.readonly = true;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sample s;
        header(&s, cases[i].type, 0);
        if (cases[i].type == BLK_T_OUT)
            s.out_len += 512;
        else if (cases[i].type >= BLK_T_DISCARD)
            add_segment(&s, 0, 1, 0);
        assert_int_equal(parse(&s), cases[i].status);
    }
    disk.readonly = false;
}

static void what_the_file_system_cannot_discard_is_unsupported(void **state)
{
    (void)state;
    struct sample s;
    disk.can_discard = false;
    header(&s, BLK_T_DISCARD, 0);
    add_segment(&s, 0, 1, 0);
    assert_int_equal(parse(&s), BLK_S_UNSUPP);
    header(&s, BLK_T_WRITE_ZEROES, 0);
    add_segment(&s, 0, 1, 1);
    assert_int_equal(parse(&s), BLK_S_OK);
    disk.can_discard = true;
}

static void buffers_are_dropped_from_the_front(void **state)
{
    (void)state;
    uint8_t bytes[10];
    struct iovec whole[] = {{bytes, 3}, {bytes + 3, 4}, {bytes + 7, 3}};
    for (uint64_t len = 0; len <= 12; len++) {
        struct iovec iov[3], *at = iov;
        unsigned n = 3;
        memcpy(iov, whole, sizeof(whole));
        blk_iov_drop(&at, &n, len);
        uint64_t left = len < 10 ? 10 - len : 0, found = 0;
        for (unsigned i = 0; i < n; i++)
            found += at[i].iov_len;
        assert_int_equal(found, left);
        if (left)
            assert_ptr_equal(at[0].iov_base, bytes + len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_and_data_of_a_write_may_be_parted_anywhere),
        cmocka_unit_test(a_header_byte_by_byte_is_read),
        cmocka_unit_test(data_and_status_of_a_read_may_be_parted_anywhere),
        cmocka_unit_test(a_status_with_a_buffer_of_its_own_leaves_no_empty_one),
        cmocka_unit_test(ranges_beyond_the_disk_are_refused),
        cmocka_unit_test(a_short_header_is_an_error_with_a_status),
        cmocka_unit_test(a_request_without_room_for_a_status_has_none),
        cmocka_unit_test(unknown_types_are_unsupported),
        cmocka_unit_test(segments_may_be_parted_anywhere),
        cmocka_unit_test(segments_are_checked_each),
        cmocka_unit_test(segments_must_be_whole_and_few),
        cmocka_unit_test(a_read_only_disk_is_read_only),
        cmocka_unit_test(what_the_file_system_cannot_discard_is_unsupported),
        cmocka_unit_test(buffers_are_dropped_from_the_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
