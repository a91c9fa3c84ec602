#include "vmm/consoles.h"

#include "base/log.h"
#include "sandbox/broker.h"

#include <errno.h>
#include <stdlib.h>

/** open_one() - *@chardev stays NULL for a console that goes nowhere. */
static int open_one(struct chardev **chardev, const struct console_config *config, const char *name,
                    struct loop *loop, struct broker *broker, struct error *err)
{
    static const enum chardev_mode modes[] = {
        [CONSOLE_TTY] = CHARDEV_TTY,
        [CONSOLE_PTY] = CHARDEV_PTY,
        [CONSOLE_FILE] = CHARDEV_FILE,
        [CONSOLE_SOCKET] = CHARDEV_SOCKET,
    };
    if (config->mode == CONSOLE_OFF || config->mode == CONSOLE_NULL)
        return 0;
    struct chardev_params params = {
        .mode = modes[config->mode], .path = config->path, .name = name};
    if (config->mode == CONSOLE_SOCKET) {
        params.listen_fd = broker_listen(broker, config, err);
        if (params.listen_fd < 0)
            return error_context(err, "%s", name);
    }
    *chardev = chardev_open(&params, loop, err);
    return *chardev ? 0 : err->code;
}

struct consoles *consoles_open(const struct vm_config *config, struct console_link *link,
                               struct loop *loop, struct broker *broker, struct error *err)
{
    struct consoles *consoles = calloc(1, sizeof(*consoles));
    if (!consoles) {
        error_set(err, -ENOMEM, "out of memory for the consoles");
        console_link_free(link);
        return NULL;
    }
    consoles->link = link;
    int ret = open_one(&consoles->serial, &config->serial, "--serial", loop, broker, err);
    if (ret == 0)
        ret = open_one(&consoles->debug, &config->debug_console, "--debug-console", loop, broker,
                       err);
    if (ret == 0)
        ret = open_one(&consoles->console, &config->console, "--console", loop, broker, err);
    if (ret == 0 && link)
        ret = console_link_attach(link, consoles->console, config->console.mode == CONSOLE_TTY,
                                  loop, err);
    if (ret < 0) {
        consoles_close(consoles);
        return NULL;
    }
    if (!consoles->serial && !consoles->console)
        log_info("what the guest writes to its serial port is not shown; --serial tty shows it");
    return consoles;
}

void consoles_close(struct consoles *consoles)
{
    if (!consoles)
        return;
    console_link_free(consoles->link);
    chardev_close(consoles->console);
    chardev_close(consoles->serial);
    chardev_close(consoles->debug);
    free(consoles);
}
