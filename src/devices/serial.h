/* A serial port: 16550A with its FIFOs. Bytes leave at once; the baud rate is accepted and means nothing. */
#ifndef HUSK_DEVICES_SERIAL_H
#define HUSK_DEVICES_SERIAL_H

#include "devices/bus.h"
#include "devices/irq.h"

#include <stddef.h>
#include <stdint.h>

#define SERIAL_PORTS 8

struct serial;

struct serial_params {
    struct irq_line irq;
    /* The guest sent bytes; from a vCPU thread, without the port's lock. */
    void (*output)(void *ctx, const uint8_t *data, size_t len);
    /* There is room for input again after serial_input() took less than it was offered; from a vCPU thread. */
    void (*input_ready)(void *ctx);
    void *ctx;
};

extern const struct bus_ops serial_bus_ops;

/** serial_new() - the port as after reset. NULL if memory ran out. */
struct serial *serial_new(const struct serial_params *params);
void serial_free(struct serial *serial);

/** serial_input() - bytes for the guest; from any thread. Returns how many of @len were taken. */
size_t serial_input(struct serial *serial, const uint8_t *data, size_t len);

#endif
