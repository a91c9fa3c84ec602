#include "base/tap.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/tap_queues.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* linux/if_tun.h since 6.2 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

_Static_assert(TAP_NAME_BYTES == IFNAMSIZ, "the kernel's length of a name");

#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

/** open_queue() - one descriptor of the tap that @request names; the kernel fills in which it is. */
static int open_queue(struct ifreq *request, int flags)
{
    _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    request->ifr_flags = (short)flags;
    if (ioctl(fd, TUNSETIFF, request) < 0)
        return -errno;
    return take_fd(&fd);
}

/** refuse() - @name: NULL for a new one. Returns @ret. */
static int refuse(const char *name, int ret, struct error *err)
{
    if (name)
        error_set_errno(err, ret, "tap interface '%s' cannot be opened", name);
    else
        error_set_errno(err, ret, "no tap interface can be made");
    if (ret == -EACCES)
        error_hint(err, "/dev/net/tun has to be readable and writable.");
    else if (ret == -EPERM)
        error_hint(err, "It takes CAP_NET_ADMIN, or a tap that was made for this user: "
                        "ip tuntap add NAME mode tap user USER");
    else if (ret == -EBUSY)
        error_hint(err, "Another program has it.");
    else if (ret == -EINVAL)
        error_hint(err, "It is no tap, or is not made for several queues (multi_queue).");
    return ret;
}

static void close_all(const int *fds, unsigned n)
{
    while (n-- > 0)
        close(fds[n]);
}

/** open_queues() - @n of the tap that @request names, or none. Returns 0 or -errno. */
static int open_queues(struct tap *tap, struct ifreq *request, unsigned n, int *fds)
{
    for (unsigned i = 0; i < n; i++) {
        fds[i] = open_queue(request, TAP_FLAGS | (tap->multi_queue ? IFF_MULTI_QUEUE : 0));
        if (fds[i] == -EINVAL && n == 1) {
            /* One that somebody made for several queues serves with one, too. */
            tap->multi_queue = true;
            fds[i] = open_queue(request, TAP_FLAGS | IFF_MULTI_QUEUE);
        }
        if (fds[i] < 0) {
            close_all(fds, i);
            return fds[i];
        }
    }
    memcpy(tap->name, request->ifr_name, IFNAMSIZ);
    return 0;
}

/**
 * check_alone() - whether all queues of @tap are the @n opened here. The kernel lets a multi-queue tap be opened by one
 * program after another, and gives each a part of the frames. Of two that open it at once, at least one counts too many.
 */
static int check_alone(const struct tap *tap, unsigned n)
{
    int found = tap->multi_queue ? tap_queues(tap->name) : (int)n;
    if (found < 0)
        return found;
    return found == (int)n ? 0 : -EBUSY;
}

int tap_open(struct tap *tap, const char *name, unsigned n, int *fds, struct error *err)
{
    struct ifreq request = {0};
    *tap = (struct tap){.multi_queue = n > 1};
    if (name && strlen(name) >= IFNAMSIZ)
        return error_set(err, -EINVAL, "tap interface '%s': a name has at most %d bytes", name,
                         IFNAMSIZ - 1);
    snprintf(request.ifr_name, IFNAMSIZ, "%s", name ? name : "tap%d");
    int ret = open_queues(tap, &request, n, fds);
    if (ret == 0) {
        ret = check_alone(tap, n);
        if (ret < 0)
            close_all(fds, n);
    }
    return ret < 0 ? refuse(name, ret, err) : 0;
}

int tap_adopt(struct tap *tap, int fd, struct error *err)
{
    struct ifreq request = {0};
    int code = ioctl(fd, TUNGETIFF, &request) < 0 ? -errno : 0;
    if (code == -EBADFD)
        return error_set(err, code, "descriptor %d: its tap interface was deleted, or never made",
                         fd);
    if (code < 0)
        return error_set_errno(err, code, "descriptor %d is no tap interface", fd);
    unsigned flags = (unsigned short)request.ifr_flags;
    if ((flags & TAP_FLAGS) != TAP_FLAGS)
        return error_set(err, -EINVAL,
                         "descriptor %d: it must be a tap with IFF_VNET_HDR and IFF_NO_PI", fd);
    int ret = fd_set_nonblock(fd);
    if (ret < 0)
        return error_set_errno(err, ret, "descriptor %d", fd);
    tap->multi_queue = flags & IFF_MULTI_QUEUE;
    memcpy(tap->name, request.ifr_name, IFNAMSIZ);
    return 0;
}

bool tap_same(int a, int b)
{
    struct ifreq names[2] = {0}, macs[2] = {0};
    const int fds[] = {a, b};
    for (unsigned i = 0; i < 2; i++)
        if (ioctl(fds[i], TUNGETIFF, &names[i]) < 0 || ioctl(fds[i], SIOCGIFHWADDR, &macs[i]) < 0)
            return false;
    /* The kernel tells the network namespace only to who may change it; its random address tells a tap's namesake. */
    return strncmp(names[0].ifr_name, names[1].ifr_name, IFNAMSIZ) == 0 &&
           memcmp(macs[0].ifr_hwaddr.sa_data, macs[1].ifr_hwaddr.sa_data, TAP_MAC_BYTES) == 0;
}

unsigned tap_offloads(int fd)
{
    const unsigned base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    unsigned found = 0;
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)base) == 0)
        found |= TAP_OFFLOAD_BASE;
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(base | TUN_F_UFO)) == 0)
        found |= TAP_OFFLOAD_UFO;
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(base | TUN_F_USO4 | TUN_F_USO6)) == 0)
        found |= TAP_OFFLOAD_USO;
    (void)ioctl(fd, TUNSETOFFLOAD, 0ul);
    return found;
}

/** control() - an ioctl on the interface by its name, which is the same in every process of this network namespace. */
static int control(const struct tap *tap, unsigned long what, struct ifreq *request)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    memcpy(request->ifr_name, tap->name, IFNAMSIZ);
    return ioctl(fd, what, request) < 0 ? -errno : 0;
}

int tap_up(const struct tap *tap, struct error *err)
{
    struct ifreq request = {0};
    int ret = control(tap, SIOCGIFFLAGS, &request);
    if (ret == 0 && !(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        ret = control(tap, SIOCSIFFLAGS, &request);
    }
    return ret < 0 ? error_set_errno(err, ret, "tap interface '%s' cannot be brought up", tap->name)
                   : 0;
}

int tap_set_mtu(const struct tap *tap, unsigned mtu, struct error *err)
{
    struct ifreq request = {0};
    int ret = control(tap, SIOCGIFMTU, &request);
    if (ret == 0 && request.ifr_mtu != (int)mtu) {
        request.ifr_mtu = (int)mtu;
        ret = control(tap, SIOCSIFMTU, &request);
    }
    return ret < 0 ? error_set_errno(err, ret, "tap interface '%s' does not take an MTU of %u",
                                     tap->name, mtu)
                   : 0;
}

static int set_one(const struct tap *tap, unsigned long what, uint32_t address)
{
    struct ifreq request = {0};
    const struct sockaddr_in of = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    memcpy(&request.ifr_addr, &of, sizeof(of));
    return control(tap, what, &request);
}

int tap_set_address(const struct tap *tap, uint32_t ip, uint32_t mask, struct error *err)
{
    int ret = set_one(tap, SIOCSIFADDR, ip);
    if (ret == 0)
        ret = set_one(tap, SIOCSIFNETMASK, mask);
    return ret < 0 ? error_set_errno(err, ret, "tap interface '%s' does not take its address",
                                     tap->name)
                   : 0;
}
