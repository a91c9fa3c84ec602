/* How a device raises an interrupt, without knowing what stands behind the line. */
#ifndef HUSK_DEVICES_IRQ_H
#define HUSK_DEVICES_IRQ_H

#include <stdbool.h>

struct irq_line {
    void (*set)(void *ctx, unsigned gsi, bool level); /* from any thread */
    void *ctx;
    unsigned gsi;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->ctx, line->gsi, level);
}

/** irq_pulse() - one edge. */
static inline void irq_pulse(const struct irq_line *line)
{
    irq_set(line, true);
    irq_set(line, false);
}

#endif
