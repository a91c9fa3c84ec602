/* The sockets of consoles: made by the broker, who outlives husk and so can remove them however husk ends. */
#include "sandbox/broker_internal.h"

#include "base/cleanup.h"
#include "base/unix_socket.h"

#include <errno.h>

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
        sockets->fds[i] = console ? unix_listen(console->path, &sockets->errors[i]) : -1;
        sockets->made[i] = sockets->fds[i] >= 0;
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
    if (sockets->fds[i] < 0)
        return error_set(err, -EINVAL, "console %u has no socket to be handed over", i);
    return take_fd(&sockets->fds[i]);
}

void broker_sockets_remove(const struct vm_config *config, struct broker_sockets *sockets)
{
    for (unsigned i = 0; i < BROKER_CONSOLES; i++) {
        cleanup_close(&sockets->fds[i]);
        if (sockets->made[i])
            unlink(broker_console(config, i)->path);
    }
}
