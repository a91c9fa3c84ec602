#include "virtio/net_control.h"

#define HEAD_BYTES 2u
#define VLAN_IDS 4096u

static bool rx_mode(const struct net_control *control, uint8_t command, size_t len)
{
    uint64_t needed = command <= NET_CTRL_RX_LAST ? NET_F_CTRL_RX : NET_F_CTRL_RX_EXTRA;
    return command <= NET_CTRL_RX_EXTRA_LAST && control->features & needed && len == 1;
}

/** mac_table() - two lists, each of them a number of addresses and the addresses. */
static bool mac_table(const uint8_t *data, size_t len)
{
    for (unsigned list = 0; list < 2; list++) {
        if (len < sizeof(uint32_t))
            return false;
        uint64_t bytes = (uint64_t)load_le32(data) * NET_MAC_BYTES;
        data += sizeof(uint32_t);
        len -= sizeof(uint32_t);
        if (len < bytes)
            return false;
        data += bytes;
        len -= (size_t)bytes;
    }
    return len == 0;
}

static bool mac(struct net_control *control, uint8_t command, const uint8_t *data, size_t len)
{
    if (command == NET_CTRL_MAC_TABLE_SET)
        return control->features & NET_F_CTRL_RX && mac_table(data, len);
    if (command != NET_CTRL_MAC_ADDR_SET || !(control->features & NET_F_CTRL_MAC_ADDR) ||
        len != NET_MAC_BYTES)
        return false;
    memcpy(control->mac, data, NET_MAC_BYTES);
    return true;
}

static bool vlan(const struct net_control *control, uint8_t command, const uint8_t *data,
                 size_t len)
{
    return command <= NET_CTRL_VLAN_DEL && control->features & NET_F_CTRL_VLAN && len == 2 &&
           load_le16(data) < VLAN_IDS;
}

static bool set_pairs(struct net_control *control, uint8_t command, const uint8_t *data, size_t len)
{
    if (command != NET_CTRL_MQ_VQ_PAIRS_SET || !(control->features & NET_F_MQ) || len != 2)
        return false;
    unsigned pairs = load_le16(data);
    if (pairs < 1 || pairs > control->max_pairs)
        return false;
    control->pairs = pairs;
    return true;
}

uint8_t net_control_request(struct net_control *control, const uint8_t *request, size_t len)
{
    bool done = false;
    if (len < HEAD_BYTES)
        return NET_CTRL_ERR;
    uint8_t command = request[1];
    const uint8_t *data = request + HEAD_BYTES;
    len -= HEAD_BYTES;
    switch (request[0]) {
    case NET_CTRL_RX:
        done = rx_mode(control, command, len);
        break;
    case NET_CTRL_MAC:
        done = mac(control, command, data, len);
        break;
    case NET_CTRL_VLAN:
        done = vlan(control, command, data, len);
        break;
    case NET_CTRL_MQ:
        done = set_pairs(control, command, data, len);
        break;
    default:
        break;
    }
    return done ? NET_CTRL_OK : NET_CTRL_ERR;
}
