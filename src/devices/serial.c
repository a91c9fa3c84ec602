/* Registers: PC16550D data sheet, section 8. */
#include "devices/serial.h"

#include "base/bytes.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    REG_DATA = 0, /* receive buffer, transmit holding; divisor low with DLAB */
    REG_IER = 1,  /* interrupt enable; divisor high with DLAB */
    REG_IIR = 2,  /* read: interrupt identification; write: FIFO control */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCRATCH = 7,
};

#define IER_RECEIVE BIT(0)
#define IER_TRANSMIT BIT(1)
#define IER_LINE BIT(2)
#define IER_MODEM BIT(3)

#define IIR_NONE 0x1
#define IIR_TRANSMIT 0x2
#define IIR_RECEIVE 0x4
#define IIR_LINE 0x6
#define IIR_TIMEOUT 0xc
#define IIR_MODEM 0x0
#define IIR_FIFO 0xc0

#define FCR_ENABLE BIT(0)
#define FCR_CLEAR_RECEIVE BIT(1)

#define LCR_DLAB BIT(7)
#define MCR_LOOPBACK BIT(4)

#define LSR_DATA_READY BIT(0)
#define LSR_OVERRUN BIT(1)
#define LSR_IDLE (BIT(5) | BIT(6)) /* nothing waits to be sent */

#define MSR_CTS BIT(4)
#define MSR_DSR BIT(5)
#define MSR_RI BIT(6)
#define MSR_DCD BIT(7)
#define MSR_DELTA 0x0f

#define FIFO_BYTES 16

struct serial {
    struct serial_params params;
    pthread_mutex_t lock;
    uint8_t ier, lcr, mcr, msr, scratch, fcr;
    uint16_t divisor;
    bool transmit_pending; /* the holding register became empty and nobody has been told */
    bool overrun;
    bool refused_input; /* serial_input() took less than it was offered */
    bool irq_level;
    uint8_t fifo[FIFO_BYTES];
    unsigned fifo_start, fifo_len;
};

struct serial *serial_new(const struct serial_params *params)
{
    struct serial *serial = calloc(1, sizeof(*serial));
    if (!serial)
        return NULL;
    serial->params = *params;
    serial->divisor = 12; /* 9600 baud */
    serial->mcr = 0x08;
    serial->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    serial->transmit_pending = true;
    pthread_mutex_init(&serial->lock, NULL);
    return serial;
}

void serial_free(struct serial *serial)
{
    if (!serial)
        return;
    pthread_mutex_destroy(&serial->lock);
    free(serial);
}

static unsigned fifo_capacity(const struct serial *serial)
{
    return serial->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned receive_trigger(const struct serial *serial)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return serial->fcr & FCR_ENABLE ? levels[serial->fcr >> 6] : 1;
}

/** pending() - the interrupt with the highest priority, as IIR 3:0 names it. */
static uint8_t pending(const struct serial *serial)
{
    if ((serial->ier & IER_LINE) && serial->overrun)
        return IIR_LINE;
    if ((serial->ier & IER_RECEIVE) && serial->fifo_len >= receive_trigger(serial))
        return IIR_RECEIVE;
    /* The timeout for fewer bytes than the trigger level has passed at once: nothing else is on the way. */
    if ((serial->ier & IER_RECEIVE) && serial->fifo_len)
        return IIR_TIMEOUT;
    if ((serial->ier & IER_TRANSMIT) && serial->transmit_pending)
        return IIR_TRANSMIT;
    if ((serial->ier & IER_MODEM) && (serial->msr & MSR_DELTA))
        return IIR_MODEM;
    return IIR_NONE;
}

/** update_irq() - the lock is held. */
static void update_irq(struct serial *serial)
{
    bool level = pending(serial) != IIR_NONE;
    if (level == serial->irq_level)
        return;
    serial->irq_level = level;
    irq_set(&serial->params.irq, level);
}

static bool fifo_push(struct serial *serial, uint8_t byte)
{
    if (serial->fifo_len >= fifo_capacity(serial))
        return false;
    serial->fifo[(serial->fifo_start + serial->fifo_len++) % FIFO_BYTES] = byte;
    return true;
}

static uint8_t fifo_pop(struct serial *serial)
{
    if (serial->fifo_len == 0)
        return 0;
    uint8_t byte = serial->fifo[serial->fifo_start];
    serial->fifo_start = (serial->fifo_start + 1) % FIFO_BYTES;
    serial->fifo_len--;
    return byte;
}

size_t serial_input(struct serial *serial, const uint8_t *data, size_t len)
{
    pthread_mutex_lock(&serial->lock);
    size_t taken = 0;
    /* In loopback the line is disconnected; what comes in waits outside. */
    if (!(serial->mcr & MCR_LOOPBACK))
        while (taken < len && fifo_push(serial, data[taken]))
            taken++;
    serial->refused_input = taken < len;
    update_irq(serial);
    pthread_mutex_unlock(&serial->lock);
    return taken;
}

/** modem_status() - the lines; in loopback, the outputs fed back: DTR, RTS, OUT1, OUT2 as DSR, CTS, RI, DCD. */
static uint8_t modem_status(const struct serial *serial)
{
    if (!(serial->mcr & MCR_LOOPBACK))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((serial->mcr & BIT(0) ? MSR_DSR : 0) | (serial->mcr & BIT(1) ? MSR_CTS : 0) |
                     (serial->mcr & BIT(2) ? MSR_RI : 0) | (serial->mcr & BIT(3) ? MSR_DCD : 0));
}

static void update_modem_status(struct serial *serial)
{
    uint8_t lines = modem_status(serial);
    uint8_t changed = (lines ^ serial->msr) & 0xf0;
    /* RI reports its trailing edge only. */
    if (lines & MSR_RI)
        changed &= (uint8_t)~MSR_RI;
    serial->msr = (uint8_t)(lines | (serial->msr & MSR_DELTA) | changed >> 4);
}

static void write_fifo_control(struct serial *serial, uint8_t value)
{
    bool toggled = (serial->fcr ^ value) & FCR_ENABLE;
    if (toggled || value & FCR_CLEAR_RECEIVE)
        serial->fifo_len = 0;
    serial->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

/** transmit() - a byte from the guest. Returns whether it goes out, rather than round. */
static bool transmit(struct serial *serial, uint8_t byte)
{
    serial->transmit_pending = true;
    if (!(serial->mcr & MCR_LOOPBACK))
        return true;
    if (!fifo_push(serial, byte))
        serial->overrun = true;
    return false;
}

/** write_register() - the lock is held. Returns whether @value is a byte to send. */
static bool write_register(struct serial *serial, unsigned reg, uint8_t value)
{
    bool dlab = serial->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        if (!dlab)
            return transmit(serial, value);
        serial->divisor = (uint16_t)((serial->divisor & 0xff00) | value);
        break;
    case REG_IER:
        if (dlab) {
            serial->divisor = (uint16_t)((serial->divisor & 0xff) | value << 8);
            break;
        }
        /* Enabling the transmit interrupt reports that the holding register is empty, which it always is. */
        if ((value & ~serial->ier) & IER_TRANSMIT)
            serial->transmit_pending = true;
        serial->ier = value & 0x0f;
        break;
    case REG_IIR:
        write_fifo_control(serial, value);
        break;
    case REG_LCR:
        serial->lcr = value;
        break;
    case REG_MCR:
        serial->mcr = value & 0x1f;
        update_modem_status(serial);
        break;
    case REG_SCRATCH:
        serial->scratch = value;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
    return false;
}

static uint8_t read_identification(struct serial *serial)
{
    uint8_t cause = pending(serial);
    if (cause == IIR_TRANSMIT)
        serial->transmit_pending = false;
    return (uint8_t)(cause | (serial->fcr & FCR_ENABLE ? IIR_FIFO : 0));
}

static uint8_t read_line_status(struct serial *serial)
{
    uint8_t value =
        LSR_IDLE | (serial->fifo_len ? LSR_DATA_READY : 0) | (serial->overrun ? LSR_OVERRUN : 0);
    serial->overrun = false;
    return value;
}

/** read_register() - the lock is held. */
static uint8_t read_register(struct serial *serial, unsigned reg)
{
    bool dlab = serial->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        return dlab ? (uint8_t)serial->divisor : fifo_pop(serial);
    case REG_IER:
        return dlab ? (uint8_t)(serial->divisor >> 8) : serial->ier;
    case REG_IIR:
        return read_identification(serial);
    case REG_LCR:
        return serial->lcr;
    case REG_MCR:
        return serial->mcr;
    case REG_LSR:
        return read_line_status(serial);
    case REG_MSR: {
        uint8_t value = serial->msr;
        serial->msr &= (uint8_t)~MSR_DELTA;
        return value;
    }
    default:
        return serial->scratch;
    }
}

/** room_again() - whether the other side waits for room, and there is some; the lock is held. */
static bool room_again(struct serial *serial)
{
    if (!serial->refused_input || serial->mcr & MCR_LOOPBACK ||
        serial->fifo_len >= fifo_capacity(serial))
        return false;
    serial->refused_input = false;
    return true;
}

static void serial_read(void *device, uint64_t offset, void *data, unsigned len)
{
    struct serial *serial = device;
    memset(data, 0xff, len);
    pthread_mutex_lock(&serial->lock);
    *(uint8_t *)data = read_register(serial, (unsigned)offset);
    update_irq(serial);
    bool ready = room_again(serial);
    pthread_mutex_unlock(&serial->lock);
    if (ready && serial->params.input_ready)
        serial->params.input_ready(serial->params.ctx);
}

static void serial_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)len; /* wider accesses write the register they begin at */
    struct serial *serial = device;
    uint8_t value = *(const uint8_t *)data;
    pthread_mutex_lock(&serial->lock);
    bool send = write_register(serial, (unsigned)offset, value);
    update_irq(serial);
    bool ready = room_again(serial);
    pthread_mutex_unlock(&serial->lock);
    if (send && serial->params.output)
        serial->params.output(serial->params.ctx, &value, 1);
    if (ready && serial->params.input_ready)
        serial->params.input_ready(serial->params.ctx);
}

const struct bus_ops serial_bus_ops = {serial_read, serial_write};
