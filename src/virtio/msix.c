#include "virtio/msix.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define ENTRY_ADDR 0
#define ENTRY_DATA 8
#define ENTRY_CONTROL 12
#define ENTRY_MASKED BIT(0)

struct vector {
    uint8_t entry[MSIX_ENTRY_BYTES]; /* as the guest sees it */
    int gsi;                         /* -1 until it is first needed */
};

struct source {
    uint16_t vector;
    int gsi; /* where its irqfd is assigned, -1: nowhere */
};

struct msix {
    struct msix_params params;
    uint16_t control;
    struct vector *vectors;
    struct source *sources;
};

struct msix *msix_new(const struct msix_params *params, struct error *err)
{
    struct msix *msix = calloc(1, sizeof(*msix));
    if (msix) {
        msix->params = *params;
        msix->vectors = calloc(params->n_vectors, sizeof(*msix->vectors));
        msix->sources = calloc(MAX(params->n_sources, 1u), sizeof(*msix->sources));
    }
    if (!msix || !msix->vectors || !msix->sources) {
        if (msix) {
            free(msix->vectors);
            free(msix->sources);
            free(msix);
        }
        error_set(err, -ENOMEM, "out of memory for interrupts of %s", params->name);
        return NULL;
    }
    for (unsigned i = 0; i < params->n_vectors; i++) {
        store_le32(msix->vectors[i].entry + ENTRY_CONTROL, ENTRY_MASKED);
        msix->vectors[i].gsi = -1;
    }
    for (unsigned i = 0; i < params->n_sources; i++)
        msix->sources[i] = (struct source){.vector = MSIX_NO_VECTOR, .gsi = -1};
    return msix;
}

static bool is_masked(const struct msix *msix, unsigned vector)
{
    bool function_on =
        (msix->control & (MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK)) == MSIX_CONTROL_ENABLE;
    return !function_on ||
           (load_le32(msix->vectors[vector].entry + ENTRY_CONTROL) & ENTRY_MASKED) != 0;
}

/** irqfd() - assign or take off; a failure is husk's trouble, not the guest's. */
static bool irqfd(struct msix *msix, unsigned source, int gsi, bool assign)
{
    struct error err = ERROR_INIT;
    int fd = msix->params.source_fds[source];
    if (kvm_irqfd(msix->params.vm_fd, fd, (uint32_t)gsi, assign, &err) == 0)
        return true;
    log_error("%s: interrupt source %u: %s", msix->params.name, source, err.message);
    return false;
}

/** sync_source() - its irqfd is where its vector wants it. */
static void sync_source(struct msix *msix, unsigned index)
{
    struct source *source = &msix->sources[index];
    int wanted = -1;
    if (source->vector != MSIX_NO_VECTOR && !is_masked(msix, source->vector))
        wanted = msix->vectors[source->vector].gsi;
    if (wanted == source->gsi)
        return;
    if (source->gsi >= 0)
        irqfd(msix, index, source->gsi, false);
    source->gsi = -1;
    if (wanted < 0 || !irqfd(msix, index, wanted, true))
        return;
    source->gsi = wanted;
    /* KVM injects for what was counted before, but leaves the count: it would read as pending at the next mask. */
    fd_unsignal(msix->params.source_fds[index]);
}

/** route() - KVM's route of a vector that is not masked. */
static void route(struct msix *msix, unsigned index)
{
    struct vector *vector = &msix->vectors[index];
    if (vector->gsi < 0)
        vector->gsi = kvm_routes_alloc(msix->params.routes);
    int ret = vector->gsi;
    if (ret >= 0)
        ret = kvm_routes_set(msix->params.routes, (uint32_t)vector->gsi,
                             load_le64(vector->entry + ENTRY_ADDR),
                             load_le32(vector->entry + ENTRY_DATA));
    if (ret < 0)
        log_error("%s: no route for interrupt %u: %s", msix->params.name, index, strerror(-ret));
}

/** sync() - after a change of masks, messages or bindings. */
static void sync(struct msix *msix)
{
    for (unsigned i = 0; i < msix->params.n_vectors; i++)
        if (!is_masked(msix, i))
            route(msix, i);
    int ret = kvm_routes_commit(msix->params.routes);
    if (ret < 0)
        log_error("%s: KVM refused the interrupt routes: %s", msix->params.name, strerror(-ret));
    for (unsigned i = 0; i < msix->params.n_sources; i++)
        sync_source(msix, i);
}

void msix_free(struct msix *msix)
{
    if (!msix)
        return;
    msix->control = 0;
    for (unsigned i = 0; i < msix->params.n_sources; i++)
        sync_source(msix, i);
    for (unsigned i = 0; i < msix->params.n_vectors; i++)
        if (msix->vectors[i].gsi >= 0)
            kvm_routes_release(msix->params.routes, (uint32_t)msix->vectors[i].gsi);
    free(msix->vectors);
    free(msix->sources);
    free(msix);
}

void msix_set_control(struct msix *msix, uint16_t control)
{
    if (msix->control == control)
        return;
    msix->control = control;
    sync(msix);
}

void msix_bind(struct msix *msix, unsigned source, uint16_t vector)
{
    if (vector >= msix->params.n_vectors)
        vector = MSIX_NO_VECTOR;
    if (msix->sources[source].vector == MSIX_NO_VECTOR && vector != MSIX_NO_VECTOR)
        fd_unsignal(msix->params.source_fds[source]);
    msix->sources[source].vector = vector;
    sync_source(msix, source);
}

uint16_t msix_vector(const struct msix *msix, unsigned source)
{
    return msix->sources[source].vector;
}

void msix_table_read(const struct msix *msix, uint64_t offset, void *data, unsigned len)
{
    uint8_t *to = data;
    for (unsigned i = 0; i < len; i++) {
        uint64_t at = offset + i;
        bool there = at / MSIX_ENTRY_BYTES < msix->params.n_vectors;
        to[i] = there ? msix->vectors[at / MSIX_ENTRY_BYTES].entry[at % MSIX_ENTRY_BYTES] : 0;
    }
}

void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned len)
{
    /* 6.8.2: aligned doublewords and quadwords only; the effect of others is undefined, here none. */
    if ((len != 4 && len != 8) || offset % len ||
        offset / MSIX_ENTRY_BYTES >= msix->params.n_vectors)
        return;
    uint8_t *entry = msix->vectors[offset / MSIX_ENTRY_BYTES].entry;
    memcpy(entry + offset % MSIX_ENTRY_BYTES, data, len);
    store_le32(entry + ENTRY_CONTROL, load_le32(entry + ENTRY_CONTROL) & ENTRY_MASKED);
    sync(msix);
}

/** is_pending() - the eventfd of one of its sources, which KVM does not listen to now, has counted. */
static bool is_pending(const struct msix *msix, unsigned vector)
{
    for (unsigned i = 0; i < msix->params.n_sources; i++) {
        struct pollfd counted = {.fd = msix->params.source_fds[i], .events = POLLIN};
        if (msix->sources[i].vector == vector && msix->sources[i].gsi < 0 &&
            poll(&counted, 1, 0) == 1 && (counted.revents & POLLIN))
            return true;
    }
    return false;
}

void msix_pba_read(const struct msix *msix, uint64_t offset, void *data, unsigned len)
{
    uint8_t *to = data;
    memset(to, 0, len);
    for (unsigned i = 0; i < len * 8; i++) {
        uint64_t vector = offset * 8 + i;
        if (vector < msix->params.n_vectors && is_pending(msix, (unsigned)vector))
            to[i / 8] = (uint8_t)(to[i / 8] | 1u << (i % 8));
    }
}
