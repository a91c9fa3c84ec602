/*
 * What a network driver may ask for on its control queue (virtio 1.2, 5.1.6.5). Filters are best effort there, and a tap
 * has none: what only filters is agreed to and changes nothing.
 */
#ifndef HUSK_VIRTIO_NET_CONTROL_H
#define HUSK_VIRTIO_NET_CONTROL_H

#include "virtio/net.h"

struct net_control {
    uint64_t features; /* accepted by the driver */
    unsigned max_pairs;
    unsigned pairs; /* in use, from 1 to @max_pairs */
    uint8_t mac[NET_MAC_BYTES];
};

/**
 * net_control_request() - do what one request says: @pairs and @mac may be others afterwards.
 * @request, @len: the readable part of it, in memory of husk's own.
 *
 * Return: NET_CTRL_OK; NET_CTRL_ERR, and nothing was changed, for what is malformed or was not agreed upon.
 */
uint8_t net_control_request(struct net_control *control, const uint8_t *request, size_t len);

#endif
