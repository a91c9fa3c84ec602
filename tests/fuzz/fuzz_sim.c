/*
 * What a program under the simulator may say to it: anything. The input is a list of messages, each a selector of an
 * operation, of an object made before, a few arguments and a payload; some of them close a token instead, as a process
 * that dies does.
 */
#include "base/bytes.h"
#include "sim/model.h"

#include <stdlib.h>
#include <unistd.h>

#define OBJECTS 16
#define MESSAGES 64
#define CLOSE_TOKEN 0xff
#define RAW_OBJECT 0xff

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at;
    size_t left;
};

static uint64_t take(struct input *in, size_t bytes)
{
    uint8_t value[8] = {0};
    size_t n = MIN(bytes, in->left);
    memcpy(value, in->at, n);
    in->at += n;
    in->left -= n;
    return load_le64(value);
}

/** take_argument() - small numbers, page multiples and any number, so that each kind comes up often. */
static uint64_t take_argument(struct input *in)
{
    switch (take(in, 1) % 4) {
    case 0:
        return take(in, 1);
    case 1:
        return take(in, 2) * PAGE_BYTES;
    case 2:
        return take(in, 4);
    default:
        return take(in, 8);
    }
}

struct world {
    struct model model;
    struct client clients[2];
    struct sim_message_in in;
    struct sim_message_out out;
    uint32_t ids[OBJECTS];
    size_t objects;
};

static void close_token(struct world *w, uint8_t selector)
{
    uint32_t id = w->objects ? w->ids[selector % w->objects] : 0;
    for (size_t i = 0; i < MODEL_OBJECTS_MAX && id; i++) {
        if (w->model.objects[i] && w->model.objects[i]->id == id) {
            model_object_closed(&w->model, w->model.objects[i]);
            return;
        }
    }
}

static void one_message(struct world *w, struct input *in)
{
    uint8_t op = (uint8_t)take(in, 1);
    uint8_t selector = (uint8_t)take(in, 1);
    if (op == CLOSE_TOKEN) {
        close_token(w, selector);
        return;
    }
    w->in.head = (struct sim_request){.op = op % (SIM_OP_END + 2)};
    if (selector == RAW_OBJECT)
        w->in.head.object = (uint32_t)take(in, 4);
    else if (w->objects)
        w->in.head.object = w->ids[selector % w->objects];
    for (size_t i = 0; i < 4; i++)
        w->in.head.arg[i] = take_argument(in);
    if (w->in.head.op == SIM_OP_SEV_COMMAND || w->in.head.op == SIM_OP_UPDATE_BEGIN)
        w->in.head.arg[1] = w->objects ? w->ids[w->in.head.arg[1] % w->objects] : 0;
    size_t wanted = (size_t)take(in, 2);
    size_t len = MIN(wanted, MIN(in->left, (size_t)SIM_PAYLOAD_MAX));
    memcpy(w->in.payload, in->at, len);
    in->at += len;
    in->left -= len;

    struct call call = {.model = &w->model,
                        .client = &w->clients[selector >> 6 == 3],
                        .in = &w->in,
                        .payload_len = len,
                        .out = &w->out};
    model_dispatch(&call);
    if ((w->out.head.flags & SIM_REPLY_TOKEN) && w->objects < OBJECTS)
        w->ids[w->objects++] = (uint32_t)w->out.head.value[4];
    for (size_t i = 0; i < 2; i++) {
        if (call.fds[i] >= 0)
            close(call.fds[i]);
    }
    if (call.out_len > SIM_PAYLOAD_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world *w;
    static uint8_t *window;
    if (!w) {
        w = calloc(1, sizeof(*w));
        window = calloc(1, SIM_WINDOW_SIZE);
    }
    if (!w || !window)
        abort();
    memset(&w->model, 0, sizeof(w->model));
    memset(w->clients, 0, sizeof(w->clients));
    w->objects = 0;
    struct input in = {data, size};
    uint8_t mode = (uint8_t)take(&in, 1);
    w->model.kernel = (enum sim_kernel)(mode % 3);
    w->model.launch_only = mode & 4;
    w->model.parts = mode >> 3 & 3;
    w->model.asids = 2;
    w->model.report.quiet = true;
    struct error err = ERROR_INIT;
    if (mode & 0x40)
        sim_faults_add_exit(&w->model.faults, "memory-fault,gpa=0x1000", &err);
    if (mode & 0x80)
        sim_faults_add(&w->model.faults, "launch-update,short=2", &err);
    for (size_t i = 0; i < 2; i++)
        w->clients[i] = (struct client){.fd = -1, .pid = 1, .window = window};
    for (size_t i = 0; i < MESSAGES && in.left; i++)
        one_message(w, &in);
    for (size_t i = 0; i < 2; i++)
        model_client_gone(&w->model, &w->clients[i]);
    model_release(&w->model);
    if (w->model.objects_used || w->model.asids_used)
        abort();
    for (size_t i = 0; i < 2; i++)
        free(w->clients[i].gone);
    report_close(&w->model.report);
    return 0;
}
