/* The virtio network device (virtio 1.2, 5.1) as its front-end and its back-end both know it: numbers and layouts. */
#ifndef HUSK_VIRTIO_NET_H
#define HUSK_VIRTIO_NET_H

#include "base/bytes.h"

/* 5.1.3 */
#define NET_F_CSUM BIT64(0)
#define NET_F_GUEST_CSUM BIT64(1)
#define NET_F_MTU BIT64(3)
#define NET_F_MAC BIT64(5)
#define NET_F_GUEST_TSO4 BIT64(7)
#define NET_F_GUEST_TSO6 BIT64(8)
#define NET_F_GUEST_ECN BIT64(9)
#define NET_F_GUEST_UFO BIT64(10)
#define NET_F_HOST_TSO4 BIT64(11)
#define NET_F_HOST_TSO6 BIT64(12)
#define NET_F_HOST_ECN BIT64(13)
#define NET_F_HOST_UFO BIT64(14)
#define NET_F_MRG_RXBUF BIT64(15)
#define NET_F_STATUS BIT64(16)
#define NET_F_CTRL_VQ BIT64(17)
#define NET_F_CTRL_RX BIT64(18)
#define NET_F_CTRL_VLAN BIT64(19)
#define NET_F_CTRL_RX_EXTRA BIT64(20)
#define NET_F_MQ BIT64(22)
#define NET_F_CTRL_MAC_ADDR BIT64(23)
#define NET_F_GUEST_USO4 BIT64(54)
#define NET_F_GUEST_USO6 BIT64(55)
#define NET_F_HOST_USO BIT64(56)

/* By what they are for: in both directions. */
#define NET_F_CSUMS (NET_F_CSUM | NET_F_GUEST_CSUM)
#define NET_F_TSO                                                                                \
    (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | \
     NET_F_HOST_ECN)
#define NET_F_UFO \
    (NET_F_GUEST_UFO | NET_F_HOST_UFO | NET_F_GUEST_USO4 | NET_F_GUEST_USO6 | NET_F_HOST_USO)
/* What a back-end can offer through husk's front-end; every other bit of a network device's would need a configuration
 * or a control command that it does not have. */
#define NET_F_FORWARDED (NET_F_CSUMS | NET_F_TSO | NET_F_UFO | NET_F_MRG_RXBUF)
#define NET_F_ALL ((BIT64(24) - 1) | ~(BIT64(50) - 1))

#define NET_PAIRS_MAX 32u /* of queues: receive, transmit */

/* 5.1.4: what precedes speed and duplex. */
#define NET_MAC_BYTES 6u
struct net_config_space {
    uint8_t mac[NET_MAC_BYTES];
    uint16_t status;
    uint16_t max_pairs;
    uint16_t mtu;
};
#define NET_CONFIG_BYTES 12u
_Static_assert(sizeof(struct net_config_space) == NET_CONFIG_BYTES, "virtio 1.2, 5.1.4");
#define NET_STATUS_LINK_UP 1u

#define NET_MTU_MIN 68u /* 5.1.4.1 */
#define NET_MTU_MAX 65535u

/* 5.1.6: before every frame. A driver of neither virtio 1.0 nor merged buffers leaves the last field out. */
#define NET_HDR_F_NEEDS_CSUM 1u
#define NET_HDR_F_DATA_VALID 2u
#define NET_HDR_GSO_NONE 0u
#define NET_HDR_GSO_TCPV4 1u
#define NET_HDR_GSO_UDP 3u
#define NET_HDR_GSO_TCPV6 4u
#define NET_HDR_GSO_UDP_L4 5u
#define NET_HDR_GSO_ECN 0x80u
struct net_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers;
};
#define NET_HEADER_BYTES 12u
#define NET_HEADER_LEGACY_BYTES 10u
_Static_assert(sizeof(struct net_header) == NET_HEADER_BYTES, "virtio 1.2, 5.1.6");

/* 5.1.6.3.1: the largest frame, of 64 KiB and an Ethernet header, and the header before it. */
#define NET_PACKET_MAX (65550u + NET_HEADER_BYTES)

/* 5.1.6.5: a request on the control queue is a class, a command and its data, answered by one byte. */
#define NET_CTRL_OK 0
#define NET_CTRL_ERR 1
#define NET_CTRL_RX 0u
#define NET_CTRL_RX_LAST 1u       /* promiscuous, all multicast */
#define NET_CTRL_RX_EXTRA_LAST 5u /* all unicast, no multicast, no unicast, no broadcast */
#define NET_CTRL_MAC 1u
#define NET_CTRL_MAC_TABLE_SET 0u
#define NET_CTRL_MAC_ADDR_SET 1u
#define NET_CTRL_VLAN 2u
#define NET_CTRL_VLAN_ADD 0u
#define NET_CTRL_VLAN_DEL 1u
#define NET_CTRL_MQ 4u
#define NET_CTRL_MQ_VQ_PAIRS_SET 0u

#endif
