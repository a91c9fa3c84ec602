/*
 * The console back-end: `husk-backend console`. One port without a control queue (virtio 1.2, 5.3): a queue of buffers that
 * input is put in, a queue of output, and the size of the window in the configuration.
 *
 * The bytes come from and go to descriptors that somebody else owns: the VMM, which has the terminal, or whoever started the
 * back-end. Output is given back to the driver when it has been written, input leaves its socket when the driver has it:
 * a back-end that dies loses neither, though the next one may repeat the last bytes.
 */
#ifndef HUSK_BACKENDS_CONSOLE_H
#define HUSK_BACKENDS_CONSOLE_H

#include "backends/kind.h"

#define CONSOLE_F_SIZE (1ull << 0)

#define CONSOLE_RECEIVE_QUEUE 0u
#define CONSOLE_TRANSMIT_QUEUE 1u
#define CONSOLE_QUEUES 2u
#define CONSOLE_QUEUE_SIZE_MAX 1024u

/* struct virtio_console_config (virtio 1.2, 5.3.4) */
struct console_config_space {
    uint16_t cols, rows;
    uint32_t max_nr_ports, emerg_wr;
};
_Static_assert(sizeof(struct console_config_space) == 12, "as the specification has it");

/* A window of characters; all 0: not known. */
struct console_window {
    uint16_t cols, rows;
};

struct console_device {
    int in_fd, out_fd; /* -1: no input, and output is dropped */
    bool in_socket,
        out_socket; /* what is read can be looked at before it is taken; no write waits */
    int size_fd; /* a file that holds a struct console_window, or a terminal; -1: no size is known */
    int change_fd; /* readable when the window has another size now; -1: never */
    bool size_tty; /* size_fd is a terminal */
};

/** console_window() - its size now. */
struct console_window console_window(const struct console_device *device);

/** console_run() - serve one of the two queues; for vu_backend_ops.run. */
void console_run(struct console_device *device, struct vu_queue *queue);

extern const struct backend_kind console_kind;

#endif
