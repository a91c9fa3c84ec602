/*
 * The kernel tells of a multi-queue tap's queues in what it says of the link (rtnetlink(7), `ip -d link`). /sys may be of
 * another network namespace and knows of none that is detached; a lock would bind only those that know of it.
 */
#include "base/tap_queues.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_BYTES KIB(32) /* a link's description has some 2 KiB */

/* Written and read as the kernel lays them out: the attribute begins where the header ends. */
struct request {
    struct nlmsghdr head;
    struct ifinfomsg link;
    struct rtattr attr;
    char name[IFNAMSIZ];
};

/** find() - the attribute @type among the @len bytes from @first on; NULL if it is not there or is shorter than @room. */
static const struct rtattr *find(const void *first, size_t len, unsigned type, size_t room)
{
    for (size_t at = 0; at < len && len - at >= sizeof(struct rtattr);) {
        const struct rtattr *attr = (const void *)((const uint8_t *)first + at);
        if (attr->rta_len < sizeof(*attr) || attr->rta_len > len - at)
            return NULL;
        if ((attr->rta_type & NLA_TYPE_MASK) == type)
            return RTA_PAYLOAD(attr) >= room ? attr : NULL;
        at += RTA_ALIGN(attr->rta_len);
    }
    return NULL;
}

static const struct rtattr *find_inside(const struct rtattr *outer, unsigned type, size_t room)
{
    return outer ? find(RTA_DATA(outer), RTA_PAYLOAD(outer), type, room) : NULL;
}

static int count(const struct nlmsghdr *head)
{
    size_t begin = NLMSG_SPACE(sizeof(struct ifinfomsg));
    if (head->nlmsg_type != RTM_NEWLINK || head->nlmsg_len < begin)
        return -EPROTO;
    const void *first = (const uint8_t *)head + begin;
    const struct rtattr *info = find(first, head->nlmsg_len - begin, IFLA_LINKINFO, 0);
    const struct rtattr *kind = find_inside(info, IFLA_INFO_KIND, sizeof("tun"));
    if (!kind || memcmp(RTA_DATA(kind), "tun", sizeof("tun")) != 0)
        return -ENODATA;
    const struct rtattr *data = find_inside(info, IFLA_INFO_DATA, 0);
    const struct rtattr *attached = find_inside(data, IFLA_TUN_NUM_QUEUES, sizeof(uint32_t));
    const struct rtattr *detached =
        find_inside(data, IFLA_TUN_NUM_DISABLED_QUEUES, sizeof(uint32_t));
    if (!attached || !detached)
        return -ENODATA;
    uint32_t n[2];
    memcpy(&n[0], RTA_DATA(attached), sizeof(n[0]));
    memcpy(&n[1], RTA_DATA(detached), sizeof(n[1]));
    return (int)(n[0] + n[1]);
}

int tap_queues(const char *name)
{
    union {
        struct nlmsghdr head;
        uint8_t bytes[REPLY_BYTES];
    } reply;
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct request request = {
        .head = {.nlmsg_len = sizeof(request),
                 .nlmsg_type = RTM_GETLINK,
                 .nlmsg_flags = NLM_F_REQUEST},
        .link = {.ifi_family = AF_UNSPEC},
        .attr = {.rta_len = RTA_LENGTH(IFNAMSIZ), .rta_type = IFLA_IFNAME},
    };
    memcpy(request.name, name, strnlen(name, IFNAMSIZ - 1));
    if (fd < 0 || send(fd, &request, sizeof(request), 0) < 0)
        return -errno;
    ssize_t got = recv(fd, &reply, sizeof(reply), 0);
    if (got < 0)
        return -errno;
    if (!NLMSG_OK(&reply.head, (size_t)got))
        return -EPROTO;
    if (reply.head.nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *failed = NLMSG_DATA(&reply.head);
        return failed->error < 0 ? failed->error : -EPROTO;
    }
    return count(&reply.head);
}
