#include "fake_kvm.h"

#include "base/bytes.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#define FIRST_GSI 24

struct fake_kvm fake_kvm;

void fake_kvm_reset(void)
{
    fake_kvm = (struct fake_kvm){.any_width = true};
}

static int refuse(struct error *err, int code)
{
    fake_kvm.mistakes++;
    return error_set(err, code, "KVM refused");
}

bool kvm_ioeventfd_any_width(int vm_fd)
{
    (void)vm_fd;
    return fake_kvm.any_width;
}

int fake_kvm_doorbell(uint64_t addr)
{
    for (unsigned i = 0; i < fake_kvm.n_doorbells; i++)
        if (fake_kvm.doorbells[i].addr == addr)
            return fake_kvm.doorbells[i].fd;
    return -1;
}

int kvm_ioeventfd(int vm_fd, int event_fd, const struct kvm_ioeventfd_at *at, bool assign,
                  struct error *err)
{
    (void)vm_fd;
    if (fake_kvm.refuse_ioeventfds)
        return error_set(err, -ENOSPC, "KVM has no room for another eventfd");
    if (at->len == 0 && !fake_kvm.any_width)
        return refuse(err, -EINVAL);
    if (assign) {
        if (fake_kvm_doorbell(at->addr) >= 0 || fake_kvm.n_doorbells == FAKE_KVM_MAX)
            return refuse(err, -EEXIST);
        unsigned n = fake_kvm.n_doorbells++;
        fake_kvm.doorbells[n].addr = at->addr;
        fake_kvm.doorbells[n].len = at->len;
        fake_kvm.doorbells[n].fd = event_fd;
        return 0;
    }
    for (unsigned i = 0; i < fake_kvm.n_doorbells; i++) {
        if (fake_kvm.doorbells[i].addr != at->addr || fake_kvm.doorbells[i].fd != event_fd ||
            fake_kvm.doorbells[i].len != at->len)
            continue;
        fake_kvm.doorbells[i] = fake_kvm.doorbells[--fake_kvm.n_doorbells];
        return 0;
    }
    return refuse(err, -ENOENT);
}

bool fake_kvm_ring(uint64_t addr, unsigned len)
{
    for (unsigned i = 0; i < fake_kvm.n_doorbells; i++)
        if (fake_kvm.doorbells[i].addr == addr &&
            (fake_kvm.doorbells[i].len == 0 || fake_kvm.doorbells[i].len == len))
            return eventfd_write(fake_kvm.doorbells[i].fd, 1) == 0;
    return false;
}

static bool has_counted(int fd)
{
    struct pollfd counted = {.fd = fd, .events = POLLIN};
    return poll(&counted, 1, 0) == 1;
}

static void inject(uint32_t gsi)
{
    const struct fake_kvm_route *route = &fake_kvm.committed[gsi];
    if (!route->set)
        return;
    fake_kvm.interrupts++;
    fake_kvm.last_addr = route->addr;
    fake_kvm.last_data = route->data;
}

static void deliver(void)
{
    for (unsigned i = 0; i < fake_kvm.n_irqfds; i++) {
        eventfd_t count;
        if (has_counted(fake_kvm.irqfds[i].fd) && eventfd_read(fake_kvm.irqfds[i].fd, &count) == 0)
            inject(fake_kvm.irqfds[i].gsi);
    }
}

int kvm_irqfd(int vm_fd, int event_fd, uint32_t gsi, bool assign, struct error *err)
{
    (void)vm_fd;
    deliver();
    unsigned at = 0;
    while (at < fake_kvm.n_irqfds && fake_kvm.irqfds[at].fd != event_fd)
        at++;
    bool tied = at < fake_kvm.n_irqfds;
    if (gsi >= FAKE_KVM_MAX || assign == tied || (tied && fake_kvm.irqfds[at].gsi != gsi) ||
        at == FAKE_KVM_MAX)
        return refuse(err, assign ? -EBUSY : -ENOENT);
    if (!assign) {
        fake_kvm.irqfds[at] = fake_kvm.irqfds[--fake_kvm.n_irqfds];
        return 0;
    }
    fake_kvm.irqfds[at].fd = event_fd;
    fake_kvm.irqfds[at].gsi = gsi;
    fake_kvm.n_irqfds++;
    if (has_counted(event_fd))
        inject(gsi);
    return 0;
}

unsigned fake_kvm_run(void)
{
    deliver();
    unsigned interrupts = fake_kvm.interrupts;
    fake_kvm.interrupts = 0;
    return interrupts;
}

int kvm_routes_alloc(struct kvm_routes *routes)
{
    (void)routes;
    for (int gsi = FIRST_GSI; gsi < FAKE_KVM_MAX; gsi++) {
        if (fake_kvm.routes[gsi].allocated)
            continue;
        fake_kvm.routes[gsi].allocated = true;
        return gsi;
    }
    return -ENOSPC;
}

void kvm_routes_release(struct kvm_routes *routes, uint32_t gsi)
{
    (void)routes;
    fake_kvm.routes[gsi] = (struct fake_kvm_route){0};
}

int kvm_routes_set(struct kvm_routes *routes, uint32_t gsi, uint64_t addr, uint32_t data)
{
    (void)routes;
    if (gsi >= FAKE_KVM_MAX || !fake_kvm.routes[gsi].allocated)
        return refuse(NULL, -EINVAL);
    fake_kvm.routes[gsi].set = true;
    fake_kvm.routes[gsi].addr = addr;
    fake_kvm.routes[gsi].data = data;
    return 0;
}

int kvm_routes_commit(struct kvm_routes *routes)
{
    (void)routes;
    deliver();
    if (memcmp(fake_kvm.committed, fake_kvm.routes, sizeof(fake_kvm.routes)) == 0)
        return 0;
    memcpy(fake_kvm.committed, fake_kvm.routes, sizeof(fake_kvm.routes));
    fake_kvm.commits++;
    return 0;
}
