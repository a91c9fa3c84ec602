/* The guest's consoles as the host sees them. They stay open over reboots; the ports in front of them do not. */
#ifndef HUSK_VMM_CONSOLES_H
#define HUSK_VMM_CONSOLES_H

#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"
#include "devices/chardev.h"

struct consoles {
    struct chardev *serial; /* NULL: off or null */
    struct chardev *debug;
};

/** consoles_open() - as --serial and --debug-console ask. NULL with @err filled on failure. */
struct consoles *consoles_open(const struct vm_config *config, struct loop *loop,
                               struct error *err);
void consoles_close(struct consoles *consoles);

#endif
