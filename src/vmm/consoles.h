/* The guest's consoles as the host sees them. They stay open over reboots; the ports in front of them do not. */
#ifndef HUSK_VMM_CONSOLES_H
#define HUSK_VMM_CONSOLES_H

#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"
#include "devices/chardev.h"
#include "vmm/console_link.h"

struct consoles {
    struct chardev *serial; /* NULL: off or null */
    struct chardev *debug;
    struct chardev *console;   /* of the virtio console */
    struct console_link *link; /* to its back-end; NULL: off or null */
};

struct broker;

/**
 * consoles_open() - as --serial, --debug-console and --console ask. NULL with @err filled on failure.
 * @link: to the virtio console's back-end, owned from here on, after a failure too. NULL if there is none.
 * @broker: makes the sockets, and removes them whatever becomes of husk; NULL: husk does.
 */
struct consoles *consoles_open(const struct vm_config *config, struct console_link *link,
                               struct loop *loop, struct broker *broker, struct error *err);
void consoles_close(struct consoles *consoles);

#endif
