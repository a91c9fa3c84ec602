/*
 * Registers: MC146818A data sheet; memory sizes and century: the IBM PC AT's CMOS layout and what later firmware added.
 * Alarms and periodic interrupts are stored and never raised: no guest of today's platform needs them.
 */
#include "devices/rtc.h"

#include "base/bytes.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    REG_SECONDS = 0x00,
    REG_MINUTES = 0x02,
    REG_HOURS = 0x04,
    REG_WEEKDAY = 0x06,
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    REG_BASE_KIB = 0x15,     /* RAM below 640 KiB, in KiB */
    REG_EXTENDED_KIB = 0x17, /* RAM above 1 MiB, in KiB, at most 64 MiB */
    REG_EXTENDED_KIB_2 = 0x30,
    REG_CENTURY = 0x32,
    REG_ABOVE_16M = 0x34, /* RAM above 16 MiB and below 4 GiB, in 64 KiB */
    REG_ABOVE_4G = 0x5b,  /* RAM above 4 GiB, in 64 KiB, three bytes */
};

#define A_DIVIDER 0x26 /* 32.768 kHz, 1024 Hz; update in progress (bit 7) is never seen */
#define B_24H BIT(1)
#define B_BINARY BIT(2)
#define B_SET BIT(7)
#define D_VALID 0x80

#define CMOS_BYTES 128

struct rtc {
    struct rtc_params params;
    pthread_mutex_t lock;
    uint8_t index;
    int64_t offset; /* seconds that the guest's clock is ahead of the host's */
    struct tm set;  /* the time while the guest sets it (B_SET) */
    uint8_t cmos[CMOS_BYTES];
};

static void store_sizes(struct rtc *rtc)
{
    uint64_t low = rtc->params.low_ram;
    uint64_t extended = low > MIB(1) ? MIN((low - MIB(1)) / 1024, (uint64_t)UINT16_MAX) : 0;
    uint64_t above_16m = low > MIB(16) ? MIN((low - MIB(16)) >> 16, (uint64_t)UINT16_MAX) : 0;
    uint64_t above_4g = MIN(rtc->params.high_ram >> 16, (uint64_t)0xffffff);
    store_le16(rtc->cmos + REG_BASE_KIB, 640);
    store_le16(rtc->cmos + REG_EXTENDED_KIB, (uint16_t)extended);
    store_le16(rtc->cmos + REG_EXTENDED_KIB_2, (uint16_t)extended);
    store_le16(rtc->cmos + REG_ABOVE_16M, (uint16_t)above_16m);
    store_le16(rtc->cmos + REG_ABOVE_4G, (uint16_t)above_4g);
    rtc->cmos[REG_ABOVE_4G + 2] = (uint8_t)(above_4g >> 16);
}

struct rtc *rtc_new(const struct rtc_params *params)
{
    struct rtc *rtc = calloc(1, sizeof(*rtc));
    if (!rtc)
        return NULL;
    rtc->params = *params;
    pthread_mutex_init(&rtc->lock, NULL);
    rtc->cmos[REG_A] = A_DIVIDER;
    rtc->cmos[REG_B] = B_24H;
    store_sizes(rtc);
    return rtc;
}

void rtc_free(struct rtc *rtc)
{
    if (!rtc)
        return;
    pthread_mutex_destroy(&rtc->lock);
    free(rtc);
}

static time_t host_time(const struct rtc *rtc)
{
    return rtc->params.now ? rtc->params.now(rtc->params.ctx) : time(NULL);
}

/** shown_time() - the time that the guest sees. */
static struct tm shown_time(const struct rtc *rtc)
{
    if (rtc->cmos[REG_B] & B_SET)
        return rtc->set;
    time_t seconds = host_time(rtc) + rtc->offset;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return tm;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
    unsigned v = (unsigned)value;
    return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? v : v / 10 * 16 + v % 10);
}

static int decode(const struct rtc *rtc, uint8_t value)
{
    return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 0xf);
}

static uint8_t encode_hours(const struct rtc *rtc, int hours)
{
    if (rtc->cmos[REG_B] & B_24H)
        return encode(rtc, hours);
    uint8_t shown = encode(rtc, hours % 12 ? hours % 12 : 12);
    return hours >= 12 ? shown | 0x80 : shown;
}

static int decode_hours(const struct rtc *rtc, uint8_t value)
{
    if (rtc->cmos[REG_B] & B_24H)
        return decode(rtc, value);
    int hours = decode(rtc, value & 0x7f) % 12;
    return value & 0x80 ? hours + 12 : hours;
}

static uint8_t read_register(const struct rtc *rtc, uint8_t reg)
{
    struct tm tm = shown_time(rtc);
    switch (reg) {
    case REG_SECONDS:
        return encode(rtc, tm.tm_sec);
    case REG_MINUTES:
        return encode(rtc, tm.tm_min);
    case REG_HOURS:
        return encode_hours(rtc, tm.tm_hour);
    case REG_WEEKDAY:
        return encode(rtc, tm.tm_wday + 1);
    case REG_DAY:
        return encode(rtc, tm.tm_mday);
    case REG_MONTH:
        return encode(rtc, tm.tm_mon + 1);
    case REG_YEAR:
        return encode(rtc, tm.tm_year % 100);
    case REG_CENTURY:
        return encode(rtc, (tm.tm_year + 1900) / 100);
    case REG_C:
        return 0;
    case REG_D:
        return D_VALID;
    default:
        return rtc->cmos[reg];
    }
}

/** begin_setting() - the clock stops at the time it shows. */
static void begin_setting(struct rtc *rtc)
{
    rtc->set = shown_time(rtc);
}

/** end_setting() - it goes on from the time that was set; what is no date is normalised by timegm(). */
static void end_setting(struct rtc *rtc)
{
    struct tm tm = rtc->set;
    rtc->offset = (int64_t)timegm(&tm) - (int64_t)host_time(rtc);
}

static void set_field(const struct rtc *rtc, struct tm *tm, uint8_t reg, uint8_t value)
{
    int year = tm->tm_year + 1900;
    switch (reg) {
    case REG_SECONDS:
        tm->tm_sec = decode(rtc, value);
        break;
    case REG_MINUTES:
        tm->tm_min = decode(rtc, value);
        break;
    case REG_HOURS:
        tm->tm_hour = decode_hours(rtc, value);
        break;
    case REG_DAY:
        tm->tm_mday = decode(rtc, value);
        break;
    case REG_MONTH:
        tm->tm_mon = decode(rtc, value) - 1;
        break;
    case REG_YEAR:
        tm->tm_year = year / 100 * 100 + decode(rtc, value) - 1900;
        break;
    case REG_CENTURY:
        tm->tm_year = decode(rtc, value) * 100 + year % 100 - 1900;
        break;
    default: /* the weekday follows from the date */
        break;
    }
}

static bool is_time(uint8_t reg)
{
    return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
           (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static void write_time(struct rtc *rtc, uint8_t reg, uint8_t value)
{
    bool running = !(rtc->cmos[REG_B] & B_SET);
    if (running)
        begin_setting(rtc);
    set_field(rtc, &rtc->set, reg, value);
    if (running)
        end_setting(rtc);
}

static void write_register(struct rtc *rtc, uint8_t reg, uint8_t value)
{
    if (is_time(reg)) {
        write_time(rtc, reg, value);
    } else if (reg == REG_B) {
        bool was = rtc->cmos[REG_B] & B_SET, is = value & B_SET;
        if (!was && is)
            begin_setting(rtc);
        rtc->cmos[REG_B] = value;
        if (was && !is)
            end_setting(rtc);
    } else if (reg != REG_C && reg != REG_D) {
        /* Bit 7 of register A is read-only. */
        rtc->cmos[reg] = reg == REG_A ? value & 0x7f : value;
    }
}

static void rtc_read(void *device, uint64_t offset, void *data, unsigned len)
{
    struct rtc *rtc = device;
    memset(data, 0xff, len);
    pthread_mutex_lock(&rtc->lock);
    if (offset == 1)
        *(uint8_t *)data = read_register(rtc, rtc->index);
    pthread_mutex_unlock(&rtc->lock);
}

static void rtc_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)len;
    struct rtc *rtc = device;
    uint8_t value = *(const uint8_t *)data;
    pthread_mutex_lock(&rtc->lock);
    if (offset == 0)
        rtc->index = value & (CMOS_BYTES - 1); /* bit 7 masks NMIs on real machines */
    else
        write_register(rtc, rtc->index, value);
    pthread_mutex_unlock(&rtc->lock);
}

const struct bus_ops rtc_bus_ops = {rtc_read, rtc_write};
