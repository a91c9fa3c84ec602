/* Small ports of the PC: keyboard controller (for reset), system control port B, POST codes, debug console. */
#ifndef HUSK_DEVICES_LEGACY_PORTS_H
#define HUSK_DEVICES_LEGACY_PORTS_H

#include "base/error.h"
#include "devices/bus.h"

#include <stddef.h>
#include <stdint.h>

struct legacy_ports;

struct legacy_ports_params {
    void (*reset)(
        void *ctx); /* the keyboard controller pulses the reset line; from a vCPU thread */
    void (*debug)(void *ctx, const uint8_t *data,
                  size_t len); /* debug console output; NULL: there is none */
    uint16_t debug_port;
    uint16_t firmware_port; /* a second one; 0 for none */
    void *ctx;
};

/** legacy_ports_new() - the devices on @ports. NULL with @err filled on failure. */
struct legacy_ports *legacy_ports_new(struct bus *ports, const struct legacy_ports_params *params,
                                      struct error *err);
void legacy_ports_free(struct legacy_ports *legacy);

#endif
