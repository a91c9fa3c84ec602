/* Time that only goes forward, for limits of waiting. */
#ifndef HUSK_BASE_CLOCK_H
#define HUSK_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/** clock_ms() - milliseconds since some moment in the past (CLOCK_MONOTONIC). */
static inline int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
