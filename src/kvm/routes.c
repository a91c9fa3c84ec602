/*
 * KVM takes the whole routing table at once and waits for every reader of the old one, so changes are collected here
 * and committed in batches. A GSI without an entry sends nothing.
 */
#include "kvm/kvm.h"

#include "base/bytes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/* KVM_MAX_IRQ_ROUTES on x86: arch/x86/include/asm/kvm_host.h. */
#define MAX_GSI 4096

struct route {
    bool set;
    bool allocated;
    uint64_t addr;
    uint32_t data;
};

struct kvm_routes {
    int vm_fd;
    unsigned pins;
    pthread_mutex_t lock;
    bool changed;
    size_t n; /* entries of @routes; it grows with the highest GSI in use */
    struct route *routes;
};

struct kvm_routes *kvm_routes_new(int vm_fd, unsigned pins)
{
    struct kvm_routes *routes = calloc(1, sizeof(*routes));
    if (!routes)
        return NULL;
    routes->vm_fd = vm_fd;
    routes->pins = pins;
    pthread_mutex_init(&routes->lock, NULL);
    return routes;
}

void kvm_routes_free(struct kvm_routes *routes)
{
    if (!routes)
        return;
    pthread_mutex_destroy(&routes->lock);
    free(routes->routes);
    free(routes);
}

/** grow() - make room for @gsi; the lock is held. */
static int grow(struct kvm_routes *routes, uint32_t gsi)
{
    if (gsi >= MAX_GSI)
        return -EINVAL;
    if (gsi < routes->n)
        return 0;
    size_t n = MIN((size_t)MAX_GSI, align_up(gsi + 1, 32));
    struct route *table = reallocarray(routes->routes, n, sizeof(*table));
    if (!table)
        return -ENOMEM;
    for (size_t i = routes->n; i < n; i++)
        table[i] = (struct route){0};
    routes->routes = table;
    routes->n = n;
    return 0;
}

int kvm_routes_set(struct kvm_routes *routes, uint32_t gsi, uint64_t addr, uint32_t data)
{
    pthread_mutex_lock(&routes->lock);
    int ret = grow(routes, gsi);
    if (ret == 0) {
        struct route *route = &routes->routes[gsi];
        if (!route->set || route->addr != addr || route->data != data) {
            route->set = true;
            route->addr = addr;
            route->data = data;
            routes->changed = true;
        }
    }
    pthread_mutex_unlock(&routes->lock);
    return ret;
}

void kvm_routes_clear(struct kvm_routes *routes, uint32_t gsi)
{
    pthread_mutex_lock(&routes->lock);
    if (gsi < routes->n && routes->routes[gsi].set) {
        routes->routes[gsi].set = false;
        routes->changed = true;
    }
    pthread_mutex_unlock(&routes->lock);
}

/** table_of() - KVM's form of the routes; NULL if memory ran out. The lock is held. */
static struct kvm_irq_routing *table_of(const struct kvm_routes *routes)
{
    struct kvm_irq_routing *table =
        calloc(1, sizeof(*table) + routes->n * sizeof(struct kvm_irq_routing_entry));
    if (!table)
        return NULL;
    for (size_t gsi = 0; gsi < routes->n; gsi++) {
        const struct route *route = &routes->routes[gsi];
        if (!route->set)
            continue;
        table->entries[table->nr++] = (struct kvm_irq_routing_entry){
            .gsi = (uint32_t)gsi,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = (uint32_t)route->addr,
                      .address_hi = (uint32_t)(route->addr >> 32),
                      .data = route->data},
        };
    }
    return table;
}

int kvm_routes_commit(struct kvm_routes *routes)
{
    int ret = 0;
    pthread_mutex_lock(&routes->lock);
    if (routes->changed) {
        struct kvm_irq_routing *table = table_of(routes);
        if (!table)
            ret = -ENOMEM;
        else if (ioctl(routes->vm_fd, KVM_SET_GSI_ROUTING, table) < 0)
            ret = -errno;
        else
            routes->changed = false;
        free(table);
    }
    pthread_mutex_unlock(&routes->lock);
    return ret;
}

int kvm_routes_alloc(struct kvm_routes *routes)
{
    int ret = -ENOSPC;
    pthread_mutex_lock(&routes->lock);
    for (uint32_t gsi = routes->pins; gsi < MAX_GSI; gsi++) {
        int grown = grow(routes, gsi);
        if (grown < 0) {
            ret = grown;
            break;
        }
        if (!routes->routes[gsi].allocated) {
            routes->routes[gsi].allocated = true;
            ret = (int)gsi;
            break;
        }
    }
    pthread_mutex_unlock(&routes->lock);
    return ret;
}

void kvm_routes_release(struct kvm_routes *routes, uint32_t gsi)
{
    kvm_routes_clear(routes, gsi);
    pthread_mutex_lock(&routes->lock);
    if (gsi < routes->n)
        routes->routes[gsi].allocated = false;
    pthread_mutex_unlock(&routes->lock);
}
