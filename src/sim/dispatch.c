/* A request finds its operation. */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>

static int op_resolve(struct call *call)
{
    for (size_t i = 0; i < MODEL_OBJECTS_MAX; i++) {
        const struct object *object = call->model->objects[i];
        if (object && object->inode == call->in->head.arg[0]) {
            call->out->head.value[0] = object->kind;
            call->out->head.value[1] = object->id;
            if (object->kind == SIM_KIND_MEMFD)
                call->out->head.value[2] = object->memfd->size;
            return 0;
        }
    }
    return -ENOENT;
}

static int op_reap(struct call *call)
{
    struct client *client = call->client;
    size_t n = MIN(client->gone_len, SIM_PAYLOAD_MAX / sizeof(*client->gone));
    if (!n)
        return 0;
    memcpy(call->out->payload, client->gone, n * sizeof(*client->gone));
    memmove(client->gone, client->gone + n, (client->gone_len - n) * sizeof(*client->gone));
    client->gone_len -= n;
    call->out_len = n * sizeof(*client->gone);
    return (int)n;
}

static int op_probe(struct call *call)
{
    call->no_reply = true;
    return 0;
}

static int op_fetch(struct call *call)
{
    uint64_t page = call->in->head.arg[0];
    if (!call->client->window || page >= SIM_WINDOW_SIZE / SIM_PAGE)
        return -EINVAL;
    memcpy(call->out->payload, call->client->window + page * SIM_PAGE, SIM_PAGE);
    call->out_len = SIM_PAGE;
    return 0;
}

static int (*const operations[SIM_OP_END])(struct call *call) = {
    [SIM_OP_RESOLVE] = op_resolve,
    [SIM_OP_REAP] = op_reap,
    [SIM_OP_OPEN] = model_open,
    [SIM_OP_CHECK_CAP] = model_check_cap,
    [SIM_OP_DEVICE_ATTR] = model_device_attr,
    [SIM_OP_CREATE_VM] = model_create_vm,
    [SIM_OP_ENABLE_CAP] = model_enable_cap,
    [SIM_OP_CREATE_VCPU] = model_create_vcpu,
    [SIM_OP_CREATE_MEMFD] = model_create_memfd,
    [SIM_OP_REGION] = model_region,
    [SIM_OP_ATTRIBUTES] = model_attributes,
    [SIM_OP_SEV_COMMAND] = model_sev_command,
    [SIM_OP_UPDATE_BEGIN] = model_update_begin,
    [SIM_OP_PROBE] = op_probe,
    [SIM_OP_FETCH] = op_fetch,
    [SIM_OP_PAGES] = model_pages,
    [SIM_OP_UPDATE_END] = model_update_end,
    [SIM_OP_VCPU_SET] = model_vcpu_set,
    [SIM_OP_VCPU_CALL] = model_vcpu_call,
    [SIM_OP_VM_CALL] = model_vm_call,
    [SIM_OP_PRE_FAULT] = model_pre_fault,
    [SIM_OP_RUN] = model_run,
    [SIM_OP_FALLOCATE] = model_fallocate,
    [SIM_OP_MMAP_MEMFD] = model_mmap_memfd,
    [SIM_OP_SEV_ISSUE] = model_sev_issue,
};

void model_dispatch(struct call *call)
{
    uint32_t op = call->in->head.op;
    call->out->head = (struct sim_reply){0};
    call->out_len = 0;
    call->no_reply = false;
    call->fds[0] = -1;
    call->fds[1] = -1;
    call->model->report.calls++;
    int result = op < SIM_OP_END && operations[op] ? operations[op](call) : -ENOSYS;
    call->out->head.result = result;
    if (call->client->gone_len)
        call->out->head.flags |= SIM_REPLY_REAP;
}
