#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/net.h"
#include "fake_queue.h"
#include "fake_tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

int __wrap_ioctl(int fd, unsigned long request, ...);
ssize_t __wrap_readv(int fd, const struct iovec *iov, int n);

#define USO (NET_F_GUEST_USO4 | NET_F_GUEST_USO6)

static const uint64_t guest_features[] = {
    NET_F_GUEST_CSUM, NET_F_GUEST_TSO4, NET_F_GUEST_TSO6, NET_F_GUEST_ECN,
    NET_F_GUEST_UFO,  NET_F_GUEST_USO4, NET_F_GUEST_USO6,
};

/* The tap: what was set, and what its reads answer. */
static struct {
    unsigned long offloads;
    int errors[8]; /* of one read after another, the last of them for ever; 0: a frame */
    unsigned n_errors, n_reads;
} tap;

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    (void)fd;
    va_start(arguments, request);
    unsigned long value = va_arg(arguments, unsigned long);
    va_end(arguments);
    if (request != (unsigned long)TUNSETOFFLOAD)
        return 0;
    int ret = fake_tap_set_offload(value);
    if (ret == 0)
        tap.offloads = value;
    errno = -ret;
    return ret < 0 ? -1 : 0;
}

#define FRAME_BYTES 60u

ssize_t __wrap_readv(int fd, const struct iovec *iov, int n)
{
    (void)fd;
    errno = tap.errors[MIN(tap.n_reads, tap.n_errors - 1)];
    tap.n_reads++;
    if (errno)
        return -1;
    assert_true(n > 1 && iov[0].iov_len == NET_HEADER_BYTES && iov[1].iov_len >= FRAME_BYTES);
    memset(iov[0].iov_base, 0, NET_HEADER_BYTES);
    memset(iov[1].iov_base, 0x5a, FRAME_BYTES);
    return NET_HEADER_BYTES + FRAME_BYTES;
}

static void
whatever_part_of_the_offloads_a_driver_takes_the_kernel_is_told_a_part_that_it_takes(void **state)
{
    (void)state;
    for (unsigned which = 0; which < BIT(ARRAY_SIZE(guest_features)); which++) {
        struct net_device device = {.lock = PTHREAD_MUTEX_INITIALIZER, .n_pairs = 1};
        struct error err = ERROR_INIT;
        uint64_t features = VIRTIO_F_VERSION_1;
        for (size_t i = 0; i < ARRAY_SIZE(guest_features); i++)
            features |= which & BIT(i) ? guest_features[i] : 0;
        assert_int_equal(net_attach(&device, &device.pairs[0], features, &err), 0);
        bool segments = features & NET_F_GUEST_CSUM;
        unsigned long tso4 = segments && features & NET_F_GUEST_TSO4 ? TUN_F_TSO4 : 0;
        unsigned long tso6 = segments && features & NET_F_GUEST_TSO6 ? TUN_F_TSO6 : 0;
        bool ecn = features & NET_F_GUEST_ECN && (tso4 || tso6);
        bool uso = segments && (features & USO) == USO;
        bool ufo = segments && features & NET_F_GUEST_UFO;
        assert_int_equal(tap.offloads, (segments ? TUN_F_CSUM : 0) | tso4 | tso6 |
                                           (ecn ? TUN_F_TSO_ECN : 0) | (ufo ? TUN_F_UFO : 0) |
                                           (uso ? TUN_F_USO4 | TUN_F_USO6 : 0));
    }
}

static void a_header_is_for_a_driver_that_agreed_to_all_that_it_says(void **state)
{
    (void)state;
    const uint64_t csum = NET_F_GUEST_CSUM;
    const struct {
        uint8_t flags, gso_type;
        uint64_t needed;
    } headers[] = {
        {0, NET_HDR_GSO_NONE, 0},
        {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_NONE, csum},
        {0, NET_HDR_GSO_TCPV4, csum | NET_F_GUEST_TSO4},
        {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_TCPV6, csum | NET_F_GUEST_TSO6},
        {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_TCPV4 | NET_HDR_GSO_ECN,
         csum | NET_F_GUEST_TSO4 | NET_F_GUEST_ECN},
        {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_UDP, csum | NET_F_GUEST_UFO},
        {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_UDP_L4, csum | USO},
        {NET_HDR_F_NEEDS_CSUM, 2, UINT64_MAX},
        {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_ECN, UINT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
        for (unsigned which = 0; which < BIT(ARRAY_SIZE(guest_features)); which++) {
            uint64_t features = 0;
            for (size_t j = 0; j < ARRAY_SIZE(guest_features); j++)
                features |= which & BIT(j) ? guest_features[j] : 0;
            struct net_header header = {.flags = headers[i].flags, .gso_type = headers[i].gso_type};
            bool agreed = (headers[i].needed & ~features) == 0;
            assert_int_equal(net_header_agreed(&header, features), agreed);
            assert_true(!agreed || header.flags == headers[i].flags);
        }
}

static void a_driver_is_told_no_flag_that_it_does_not_know(void **state)
{
    (void)state;
    struct net_header header = {.flags = 0xfe};
    assert_true(net_header_agreed(&header, NET_F_GUEST_CSUM));
    assert_int_equal(header.flags, NET_HDR_F_DATA_VALID);
    assert_true(net_header_agreed(&header, 0));
    assert_int_equal(header.flags, 0);
}

/** receive() - until the queue would wait for the first time, or has no buffers any more. Returns how many were filled. */
static unsigned receive(struct net_device *device)
{
    static uint8_t buffers[4][2048];
    struct vu_queue *queue = calloc(1, sizeof(*queue));
    assert_non_null(queue);
    assert_int_equal(fake_queue_init(queue), 0);
    queue->features = VIRTIO_F_VERSION_1;
    for (size_t i = 0; i < ARRAY_SIZE(buffers); i++) {
        const struct iovec iov = {buffers[i], sizeof(buffers[i])};
        fake_queue_add(queue, NULL, 0, &iov, 1);
    }
    assert_int_equal(eventfd_write(queue->stop_fd, 1), 0);
    tap.n_reads = 0;
    net_rx_run(device, &device->pairs[0], queue);
    unsigned filled = queue->n_answered;
    for (unsigned i = 0; i < filled; i++)
        assert_int_equal(queue->requests[i].written, NET_HEADER_BYTES + FRAME_BYTES);
    assert_int_equal(queue->n_popped, filled);
    fake_queue_clear(queue);
    free(queue);
    return filled;
}

static void a_frame_that_the_kernel_cannot_hand_over_is_lost_alone(void **state)
{
    (void)state;
    const int lost[] = {EFAULT, EINVAL, ENOMEM, EIO, EINTR};
    for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
        struct net_device device = {.lock = PTHREAD_MUTEX_INITIALIZER, .n_pairs = 1};
        tap.errors[0] = lost[i];
        tap.errors[1] = 0;
        tap.errors[2] = lost[i];
        tap.errors[3] = 0;
        tap.errors[4] = EAGAIN;
        tap.n_errors = 5;
        assert_int_equal(receive(&device), 2);
        assert_int_equal(tap.n_reads, 5);
        assert_false(device.tap_gone);
    }
}

static void a_tap_that_fails_whatever_is_done_is_left_alone_for_a_while(void **state)
{
    (void)state;
    struct net_device device = {.lock = PTHREAD_MUTEX_INITIALIZER, .n_pairs = 1};
    tap.errors[0] = EFAULT;
    tap.n_errors = 1;
    assert_int_equal(receive(&device), 0);
    assert_int_equal(tap.n_reads, 64);
    assert_false(device.tap_gone);
}

static void a_tap_that_was_deleted_is_not_read_again(void **state)
{
    (void)state;
    const int gone[] = {EBADFD, ENODEV};
    for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
        struct net_device device = {.lock = PTHREAD_MUTEX_INITIALIZER, .n_pairs = 1};
        tap.errors[0] = gone[i];
        tap.n_errors = 1;
        assert_int_equal(receive(&device), 0);
        assert_int_equal(tap.n_reads, 1);
        assert_true(device.tap_gone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            whatever_part_of_the_offloads_a_driver_takes_the_kernel_is_told_a_part_that_it_takes),
        cmocka_unit_test(a_header_is_for_a_driver_that_agreed_to_all_that_it_says),
        cmocka_unit_test(a_driver_is_told_no_flag_that_it_does_not_know),
        cmocka_unit_test(a_frame_that_the_kernel_cannot_hand_over_is_lost_alone),
        cmocka_unit_test(a_tap_that_fails_whatever_is_done_is_left_alone_for_a_while),
        cmocka_unit_test(a_tap_that_was_deleted_is_not_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
