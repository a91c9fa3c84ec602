/*
 * The virtio PCI transport, driven as a hostile driver drives it: configuration space and BAR at every offset and width,
 * the BAR moved and switched off while queues run, resets whose end comes late, back-ends that signal at any time. Each
 * step is 8 bytes: what, where, width, value. After each step KVM must hold exactly the doorbells and irqfds that
 * the registers ask for, and every eventfd must still be there.
 */
#include "../unit/fake_kvm.h"
#include "../unit/virtio_driver.h"
#include "base/bytes.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEP_BYTES 8
#define BAR_BYTES 0x8000
#define COMMAND_MEMORY 2
#define MSIX_OFFSET_CONTROL 2

static void check(bool holds)
{
    if (!holds)
        abort();
}

struct fuzzed {
    struct virtio_driver driver;
    int fds[2 * DRIVER_QUEUES]; /* as they were at first: they are for the machine's life */
    unsigned resets_done;
};

static void check_fds(const struct fuzzed *f)
{
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        const struct virtio_pci_queue *queue = virtio_pci_queue(f->driver.transport, i);
        check(queue->kick_fd == f->fds[2 * i] && queue->call_fd == f->fds[2 * i + 1]);
        check(fcntl(queue->kick_fd, F_GETFD) >= 0 && fcntl(queue->call_fd, F_GETFD) >= 0);
        check(queue->size && queue->size <= DRIVER_QUEUE_SIZE &&
              (queue->size & (queue->size - 1)) == 0);
    }
}

/** check_doorbells() - at the BAR, if it answers: it does where memory decoding is on and the status can be read. */
static void check_doorbells(struct fuzzed *f)
{
    struct virtio_driver *d = &f->driver;
    uint64_t base = driver_bar(d);
    uint8_t queues[2];
    bool decoded = (driver_pci_read(d, 0x04, 2) & COMMAND_MEMORY) != 0;
    bool answers = decoded &&
                   bus_read(d->mmio, base + d->at.common + COMMON_NUM_QUEUES, queues, 2) &&
                   load_le16(queues) == DRIVER_QUEUES;
    check(fake_kvm.n_doorbells == (answers ? DRIVER_QUEUES : 0));
    for (unsigned i = 0; answers && i < DRIVER_QUEUES; i++)
        check(fake_kvm_doorbell(base + d->at.notify + 4 * i) == f->fds[2 * i]);
}

/** check_irqfds() - a queue's eventfd is tied only while MSI-X lets some vector through. */
static void check_irqfds(struct fuzzed *f)
{
    struct virtio_driver *d = &f->driver;
    unsigned control = (unsigned)driver_pci_read(d, d->at.msix + MSIX_OFFSET_CONTROL, 2);
    check((control & 0x3fff) == DRIVER_QUEUES);
    if ((control & 0xc000) != 0x8000)
        check(fake_kvm.n_irqfds == 0);
    check(fake_kvm.n_irqfds <= DRIVER_QUEUES + 1);
    for (unsigned i = 0; i < fake_kvm.n_irqfds; i++)
        check(fake_kvm.committed[fake_kvm.irqfds[i].gsi].set);
    check(fake_kvm.mistakes == 0);
}

static void move_bar(struct virtio_driver *d, unsigned where)
{
    static const uint32_t bases[] = {0xc0000000, 0xc0008000, 0xc0100000, 0xe7ff8000,
                                     0xe8000000, 0x00100000, 0xfee00000, 0};
    driver_pci_write(d, 0x10, bases[where % ARRAY_SIZE(bases)], 4);
}

static void step(struct fuzzed *f, const uint8_t *data)
{
    struct virtio_driver *d = &f->driver;
    unsigned len = 1u << (data[3] & 3);
    unsigned where = load_le16(data + 1);
    uint64_t value = load_le32(data + 4);
    value |= value << 32;
    switch (data[0] % 12) {
    case 0:
        driver_pci_write(d, where % 0x104, value, len);
        break;
    case 1:
        driver_pci_read(d, where % 0x104, len);
        break;
    case 2:
        driver_write(d, where % (BAR_BYTES + 8), value, len);
        break;
    case 3:
        driver_read(d, where % (BAR_BYTES + 8), len);
        break;
    case 4: /* common configuration */
        driver_write(d, d->at.common + where % 0x40, value, len);
        break;
    case 5: /* vector table and pending bits */
        driver_write(d, d->at.table + where % 0x48, value, len);
        driver_read(d, d->at.pba + where % 0x10, len);
        break;
    case 6:
        move_bar(d, where);
        break;
    case 7:
        driver_pci_write(d, 0x04, value & 7, 2);
        break;
    case 8: /* the window */
        driver_pci_write(d, d->at.window + 4 + where % 16, value, len);
        driver_pci_read(d, d->at.window + 16, len);
        break;
    case 9:
        if (f->resets_done < d->reset) {
            virtio_pci_reset_done(d->transport);
            f->resets_done = d->reset;
            check(driver_bar(d) == 0 || !virtio_pci_queue(d->transport, 0)->enabled);
        }
        break;
    case 10:
        if (where % 4 == 0)
            virtio_pci_config_changed(d->transport);
        else if (where % 4 == 1)
            virtio_pci_needs_reset(d->transport);
        else if (where % 4 == 2)
            virtio_pci_interrupt_all(d->transport);
        else
            eventfd_write(f->fds[2 * (data[2] % DRIVER_QUEUES) + 1], 1);
        break;
    default: /* a driver that works, as far as what came before lets it */
        driver_pci_write(d, 0x04, 6, 2);
        driver_pci_write(d, d->at.msix + MSIX_OFFSET_CONTROL, 0x8000, 2);
        for (unsigned i = 0; i <= DRIVER_QUEUES; i++)
            driver_message(d, i, where + i, (data[4] >> i) & 1);
        driver_start(d);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzzed f = {.resets_done = 0};
    fake_kvm_reset();
    if (size)
        fake_kvm.any_width = (data[0] & 0x80) == 0;
    check(driver_init(&f.driver, -1, NULL) == 0);
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        f.fds[2 * i] = virtio_pci_queue(f.driver.transport, i)->kick_fd;
        f.fds[2 * i + 1] = virtio_pci_queue(f.driver.transport, i)->call_fd;
    }
    for (; size >= STEP_BYTES; data += STEP_BYTES, size -= STEP_BYTES) {
        step(&f, data);
        check_fds(&f);
        check_doorbells(&f);
        check_irqfds(&f);
        fake_kvm_run();
    }
    /* However it was left, the device can be had again. */
    virtio_pci_reset_done(f.driver.transport);
    driver_pci_write(&f.driver, 0x04, 2, 2);
    driver_pci_write(&f.driver, 0x10, 0xc0100000, 4);
    driver_write(&f.driver, f.driver.at.common + COMMON_STATUS, 0, 1);
    virtio_pci_reset_done(f.driver.transport);
    check(driver_read(&f.driver, f.driver.at.common + COMMON_STATUS, 1) == 0);
    driver_start(&f.driver);
    check(driver_read(&f.driver, f.driver.at.common + COMMON_STATUS, 1) == 0x0f);
    driver_destroy(&f.driver);
    check(fake_kvm.n_doorbells == 0 && fake_kvm.n_irqfds == 0 && fake_kvm.mistakes == 0);
    return 0;
}
