/* The real-time clock with its CMOS RAM: MC146818 on ports 0x70 and 0x71. It shows the host's time in UTC. */
#ifndef HUSK_DEVICES_RTC_H
#define HUSK_DEVICES_RTC_H

#include "devices/bus.h"

#include <stdint.h>
#include <time.h>

#define RTC_PORTS 2

struct rtc;

extern const struct bus_ops rtc_bus_ops;

struct rtc_params {
    uint64_t low_ram;         /* bytes of RAM below 4 GiB */
    uint64_t high_ram;        /* and above */
    time_t (*now)(void *ctx); /* seconds since the epoch; NULL for the host's clock */
    void *ctx;
};

/** rtc_new() - NULL if memory ran out. */
struct rtc *rtc_new(const struct rtc_params *params);
void rtc_free(struct rtc *rtc);

#endif
