#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "fake_kvm.h"
#include "virtio_driver.h"
#include "x86/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define MSIX_ON 0x8000
#define MSIX_MASK_ALL 0x4000
#define NO_VECTOR 0xffff

static int setup(void **state)
{
    struct virtio_driver *d = calloc(1, sizeof(*d));
    fake_kvm_reset();
    assert_int_equal(driver_init(d, -1, NULL), 0);
    *state = d;
    return 0;
}

/** teardown() - whatever a test did, nothing may be left in KVM, and KVM never had to refuse anything. */
static int teardown(void **state)
{
    struct virtio_driver *d = *state;
    driver_destroy(d);
    free(d);
    bool routes_left = false;
    for (unsigned i = 0; i < FAKE_KVM_MAX; i++)
        routes_left |= fake_kvm.routes[i].allocated;
    return fake_kvm.n_doorbells || fake_kvm.n_irqfds || fake_kvm.mistakes || routes_left;
}

static uint64_t common(struct virtio_driver *d, unsigned reg, unsigned len)
{
    return driver_read(d, d->at.common + reg, len);
}

static void set_common(struct virtio_driver *d, unsigned reg, uint64_t value, unsigned len)
{
    driver_write(d, d->at.common + reg, value, len);
}

static uint64_t status(struct virtio_driver *d)
{
    return common(d, COMMON_STATUS, 1);
}

static void set_msix(struct virtio_driver *d, unsigned control)
{
    driver_pci_write(d, d->at.msix + 2, control, 2);
}

static unsigned count_of(int fd)
{
    eventfd_t count = 0;
    return eventfd_read(fd, &count) == 0 ? (unsigned)count : 0;
}

static void signal_queue(struct virtio_driver *d, unsigned queue)
{
    eventfd_write(virtio_pci_queue(d->transport, queue)->call_fd, 1);
}

static unsigned pending(struct virtio_driver *d)
{
    return (unsigned)driver_read(d, d->at.pba, 8);
}

static void a_driver_finds_every_structure(void **state)
{
    struct virtio_driver *d = *state;
    assert_int_equal(driver_pci_read(d, 0x00, 4), 0x10421af4);
    assert_int_equal(driver_pci_read(d, 0x08, 4), 0x01800001); /* class, revision 1 */
    assert_int_equal(driver_pci_read(d, 0x3d, 1), 0);          /* no INTx */
    assert_int_equal(driver_pci_read(d, 0x10, 4) & 0xf, 0);    /* 32-bit memory */
    assert_int_not_equal(driver_bar(d), 0);
    assert_int_equal(d->at.notify_step, 4);
    assert_true(d->at.window && d->at.msix);
    assert_int_equal(driver_pci_read(d, d->at.msix + 2, 2), DRIVER_QUEUES);
    assert_int_equal(common(d, COMMON_NUM_QUEUES, 2), DRIVER_QUEUES);
    uint32_t starts[] = {d->at.common, d->at.isr,   d->at.device,
                         d->at.notify, d->at.table, d->at.pba};
    for (unsigned i = 1; i < ARRAY_SIZE(starts); i++)
        assert_true(starts[i] >= starts[i - 1] + 0x1000);
}

static void features_are_those_offered_and_fixed_once_accepted(void **state)
{
    struct virtio_driver *d = *state;
    uint64_t offered = 0;
    for (unsigned half = 0; half < 2; half++) {
        set_common(d, COMMON_FEATURE_SELECT, half, 4);
        offered |= common(d, COMMON_FEATURE, 4) << (32 * half);
    }
    assert_true(offered == (DRIVER_FEATURES | VIRTIO_F_VERSION_1));
    set_common(d, COMMON_FEATURE_SELECT, 2, 4);
    assert_int_equal(common(d, COMMON_FEATURE, 4), 0);
    set_common(d, COMMON_FEATURE_SELECT, UINT32_MAX, 4);
    assert_int_equal(common(d, COMMON_FEATURE, 4), 0);

    assert_false(driver_accept(d, DRIVER_FEATURES));     /* a legacy driver */
    assert_false(driver_accept(d, offered | 2));         /* never offered */
    assert_false(driver_accept(d, offered | BIT64(40))); /* not the transport's */
    set_common(d, COMMON_STATUS, 0x0f, 1);
    assert_int_equal(status(d), 3);
    assert_int_equal(d->activated, 0);
    assert_true(driver_accept(d, VIRTIO_F_VERSION_1 | 4));
    set_common(d, COMMON_DRIVER_FEATURE, 0, 4);
    set_common(d, COMMON_DRIVER_FEATURE_SELECT, 7, 4);
    set_common(d, COMMON_DRIVER_FEATURE, 0, 4);
    assert_true(virtio_pci_features(d->transport) == (VIRTIO_F_VERSION_1 | 4));
}

static void status_bits_are_only_added_until_a_reset(void **state)
{
    struct virtio_driver *d = *state;
    set_common(d, COMMON_STATUS, 1, 1);
    set_common(d, COMMON_STATUS, 2, 1);
    assert_int_equal(status(d), 3);
    set_common(d, COMMON_STATUS, 0x40 | 0x30,
               1); /* DEVICE_NEEDS_RESET is the device's; 0x30 is nothing */
    assert_int_equal(status(d), 3);
    set_common(d, COMMON_STATUS, 0x80, 1);
    assert_int_equal(status(d), 0x83);
    set_common(d, COMMON_STATUS, 0, 1);
    assert_int_equal(status(d), 0);
    assert_int_equal(d->reset, 0); /* it never ran: there is nothing to drain */
    driver_start(d);
    assert_int_equal(status(d), 0x0f);
    set_common(d, COMMON_STATUS, 0x0f, 1);
    assert_int_equal(d->activated, 1);
}

static void queues_are_set_up_before_they_are_enabled(void **state)
{
    struct virtio_driver *d = *state;
    set_common(d, COMMON_QUEUE_SELECT, 1, 2);
    assert_int_equal(common(d, COMMON_QUEUE_SIZE, 2), DRIVER_QUEUE_SIZE);
    assert_int_equal(common(d, COMMON_QUEUE_NOTIFY, 2), 1);
    static const uint16_t refused[] = {0, 3, 96, 256, 0x8000, 0xffff};
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        set_common(d, COMMON_QUEUE_SIZE, refused[i], 2);
    assert_int_equal(common(d, COMMON_QUEUE_SIZE, 2), DRIVER_QUEUE_SIZE);
    set_common(d, COMMON_QUEUE_SIZE, 32, 2);
    set_common(d, COMMON_QUEUE_DESC, 0x1122334455667780, 8);
    set_common(d, COMMON_QUEUE_DRIVER, 0x89abcdee, 4);
    set_common(d, COMMON_QUEUE_DRIVER + 4, 0x01234567, 4);
    set_common(d, COMMON_QUEUE_USED + 4, 0x0fedcba9, 4);
    set_common(d, COMMON_QUEUE_USED, 0x87654320, 4);
    set_common(d, COMMON_QUEUE_ENABLE, 2, 2);
    assert_int_equal(common(d, COMMON_QUEUE_ENABLE, 2), 0);
    set_common(d, COMMON_QUEUE_ENABLE, 1, 2);

    set_common(d, COMMON_QUEUE_ENABLE, 0, 2);
    set_common(d, COMMON_QUEUE_SIZE, 64, 2);
    set_common(d, COMMON_QUEUE_DESC, 0, 8);
    set_common(d, COMMON_QUEUE_USED + 4, 0, 4);
    const struct virtio_pci_queue *queue = virtio_pci_queue(d->transport, 1);
    assert_true(queue->enabled);
    assert_int_equal(queue->size, 32);
    assert_true(queue->desc == 0x1122334455667780);
    assert_true(queue->driver == 0x0123456789abcdee);
    assert_true(queue->used == 0x0fedcba987654320);
    assert_true(common(d, COMMON_QUEUE_DESC, 8) == queue->desc);
    assert_int_equal(common(d, COMMON_QUEUE_DRIVER + 4, 4), 0x01234567);
    assert_false(virtio_pci_queue(d->transport, 0)->enabled);

    set_common(d, COMMON_QUEUE_SELECT, DRIVER_QUEUES, 2);
    assert_int_equal(common(d, COMMON_QUEUE_SIZE, 2), 0);
    assert_int_equal(common(d, COMMON_QUEUE_VECTOR, 2), NO_VECTOR);
    set_common(d, COMMON_QUEUE_ENABLE, 1, 2);
    assert_int_equal(common(d, COMMON_QUEUE_ENABLE, 2), 0);
    driver_accept(d, VIRTIO_F_VERSION_1);
    set_common(d, COMMON_STATUS, 0x0f, 1);
    set_common(d, COMMON_QUEUE_SELECT, 2, 2);
    set_common(d, COMMON_QUEUE_ENABLE, 1, 2);
    assert_int_equal(common(d, COMMON_QUEUE_ENABLE, 2),
                     0); /* the device runs with those it was given */
}

static void a_reset_lasts_until_the_device_has_drained(void **state)
{
    struct virtio_driver *d = *state;
    set_msix(d, MSIX_ON);
    driver_message(d, 0, 0x40, false);
    driver_message(d, 1, 0x41, false);
    driver_start(d);
    set_common(d, COMMON_STATUS, 0, 1);
    assert_int_equal(d->reset, 1);
    assert_int_not_equal(status(d), 0);

    /* Meanwhile nobody is interrupted, and nothing is set up. */
    signal_queue(d, 0);
    virtio_pci_config_changed(d->transport);
    virtio_pci_needs_reset(d->transport);
    assert_int_equal(fake_kvm_run(), 0);
    assert_int_equal(status(d) & 0x40, 0);
    set_common(d, COMMON_STATUS, 0, 1);
    set_common(d, COMMON_STATUS, 3, 1);
    set_common(d, COMMON_QUEUE_SELECT, 0, 2);
    set_common(d, COMMON_QUEUE_VECTOR, 1, 2);
    set_common(d, COMMON_CONFIG_VECTOR, 1, 2);
    assert_int_equal(d->reset, 1);
    assert_true(virtio_pci_queue(d->transport, 0)->enabled);
    driver_write(d, d->at.notify, 0, 2);

    virtio_pci_reset_done(d->transport);
    assert_int_equal(status(d), 0);
    assert_int_equal(common(d, COMMON_CONFIG_VECTOR, 2), NO_VECTOR);
    assert_true(virtio_pci_features(d->transport) == 0);
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        const struct virtio_pci_queue *queue = virtio_pci_queue(d->transport, i);
        set_common(d, COMMON_QUEUE_SELECT, i, 2);
        assert_int_equal(common(d, COMMON_QUEUE_VECTOR, 2), NO_VECTOR);
        assert_false(queue->enabled);
        assert_int_equal(queue->size, DRIVER_QUEUE_SIZE);
        assert_int_equal(queue->desc, 0);
        assert_int_equal(count_of(queue->kick_fd), 0);
    }
    driver_start(d);
    assert_int_equal(d->activated, 2);
    assert_int_equal(fake_kvm_run(), 0); /* what came before the reset is not for this driver */
    signal_queue(d, 0);
    assert_int_equal(fake_kvm_run(), 1);
    virtio_pci_reset_done(d->transport); /* of no reset: nothing happens */
    assert_int_equal(status(d), 0x0f);
}

static void a_masked_vector_keeps_its_interrupt(void **state)
{
    struct virtio_driver *d = *state;
    driver_start(d);
    for (unsigned i = 0; i <= DRIVER_QUEUES; i++)
        driver_message(d, i, 0x40 + i, true);
    signal_queue(d, 1);
    signal_queue(d, 1);
    assert_int_equal(fake_kvm.n_irqfds, 0);
    assert_int_equal(pending(d), 4); /* MSI-X is off */
    set_msix(d, MSIX_ON);
    assert_int_equal(pending(d), 4); /* the vector is masked */
    set_msix(d, MSIX_ON | MSIX_MASK_ALL);
    driver_message(d, 2, 0x52, false);
    assert_int_equal(pending(d), 4); /* the function is masked */
    assert_int_equal(driver_read(d, d->at.pba, 1), 4);
    assert_int_equal(fake_kvm_run(), 0);

    set_msix(d, MSIX_ON);
    assert_int_equal(fake_kvm_run(), 1); /* both in one */
    assert_int_equal(fake_kvm.last_addr, 0xfee00000);
    assert_int_equal(fake_kvm.last_data, 0x52);
    assert_int_equal(pending(d), 0);
    assert_int_equal(fake_kvm.n_irqfds, 1);

    driver_message(d, 2, 0x52, true);
    assert_int_equal(pending(d), 0); /* it was delivered */
    driver_message(d, 2, 0x62, false);
    assert_int_equal(fake_kvm_run(), 0);
    signal_queue(d, 1);
    assert_int_equal(fake_kvm_run(), 1);
    assert_int_equal(fake_kvm.last_data, 0x62);
    set_msix(d, 0);
    signal_queue(d, 1);
    assert_int_equal(fake_kvm.n_irqfds, 0);
    assert_int_equal(pending(d), 4);
}

static void unmasking_the_function_gives_kvm_its_routes_once(void **state)
{
    struct virtio_driver *d = *state;
    driver_start(d);
    set_msix(d, MSIX_ON | MSIX_MASK_ALL);
    for (unsigned i = 0; i <= DRIVER_QUEUES; i++)
        driver_message(d, i, 0x40 + i, false);
    assert_int_equal(fake_kvm.commits, 0);
    set_msix(d, MSIX_ON);
    assert_int_equal(fake_kvm.commits, 1);
    assert_int_equal(fake_kvm.n_irqfds, DRIVER_QUEUES + 1);
    set_msix(d, MSIX_ON | MSIX_MASK_ALL);
    set_msix(d, MSIX_ON);
    assert_int_equal(fake_kvm.commits, 1);
}

static void queues_may_share_a_vector_or_have_none(void **state)
{
    struct virtio_driver *d = *state;
    set_msix(d, MSIX_ON);
    driver_message(d, 1, 0x41, false);
    driver_start(d);
    for (unsigned i = 0; i < 2; i++) {
        set_common(d, COMMON_QUEUE_SELECT, i, 2);
        set_common(d, COMMON_QUEUE_VECTOR, 1, 2);
        assert_int_equal(common(d, COMMON_QUEUE_VECTOR, 2), 1);
    }
    set_common(d, COMMON_QUEUE_SELECT, 2, 2);
    set_common(d, COMMON_QUEUE_VECTOR, DRIVER_QUEUES + 1, 2);
    assert_int_equal(common(d, COMMON_QUEUE_VECTOR, 2), NO_VECTOR);
    set_common(d, COMMON_CONFIG_VECTOR, DRIVER_QUEUES + 1, 2);
    assert_int_equal(common(d, COMMON_CONFIG_VECTOR, 2), NO_VECTOR);
    signal_queue(d, 0);
    assert_int_equal(fake_kvm_run(), 1);
    signal_queue(d, 1);
    assert_int_equal(fake_kvm_run(), 1);
    signal_queue(d, 2);
    assert_int_equal(fake_kvm_run(), 0);

    driver_message(d, 1, 0x41, true);
    signal_queue(d, 0);
    virtio_pci_interrupt_all(d->transport);
    assert_int_equal(pending(d), 2);
    driver_message(d, 1, 0x41, false);
    assert_int_equal(fake_kvm_run(), 1);
    /* A vector that a queue gets later does not interrupt for what was before. */
    set_common(d, COMMON_QUEUE_SELECT, 2, 2);
    set_common(d, COMMON_QUEUE_VECTOR, 1, 2);
    assert_int_equal(fake_kvm_run(), 0);
    virtio_pci_interrupt_all(d->transport); /* three queues, one vector */
    assert_int_equal(fake_kvm_run(), 1);
}

static void check_doorbells(struct virtio_driver *d, uint64_t base)
{
    assert_int_equal(fake_kvm.n_doorbells, base ? DRIVER_QUEUES : 0);
    for (unsigned i = 0; base && i < DRIVER_QUEUES; i++)
        assert_int_equal(fake_kvm_doorbell(base + d->at.notify + d->at.notify_step * i),
                         virtio_pci_queue(d->transport, i)->kick_fd);
}

static void doorbells_follow_the_bar(void **state)
{
    struct virtio_driver *d = *state;
    uint64_t base = driver_bar(d);
    check_doorbells(d, base);
    driver_start(d);
    assert_true(fake_kvm_ring(base + d->at.notify + 4, 2));
    assert_true(fake_kvm_ring(base + d->at.notify + 4, 4));
    assert_int_equal(count_of(virtio_pci_queue(d->transport, 1)->kick_fd), 2);

    driver_pci_write(d, 0x10, base + 0x100000, 4);
    check_doorbells(d, base + 0x100000);
    driver_pci_write(d, 0x10, 0, 4);
    check_doorbells(d, 0);
    driver_pci_write(d, 0x10, base, 4);
    check_doorbells(d, base);
    uint16_t command = (uint16_t)driver_pci_read(d, 0x04, 2);
    driver_pci_write(d, 0x04, command & ~2u, 2);
    check_doorbells(d, 0);
    driver_pci_write(d, 0x04, command, 2);
    check_doorbells(d, base);
    set_common(d, COMMON_STATUS, 0, 1);
    virtio_pci_reset_done(d->transport);
    check_doorbells(d, base);
}

static void doorbells_that_kvm_does_not_take_ring_as_well(void **state)
{
    (void)state;
    struct virtio_driver d;
    fake_kvm_reset();
    fake_kvm.any_width = false;
    assert_int_equal(driver_init(&d, -1, NULL), 0);
    uint64_t doorbell = driver_bar(&d) + d.at.notify + 8;
    int kick = virtio_pci_queue(d.transport, 2)->kick_fd;
    assert_true(fake_kvm_ring(doorbell, 2));
    assert_false(fake_kvm_ring(doorbell, 4));
    assert_int_equal(count_of(kick), 1);
    driver_write(&d, d.at.notify + 8, 2, 4);
    assert_int_equal(count_of(kick), 1);
    driver_destroy(&d);
    assert_int_equal(fake_kvm.n_doorbells, 0);

    fake_kvm_reset();
    fake_kvm.refuse_ioeventfds = true;
    assert_int_equal(driver_init(&d, -1, NULL), 0);
    kick = virtio_pci_queue(d.transport, 2)->kick_fd;
    driver_write(&d, d.at.notify + 8, 2, 2);
    assert_int_equal(count_of(kick), 1);
    driver_write(&d, d.at.notify + 4 * DRIVER_QUEUES, 2, 2);
    for (unsigned i = 0; i < DRIVER_QUEUES; i++)
        assert_int_equal(count_of(virtio_pci_queue(d.transport, i)->kick_fd), 0);
    fake_kvm.refuse_ioeventfds = false;
    driver_destroy(&d);
    assert_int_equal(fake_kvm.mistakes, 0); /* nothing is taken back that was never taken */
}

static void a_back_end_that_makes_eventfds_block_holds_nobody_up(void **state)
{
    struct virtio_driver *d = *state;
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        const struct virtio_pci_queue *queue = virtio_pci_queue(d->transport, i);
        assert_int_equal(fcntl(queue->kick_fd, F_SETFL, 0), 0);
        assert_int_equal(fcntl(queue->call_fd, F_SETFL, 0), 0);
    }
    set_msix(d, MSIX_ON);
    driver_message(d, 1, 0x41, false);
    driver_start(d);
    driver_write(d, d->at.notify, 0, 2);
    set_common(d, COMMON_STATUS, 0, 1);
    virtio_pci_reset_done(d->transport);
    assert_int_equal(status(d), 0);
    driver_start(d);
    assert_int_equal(status(d), 0x0f);
    struct pollfd kick = {.fd = virtio_pci_queue(d->transport, 0)->kick_fd, .events = POLLIN};
    assert_int_equal(poll(&kick, 1, 0), 0); /* drained all the same */
}

static void the_device_is_asked_only_for_its_configuration(void **state)
{
    struct virtio_driver *d = *state;
    for (unsigned offset = 0; offset < DRIVER_CONFIG_BYTES + 16; offset++)
        for (unsigned len = 1; len <= 8; len *= 2) {
            uint64_t value = driver_read(d, d->at.device + offset, len);
            driver_write(d, d->at.device + offset, value, len);
            bool within = offset + len <= DRIVER_CONFIG_BYTES;
            assert_int_equal(value & 0xff, within ? 0x10 + offset : 0);
        }
    driver_write(d, d->at.device + 4, 0xaabbccdd, 4);
    assert_int_equal(load_le32(d->config + 4), 0xaabbccdd);
}

static void a_change_of_configuration_interrupts(void **state)
{
    struct virtio_driver *d = *state;
    set_msix(d, MSIX_ON);
    driver_message(d, 0, 0x40, false);
    uint64_t generation = common(d, COMMON_GENERATION, 1);
    virtio_pci_config_changed(d->transport);
    assert_int_equal(common(d, COMMON_GENERATION, 1), generation + 1);
    driver_start(d);
    assert_int_equal(fake_kvm_run(), 0); /* there was no driver */
    assert_int_equal(driver_read(d, d->at.isr, 1), 0);
    virtio_pci_config_changed(d->transport);
    assert_int_equal(fake_kvm_run(), 1);
    assert_int_equal(fake_kvm.last_data, 0x40);
    assert_int_equal(common(d, COMMON_GENERATION, 1), generation + 2);
    assert_int_equal(driver_read(d, d->at.isr, 1), 2);
    assert_int_equal(driver_read(d, d->at.isr, 1), 0);

    driver_message(d, 0, 0x40, true);
    virtio_pci_needs_reset(d->transport);
    assert_int_equal(status(d), 0x4f);
    assert_int_equal(pending(d), 1);
    driver_message(d, 0, 0x40, false);
    assert_int_equal(fake_kvm_run(), 1);
    set_common(d, COMMON_STATUS, 0, 1);
    virtio_pci_reset_done(d->transport);
    assert_int_equal(status(d), 0);
    virtio_pci_needs_reset(d->transport);
    assert_int_equal(status(d), 0); /* a driver that waits for 0 would wait for ever */
}

/** set_window() - point VIRTIO_PCI_CAP_PCI_CFG at [@offset, @offset + @len) of @bar. */
static void set_window(struct virtio_driver *d, unsigned bar, uint32_t offset, uint32_t len)
{
    driver_pci_write(d, d->at.window + 4, bar, 1);
    driver_pci_write(d, d->at.window + 8, offset, 4);
    driver_pci_write(d, d->at.window + 12, len, 4);
}

static void the_window_reaches_all_of_the_bar_and_no_more(void **state)
{
    struct virtio_driver *d = *state;
    unsigned data = d->at.window + 16;
    set_window(d, 0, d->at.common + COMMON_STATUS, 1);
    driver_pci_write(d, data, 3, 1);
    assert_int_equal(status(d), 3);
    assert_int_equal(driver_pci_read(d, data, 1), 3);
    set_window(d, 0, d->at.common + COMMON_NUM_QUEUES, 2);
    assert_int_equal(driver_pci_read(d, data, 2), DRIVER_QUEUES);
    set_window(d, 0, d->at.device + 4, 4);
    assert_int_equal(driver_pci_read(d, data, 4), 0x17161514);
    set_window(d, 0, d->at.notify + 4, 2);
    driver_pci_write(d, data, 1, 2);
    assert_int_equal(count_of(virtio_pci_queue(d->transport, 1)->kick_fd), 1);

    struct {
        unsigned bar;
        uint32_t offset, len;
    } nowhere[] = {
        {1, d->at.notify, 2},        {0, d->at.notify, 0},          {0, d->at.notify, 3},
        {0, d->at.notify, 8},        {0, d->at.notify + 1, 2},      {0, UINT32_MAX, 1},
        {0, UINT32_MAX - 1, 2},      {0, UINT32_MAX - 3, 4},        {0, 0x8000, 4},
        {0, d->at.notify, 1u << 31}, {0, d->at.notify, UINT32_MAX}, {255, d->at.notify, 2},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        set_window(d, nowhere[i].bar, nowhere[i].offset, nowhere[i].len);
        driver_pci_write(d, data, 0x5a5a5a5a, 4);
        assert_int_equal(driver_pci_read(d, data, 4),
                         0x5a5a5a5a); /* as written: nothing was read */
        assert_int_equal(count_of(virtio_pci_queue(d->transport, 0)->kick_fd), 0);
    }
    for (uint32_t offset = 0; offset < 0x8000 + 8; offset += 2)
        for (unsigned len = 1; len <= 4; len *= 2) {
            set_window(d, 0, offset, len);
            driver_pci_read(d, data, len);
            driver_pci_write(d, data - 4, BIT64(33) | len, 8); /* length and data at once */
        }
    assert_int_equal(fake_kvm.mistakes, 0);
}

static void every_offset_and_width_of_the_bar_can_be_touched(void **state)
{
    struct virtio_driver *d = *state;
    set_msix(d, MSIX_ON);
    static const uint64_t values[] = {0, 1, 0x0f, UINT64_MAX, 0x5555555555555555};
    for (unsigned v = 0; v < ARRAY_SIZE(values); v++)
        for (unsigned offset = 0; offset < 0x8000; offset += offset < 0x80 ? 1 : 7)
            for (unsigned len = 1; len <= 8; len *= 2) {
                driver_write(d, offset, values[v], len);
                driver_read(d, offset, len);
            }
    set_common(d, COMMON_STATUS, 0, 1);
    virtio_pci_reset_done(d->transport);
    assert_int_equal(status(d), 0);
    driver_start(d);
    assert_int_equal(status(d), 0x0f);
    check_doorbells(d, driver_bar(d));
}

static void what_cannot_be_a_device_is_refused(void **state)
{
    struct virtio_driver *d = *state;
    static const struct virtio_pci_ops ops = {NULL, NULL, NULL, NULL};
    struct virtio_pci_params good = {
        .name = "x", .pci = d->host, .vm_fd = -1, .n_queues = 1, .queue_size = 8, .ops = &ops};
    static const struct {
        unsigned n_queues;
        uint16_t queue_size;
    } wrong[] = {{0, 8}, {VIRTIO_PCI_QUEUES_MAX + 1, 8}, {1, 0}, {1, 12}};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct error err = ERROR_INIT;
        struct virtio_pci_params params = good;
        params.n_queues = wrong[i].n_queues;
        params.queue_size = wrong[i].queue_size;
        assert_null(virtio_pci_new(&params, &err));
        assert_int_equal(err.code, -EINVAL);
    }
    /* As many as the bus has room for, most queues and a BAR above 4 GiB; then one more. */
    struct virtio_pci *all[PCI_DEVICES_MAX];
    struct virtio_pci_params params = good;
    params.bars_64bit = true;
    unsigned n = 0;
    while (n < PCI_DEVICES_MAX && (all[n] = virtio_pci_new(&params, NULL)))
        n++;
    assert_int_equal(n, PCI_DEVICES_MAX - 2);
    virtio_pci_free(all[5]);
    params.n_queues = VIRTIO_PCI_QUEUES_MAX;
    all[5] = virtio_pci_new(&params, NULL);
    assert_non_null(all[5]);
    assert_int_equal(fake_kvm.n_doorbells, DRIVER_QUEUES + n - 1 + VIRTIO_PCI_QUEUES_MAX);
    while (n)
        virtio_pci_free(all[--n]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_driver_finds_every_structure),
        TEST(features_are_those_offered_and_fixed_once_accepted),
        TEST(status_bits_are_only_added_until_a_reset),
        TEST(queues_are_set_up_before_they_are_enabled),
        TEST(a_reset_lasts_until_the_device_has_drained),
        TEST(a_masked_vector_keeps_its_interrupt),
        TEST(unmasking_the_function_gives_kvm_its_routes_once),
        TEST(queues_may_share_a_vector_or_have_none),
        TEST(doorbells_follow_the_bar),
        cmocka_unit_test(doorbells_that_kvm_does_not_take_ring_as_well),
        TEST(a_back_end_that_makes_eventfds_block_holds_nobody_up),
        TEST(the_device_is_asked_only_for_its_configuration),
        TEST(a_change_of_configuration_interrupts),
        TEST(the_window_reaches_all_of_the_bar_and_no_more),
        TEST(every_offset_and_width_of_the_bar_can_be_touched),
        TEST(what_cannot_be_a_device_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
