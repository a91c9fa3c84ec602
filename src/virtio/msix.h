/*
 * MSI-X of one device (PCI Local Bus 3.0, 6.8.2): the vector table, the pending bits, and the irqfds that let KVM
 * interrupt the guest when a back-end signals an eventfd.
 *
 * A vector that is masked has its irqfds taken off: the eventfd then counts what comes, and is what the pending bit
 * reads from. Unmasking puts them back, and KVM injects what had been counted. A source without a vector interrupts
 * nobody: what it counted is forgotten when it gets one.
 *
 * No lock of its own: the caller, a transport, has one.
 */
#ifndef HUSK_VIRTIO_MSIX_H
#define HUSK_VIRTIO_MSIX_H

#include "base/error.h"
#include "kvm/kvm.h"

#include <stdbool.h>
#include <stdint.h>

#define MSIX_NO_VECTOR 0xffff
#define MSIX_ENTRY_BYTES 16

/* Of the capability's message control register. */
#define MSIX_CONTROL_ENABLE (1u << 15)
#define MSIX_CONTROL_MASK (1u << 14)

struct msix;

struct msix_params {
    const char *name; /* for messages; outlives it */
    int vm_fd;
    struct kvm_routes *routes;
    unsigned n_vectors;
    unsigned n_sources;
    const int *source_fds; /* eventfds, the caller's, which do not block; one a source */
};

/** msix_new() - everything masked, no source bound. NULL with @err filled. */
struct msix *msix_new(const struct msix_params *params, struct error *err);
void msix_free(struct msix *msix);

/** msix_set_control() - what message control holds now. */
void msix_set_control(struct msix *msix, uint16_t control);

/** msix_bind() - source @source interrupts by @vector from now on; not at all by one that does not exist. */
void msix_bind(struct msix *msix, unsigned source, uint16_t vector);

/** msix_vector() - what @source is bound to. */
uint16_t msix_vector(const struct msix *msix, unsigned source);

/** msix_table_read(), msix_table_write() - guest accesses of the table; beyond its end reads are 0, writes dropped. */
void msix_table_read(const struct msix *msix, uint64_t offset, void *data, unsigned len);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned len);

/** msix_pba_read() - guest reads of the pending bits. */
void msix_pba_read(const struct msix *msix, uint64_t offset, void *data, unsigned len);

#endif
