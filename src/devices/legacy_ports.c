#include "devices/legacy_ports.h"

#include "base/bytes.h"
#include "base/log.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Keyboard controller: IBM PC AT technical reference, "8042". */
#define I8042_DATA 0
#define I8042_PORT_B 1
#define I8042_COMMAND 4
#define I8042_PULSE_RESET 0xfe

#define PORT_B_REFRESH BIT(4) /* toggles with each DRAM refresh; old code counts time with it */
#define PORT_B_TIMER_2 BIT(5)

/* What QEMU's isa-debugcon answers, by which firmware knows that somebody listens. */
#define DEBUG_PRESENT 0xe9

struct legacy_ports {
    struct legacy_ports_params params;
    atomic_uchar port_b;
};

static void i8042_read(void *device, uint64_t offset, void *data, unsigned len)
{
    struct legacy_ports *legacy = device;
    memset(data, 0xff, len);
    if (offset == I8042_PORT_B)
        *(uint8_t *)data = atomic_fetch_xor(&legacy->port_b, PORT_B_REFRESH) &
                           (PORT_B_REFRESH | PORT_B_TIMER_2 | 3);
    else if (offset == I8042_DATA || offset == I8042_COMMAND)
        /* Status: no output waiting, input buffer empty, self-test not passed. Nobody is at the keyboard. */
        *(uint8_t *)data = 0;
}

static void i8042_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)len;
    struct legacy_ports *legacy = device;
    uint8_t value = *(const uint8_t *)data;
    if (offset == I8042_COMMAND && value == I8042_PULSE_RESET)
        legacy->params.reset(legacy->params.ctx);
    else if (offset == I8042_PORT_B)
        atomic_store(&legacy->port_b, value & 3);
}

static void post_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    (void)offset;
    memset(data, 0xff, len);
}

static void post_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)device;
    (void)offset;
    (void)len;
    log_debug("the guest wrote 0x%02x to the debug port", *(const uint8_t *)data);
}

static void debug_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)device;
    (void)offset;
    memset(data, 0xff, len);
    *(uint8_t *)data = DEBUG_PRESENT;
}

static void debug_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)offset;
    (void)len;
    struct legacy_ports *legacy = device;
    legacy->params.debug(legacy->params.ctx, data, 1);
}

static const struct bus_ops i8042_ops = {i8042_read, i8042_write};
static const struct bus_ops post_ops = {post_read, post_write};
static const struct bus_ops debug_ops = {debug_read, debug_write};

struct legacy_ports *legacy_ports_new(struct bus *ports, const struct legacy_ports_params *params,
                                      struct error *err)
{
    struct legacy_ports *legacy = calloc(1, sizeof(*legacy));
    if (!legacy) {
        error_set(err, -ENOMEM, "out of memory for the legacy ports");
        return NULL;
    }
    legacy->params = *params;
    int ret = bus_add(ports, LAYOUT_PORT_I8042, 5, "i8042", &i8042_ops, legacy, err);
    if (ret == 0)
        ret = bus_add(ports, LAYOUT_PORT_DEBUG, 1, "debug port", &post_ops, legacy, err);
    if (ret == 0 && params->debug)
        ret = bus_add(ports, params->debug_port, 1, "--debug-console", &debug_ops, legacy, err);
    if (ret == 0 && params->debug && params->firmware_port &&
        params->firmware_port != params->debug_port)
        ret = bus_add(ports, params->firmware_port, 1, "--debug-console for firmware", &debug_ops,
                      legacy, err);
    if (ret < 0) {
        legacy_ports_free(legacy);
        return NULL;
    }
    return legacy;
}

void legacy_ports_free(struct legacy_ports *legacy)
{
    free(legacy);
}
