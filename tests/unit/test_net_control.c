#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "virtio/control_queue.h"
#include "virtio/net_control.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES 0x20000u
#define NUM 16u
#define DESC_AT 0x1000u
#define AVAIL_AT 0x2000u
#define USED_AT 0x3000u
#define TABLE_AT 0x4000u
#define DATA_AT 0x5000u
#define ANSWER_AT 0x10000u
#define NEXT 1u
#define WRITE 2u
#define INDIRECT 4u
#define F_INDIRECT BIT64(28)
#define F_EVENT BIT64(29)

/* A driver's side of the control queue, and what was handed on. */
struct fixture {
    struct guest_memory memory;
    struct virtio_pci_queue queue;
    struct control_queue control;
    uint16_t offered;
    unsigned handled;
    size_t last_len;
    uint8_t last[CONTROL_REQUEST_BYTES];
    struct error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->memory.fd = -1;
    f->memory.size = RAM_BYTES;
    f->memory.n_regions = 1;
    f->memory.regions[0] = (struct memory_region){.len = RAM_BYTES};
    f->memory.base =
        mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    f->queue = (struct virtio_pci_queue){.enabled = true,
                                         .size = NUM,
                                         .desc = DESC_AT,
                                         .driver = AVAIL_AT,
                                         .used = USED_AT,
                                         .kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                         .call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return f->memory.base == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    munmap(f->memory.base, RAM_BYTES);
    close(f->queue.kick_fd);
    close(f->queue.call_fd);
    free(f);
    return 0;
}

static void start(struct fixture *f, uint64_t features)
{
    assert_int_equal(control_queue_start(&f->control, &f->memory, &f->queue, features, &f->err), 0);
}

static void set_desc(struct fixture *f, uint32_t table, unsigned i, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    uint8_t *at = f->memory.base + table + 16 * i;
    store_le64(at, addr);
    store_le32(at + 8, len);
    store_le16(at + 12, flags);
    store_le16(at + 14, next);
}

static void offer(struct fixture *f, uint16_t head)
{
    store_le16(f->memory.base + AVAIL_AT + 4 + 2 * (f->offered++ % NUM), head);
    store_le16(f->memory.base + AVAIL_AT + 2, f->offered);
}

static uint8_t handle(void *ctx, const uint8_t *request, size_t len)
{
    struct fixture *f = ctx;
    f->handled++;
    f->last_len = len;
    memcpy(f->last, request, len);
    return 0;
}

static uint64_t count(int fd)
{
    eventfd_t value;
    return eventfd_read(fd, &value) == 0 ? value : 0;
}

/** serve() - as the device's thread does it: until the kick does not come again. */
static int serve(struct fixture *f)
{
    int ret;
    do
        ret = control_queue_serve(&f->control, handle, f, &f->err);
    while (ret == 0 && count(f->queue.kick_fd));
    return ret;
}

static uint16_t used_idx(const struct fixture *f)
{
    return load_le16(f->memory.base + USED_AT + 2);
}

/** request() - in three buffers: head, data, answer; in a table of its own if @indirect. */
static void request(struct fixture *f, bool indirect)
{
    uint32_t table = indirect ? TABLE_AT : DESC_AT;
    memcpy(f->memory.base + DATA_AT, "\x04\x00\x02\x00", 4);
    f->memory.base[ANSWER_AT] = 0xee;
    unsigned first = indirect ? 0 : 3;
    set_desc(f, table, first, DATA_AT, 2, NEXT, (uint16_t)(first + 1));
    set_desc(f, table, first + 1, DATA_AT + 2, 2, NEXT, (uint16_t)(first + 2));
    set_desc(f, table, first + 2, ANSWER_AT, 1, WRITE, 0);
    if (indirect)
        set_desc(f, DESC_AT, 3, TABLE_AT, 48, INDIRECT, 0);
    offer(f, 3);
}

static void a_request_in_parts_is_handed_on_whole_and_answered(void **state)
{
    struct fixture *f = *state;
    for (unsigned indirect = 0; indirect < 2; indirect++) {
        start(f, F_INDIRECT);
        f->offered = 0;
        store_le16(f->memory.base + USED_AT + 2, 0);
        request(f, indirect);
        assert_int_equal(serve(f), 0);
        assert_int_equal(f->handled, indirect + 1);
        assert_int_equal(f->last_len, 4);
        assert_memory_equal(f->last, "\x04\x00\x02\x00", 4);
        assert_int_equal(f->memory.base[ANSWER_AT], 0);
        assert_int_equal(used_idx(f), 1);
        assert_int_equal(load_le32(f->memory.base + USED_AT + 4), 3);
        assert_int_equal(load_le32(f->memory.base + USED_AT + 8), 1);
        assert_int_equal(count(f->queue.call_fd), 1);
    }
}

static void interrupts_and_kicks_are_as_the_driver_wants_them(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    store_le16(f->memory.base + AVAIL_AT, 1); /* no interrupt */
    request(f, false);
    assert_int_equal(serve(f), 0);
    assert_int_equal(count(f->queue.call_fd), 0);

    start(f, F_EVENT);
    f->offered = 0;
    request(f, false);
    store_le16(f->memory.base + AVAIL_AT + 4 + 2 * NUM, 5); /* used_event: not yet */
    assert_int_equal(serve(f), 0);
    assert_int_equal(count(f->queue.call_fd), 0);
    assert_int_equal(load_le16(f->memory.base + USED_AT + 4 + 8 * NUM), 1); /* avail_event */
    request(f, false);
    store_le16(f->memory.base + AVAIL_AT + 4 + 2 * NUM, 1);
    assert_int_equal(serve(f), 0);
    assert_int_equal(count(f->queue.call_fd), 1);
}

static void a_full_ring_is_served_one_request_after_another(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    for (uint16_t i = 0; i < NUM; i++) {
        set_desc(f, DESC_AT, i, ANSWER_AT, 1, WRITE, 0);
        offer(f, i);
    }
    for (unsigned i = 1; i <= NUM; i++) {
        assert_int_equal(control_queue_serve(&f->control, handle, f, &f->err), 0);
        assert_int_equal(f->handled, i);
        assert_int_equal(used_idx(f), i);
        assert_int_equal(count(f->queue.call_fd), 1);
        /* There may be more: nobody else would say so. */
        assert_int_equal(count(f->queue.kick_fd), 1);
    }
    assert_int_equal(control_queue_serve(&f->control, handle, f, &f->err), 0);
    assert_int_equal(f->handled, NUM);
    assert_int_equal(count(f->queue.kick_fd), 0);
}

static void a_request_that_is_too_long_gets_an_error(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    set_desc(f, DESC_AT, 0, DATA_AT, CONTROL_REQUEST_BYTES, NEXT, 1);
    set_desc(f, DESC_AT, 1, DATA_AT, 1, NEXT, 2);
    set_desc(f, DESC_AT, 2, ANSWER_AT, 1, WRITE, 0);
    offer(f, 0);
    assert_int_equal(serve(f), 0);
    assert_int_equal(f->handled, 0);
    assert_int_equal(f->memory.base[ANSWER_AT], CONTROL_ERROR);
    assert_int_equal(used_idx(f), 1);
}

static void a_request_that_cannot_be_answered_is_not_done(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    set_desc(f, DESC_AT, 0, DATA_AT, 4, 0, 0);
    offer(f, 0);
    set_desc(f, DESC_AT, 1, ANSWER_AT, 0, WRITE, 0);
    offer(f, 1);
    assert_int_equal(serve(f), 0);
    assert_int_equal(f->handled, 0);
    assert_int_equal(used_idx(f), 2);
}

static void a_driver_that_breaks_the_ring_is_told_apart(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next, head;
    } wrong[] = {
        {DATA_AT, 4, NEXT, 0, 0},                   /* a loop */
        {DATA_AT, 4, NEXT, NUM, 0},                 /* beyond the ring */
        {DATA_AT, 4, 0, 0, NUM},                    /* no such head */
        {RAM_BYTES - 2, 4, 0, 0, 0},                /* over the end of RAM */
        {UINT64_MAX - 1, 4, 0, 0, 0},               /* around the end of addresses */
        {RAM_BYTES, 1, WRITE, 0, 0},                /* an answer outside */
        {DATA_AT, 0xffffffff, 0, 0, 0},             /* longer than RAM */
        {TABLE_AT, 0, INDIRECT, 0, 0},              /* an empty table */
        {TABLE_AT, 17, INDIRECT, 0, 0},             /* no whole descriptors */
        {TABLE_AT, 16 * (NUM + 1), INDIRECT, 0, 0}, /* more than the ring has */
        {RAM_BYTES - 16, 32, INDIRECT, 0, 0},       /* a table over the end of RAM */
        {TABLE_AT, 16, INDIRECT | NEXT, 1, 0},      /* a table and more */
        {TABLE_AT + 16, 16, INDIRECT, 0, 0},        /* a table in a table */
        {TABLE_AT + 32, 16, INDIRECT, 0, 0},        /* a loop in a table */
    };
    set_desc(f, TABLE_AT, 1, TABLE_AT, 16, INDIRECT, 0);
    set_desc(f, TABLE_AT, 2, DATA_AT, 4, NEXT, 0);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        start(f, F_INDIRECT);
        f->offered = 0;
        set_desc(f, DESC_AT, 0, wrong[i].addr, wrong[i].len, wrong[i].flags, wrong[i].next);
        offer(f, wrong[i].head);
        assert_int_equal(serve(f), -EPROTO);
    }
    start(f, 0);
    f->offered = 0;
    set_desc(f, DESC_AT, 0, TABLE_AT, 16, INDIRECT, 0); /* was not agreed upon */
    offer(f, 0);
    assert_int_equal(serve(f), -EPROTO);
    start(f, 0);
    f->offered = NUM; /* seventeen requests in a ring of sixteen, and each is one */
    for (uint16_t i = 0; i < NUM; i++)
        set_desc(f, DESC_AT, i, ANSWER_AT, 1, WRITE, 0);
    offer(f, 0);
    assert_int_equal(serve(f), -EPROTO);
    start(f, 0);
    f->offered = 0;
    set_desc(f, DESC_AT, 0, ANSWER_AT, 1, WRITE | NEXT, 1);
    set_desc(f, DESC_AT, 1, DATA_AT, 4, 0, 0);
    offer(f, 0);
    assert_int_equal(serve(f), -EPROTO);
    assert_int_equal(f->handled, 0);
}

static void a_ring_outside_ram_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct virtio_pci_queue good = f->queue;
    struct virtio_pci_queue bad[] = {good, good, good, good};
    bad[0].desc = RAM_BYTES - 16;
    bad[1].driver = UINT64_MAX - 1;
    bad[2].used = USED_AT + 2;
    bad[3].size = 0;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(control_queue_start(&f->control, &f->memory, &bad[i], 0, &f->err),
                         -EINVAL);
        assert_null(f->control.memory);
    }
}

#define ASK(control, bytes) \
    net_control_request(control, (const uint8_t *)(bytes), sizeof(bytes) - 1)
#define EVERYTHING                                                                      \
    (NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA | NET_F_CTRL_VLAN | NET_F_MQ | \
     NET_F_CTRL_MAC_ADDR)

static void what_was_agreed_upon_is_done(void **state)
{
    (void)state;
    struct net_control c = {.features = EVERYTHING, .max_pairs = 4, .pairs = 1};
    assert_int_equal(ASK(&c, "\x04\x00\x03\x00"), NET_CTRL_OK);
    assert_int_equal(c.pairs, 3);
    assert_int_equal(ASK(&c, "\x01\x01\x02\x00\x00\x00\x00\x07"), NET_CTRL_OK);
    assert_memory_equal(c.mac, "\x02\x00\x00\x00\x00\x07", NET_MAC_BYTES);
    for (char mode = 0; mode <= (char)NET_CTRL_RX_EXTRA_LAST; mode++) {
        const uint8_t request[] = {NET_CTRL_RX, (uint8_t)mode, 1};
        assert_int_equal(net_control_request(&c, request, sizeof(request)), NET_CTRL_OK);
    }
    assert_int_equal(ASK(&c, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), NET_CTRL_OK);
    assert_int_equal(ASK(&c, "\x01\x00\x01\x00\x00\x00"
                             "abcdef"
                             "\x02\x00\x00\x00"
                             "abcdefghijkl"),
                     NET_CTRL_OK);
    assert_int_equal(ASK(&c, "\x02\x00\xff\x0f"), NET_CTRL_OK);
    assert_int_equal(ASK(&c, "\x02\x01\x01\x00"), NET_CTRL_OK);
}

static void what_is_malformed_changes_nothing(void **state)
{
    (void)state;
    struct net_control c = {.features = EVERYTHING, .max_pairs = 4, .pairs = 2};
    const struct net_control before = c;
    assert_int_equal(net_control_request(&c, (const uint8_t *)"", 0), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x04"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x04\x00\x00\x00"), NET_CTRL_ERR);     /* no pair */
    assert_int_equal(ASK(&c, "\x04\x00\x05\x00"), NET_CTRL_ERR);     /* too many */
    assert_int_equal(ASK(&c, "\x04\x00\x01"), NET_CTRL_ERR);         /* half a number */
    assert_int_equal(ASK(&c, "\x04\x00\x01\x00\x00"), NET_CTRL_ERR); /* more than one */
    assert_int_equal(ASK(&c, "\x04\x01\x01\x00"), NET_CTRL_ERR);     /* RSS */
    assert_int_equal(ASK(&c, "\x01\x01\x02\x00\x00\x00\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x00\x06\x01"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x00\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x01\x00\x01\x00\x00\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x01\x00\xff\xff\xff\xff\x00\x00\x00\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x02\x00\x00\x10"), NET_CTRL_ERR); /* no such VLAN */
    assert_int_equal(ASK(&c, "\x02\x02\x01\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x03\x00\x01"), NET_CTRL_ERR); /* announcing was not offered */
    assert_int_equal(ASK(&c, "\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00"), NET_CTRL_ERR);
    assert_memory_equal(&c, &before, sizeof(c));
}

static void what_was_not_agreed_upon_is_refused(void **state)
{
    (void)state;
    struct net_control c = {.features = NET_F_CTRL_VQ, .max_pairs = 4, .pairs = 1};
    const struct net_control before = c;
    assert_int_equal(ASK(&c, "\x04\x00\x03\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x01\x01\x02\x00\x00\x00\x00\x07"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x00\x00\x01"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x00\x03\x01"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), NET_CTRL_ERR);
    assert_int_equal(ASK(&c, "\x02\x00\x01\x00"), NET_CTRL_ERR);
    assert_memory_equal(&c, &before, sizeof(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_in_parts_is_handed_on_whole_and_answered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(interrupts_and_kicks_are_as_the_driver_wants_them, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_ring_is_served_one_request_after_another, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_request_that_is_too_long_gets_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_that_cannot_be_answered_is_not_done, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_driver_that_breaks_the_ring_is_told_apart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_ring_outside_ram_is_refused, setup, teardown),
        cmocka_unit_test(what_was_agreed_upon_is_done),
        cmocka_unit_test(what_is_malformed_changes_nothing),
        cmocka_unit_test(what_was_not_agreed_upon_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
