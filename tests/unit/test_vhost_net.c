/* A network driver's control queue, and the back-end whose queues it is about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device_fixture.h"
#include "virtio/net.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

enum { PAIRS = 2, CONTROL = 2 * PAIRS };
#define REQUEST_AT 0x80000
#define ANSWER_AT 0x81000
#define NEXT 1
#define WRITE 2

/** create_net() - a device of two pairs of queues, which a driver has taken up. */
static struct fixture *create_net(struct fixture *f)
{
    static const struct vhost_user_net net = {.mac = {2}, .pairs = PAIRS};
    f->params.name = "net0";
    f->params.virtio_id = 1;
    f->params.n_queues = CONTROL + 1;
    f->params.config_len = NET_CONFIG_BYTES;
    f->params.net = &net;
    f->transport.driver_features = VIRTIO_F_VERSION_1 | NET_F_CTRL_VQ | NET_F_MQ;
    create_active(f);
    /* The doorbells come behind the last answer. */
    assert_true(kicked(&f->connections[0], 0));
    return f;
}

static void set_desc(const struct fixture *f, unsigned i, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    uint8_t *at = f->memory.base + f->transport.queues[CONTROL].desc + (size_t)16 * i;
    store_le64(at, addr);
    store_le32(at + 8, len);
    store_le16(at + 12, flags);
    store_le16(at + 14, next);
}

/** ask_for_pairs() - as a driver asks for the first time. Returns what it is answered. */
static uint8_t ask_for_pairs(struct fixture *f, uint16_t pairs)
{
    const struct virtio_pci_queue *queue = &f->transport.queues[CONTROL];
    uint8_t *request = f->memory.base + REQUEST_AT, *avail = f->memory.base + queue->driver;
    request[0] = NET_CTRL_MQ;
    request[1] = NET_CTRL_MQ_VQ_PAIRS_SET;
    store_le16(request + 2, pairs);
    f->memory.base[ANSWER_AT] = 0xee;
    set_desc(f, 0, REQUEST_AT, 4, NEXT, 1);
    set_desc(f, 1, ANSWER_AT, 1, WRITE, 0);
    store_le16(avail + 2, 1);
    assert_int_equal(eventfd_write(queue->kick_fd, 1), 0);
    struct pollfd answered = {.fd = queue->call_fd, .events = POLLIN};
    assert_int_equal(poll(&answered, 1, 30000), 1);
    return f->memory.base[ANSWER_AT];
}

static void pairs_are_enabled_by_the_back_end_when_the_driver_has_its_answer(void **state)
{
    struct fixture *f = create_net(*state);
    struct scripted_backend *b = &f->connections[0];
    assert_true(b->queues[1].enabled && !b->queues[2].enabled);
    assert_int_equal(ask_for_pairs(f, 2), NET_CTRL_OK);
    assert_true(b->queues[2].enabled && b->queues[3].enabled);
    assert_int_equal(f->n.connects, 1);
}

/* A driver that is told of an error keeps to the number of before, and has no buffers in the queues of the others. */
static void pairs_that_a_dying_back_end_was_asked_for_are_those_of_the_next(void **state)
{
    static const enum scripted_fault faults[] = {FAULT_CLOSE, FAULT_SILENT, FAULT_OTHER_REQUEST};
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        struct fixture *f = *state;
        f->params.timeout_ms = 1000;
        memset(f->memory.base, 0, RAM_BYTES);
        create_net(f);
        f->connections[0].fault_at = VHOST_USER_SET_VRING_ENABLE;
        f->connections[0].fault = faults[i];
        assert_int_equal(ask_for_pairs(f, 2), NET_CTRL_OK);
        assert_true(reaches(&f->n.interrupts, 1, 30000));
        for (unsigned queue = 0; queue < CONTROL; queue++)
            assert_true(f->connections[1].queues[queue].enabled);
        eventfd_t count;
        assert_int_equal(eventfd_read(f->transport.queues[CONTROL].call_fd, &count), 0);
        forget_device(f);
    }
}

static void pairs_that_the_back_end_refuses_are_an_error_and_need_a_reset(void **state)
{
    struct fixture *f = create_net(*state);
    f->connections[0].fault_at = VHOST_USER_SET_VRING_ENABLE;
    f->connections[0].fault = FAULT_REFUSE;
    assert_int_equal(ask_for_pairs(f, 2), NET_CTRL_ERR);
    assert_true(reaches(&f->n.needs_reset, 1, 30000));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pairs_are_enabled_by_the_back_end_when_the_driver_has_its_answer),
        TEST(pairs_that_a_dying_back_end_was_asked_for_are_those_of_the_next),
        TEST(pairs_that_the_back_end_refuses_are_an_error_and_need_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
