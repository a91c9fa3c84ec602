/* The sockets of consoles: made by the broker, who outlives husk and so can remove them however husk ends. */
#include "sandbox/broker_internal.h"

#include "base/cleanup.h"

#include <errno.h>

/* One client at a time; another waits to be turned away. */
#define CONSOLE_BACKLOG 1

const struct console_config *broker_console(const struct vm_config *config, unsigned i)
{
    const struct console_config *const all[BROKER_CONSOLES] = {&config->serial, &config->console,
                                                               &config->debug_console};
    return i < BROKER_CONSOLES && all[i]->mode == CONSOLE_SOCKET ? all[i] : NULL;
}

void broker_sockets_open(const struct vm_config *config, struct broker_sockets *sockets)
{
    for (unsigned i = 0; i < BROKER_CONSOLES; i++) {
        const struct console_config *console = broker_console(config, i);
        sockets->listeners[i] = UNIX_LISTENER_INIT;
        if (console)
            (void)unix_listen(console->path, CONSOLE_BACKLOG, &sockets->listeners[i],
                              &sockets->errors[i]);
    }
}

int broker_sockets_take(struct broker_sockets *sockets, unsigned i, struct error *err)
{
    if (i >= BROKER_CONSOLES)
        return error_set(err, -EINVAL, "there is no console %u", i);
    if (sockets->errors[i].code) {
        *err = sockets->errors[i];
        return err->code;
    }
    if (sockets->listeners[i].fd < 0)
        return error_set(err, -EINVAL, "console %u has no socket to be handed over", i);
    return take_fd(&sockets->listeners[i].fd);
}

void broker_sockets_remove(const struct vm_config *config, struct broker_sockets *sockets)
{
    for (unsigned i = 0; i < BROKER_CONSOLES; i++) {
        const struct console_config *console = broker_console(config, i);
        cleanup_close(&sockets->listeners[i].fd);
        if (console)
            unix_listener_remove(console->path, &sockets->listeners[i]);
    }
}
