/* Objects: made with a token, found by id, gone with the last copy of the token. */
#include "sim/model.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define INDEX_BITS 16u

struct object *model_object(struct model *model, uint32_t id, enum sim_kind kind)
{
    uint32_t index = id & (BIT(INDEX_BITS) - 1);
    if (index >= MODEL_OBJECTS_MAX)
        return NULL;
    struct object *object = model->objects[index];
    return object && object->id == id && object->kind == kind ? object : NULL;
}

static void vm_free(struct model *model, struct vm *vm)
{
    model_vm_report(model, vm);
    if (vm->asid)
        model->asids_used--;
    report_line(&model->report, "vm=%u released", vm->number);
    for (size_t i = 0; i < vm->vcpus_len; i++)
        free(vm->vcpus[i]);
    free(vm->vcpus);
    free(vm->slots);
    free(vm->real);
    rangemap_release(&vm->attributes);
    rangemap_release(&vm->left);
    free(vm);
}

static void vm_put(struct model *model, struct vm *vm)
{
    if (--vm->refs == 0)
        vm_free(model, vm);
}

struct object *model_add(struct call *call, enum sim_kind kind, void *thing)
{
    struct model *model = call->model;
    uint32_t index = 0;
    while (index < MODEL_OBJECTS_MAX && model->objects[index])
        index++;
    if (index == MODEL_OBJECTS_MAX) {
        errno = ENFILE;
        return NULL;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    struct stat st;
    struct object *object = calloc(1, sizeof(*object));
    if (!object || fstat(pair[1], &st) < 0) {
        int saved = errno;
        free(object);
        close(pair[0]);
        close(pair[1]);
        errno = saved;
        return NULL;
    }
    /* An id is never 0 and does not come back soon: its upper half counts the uses of its index. */
    uint16_t generation =
        ++model->generation[index] ? model->generation[index] : ++model->generation[index];
    *object = (struct object){.kind = kind,
                              .id = (uint32_t)generation << INDEX_BITS | index,
                              .inode = st.st_ino,
                              .fd = pair[0],
                              .client = call->client,
                              .any = thing};
    model->objects[index] = object;
    model->objects_used++;
    call->fds[0] = pair[1];
    call->out->head.flags |= SIM_REPLY_TOKEN;
    call->out->head.value[4] = object->id;
    call->out->head.value[5] = object->inode;
    return object;
}

static void object_free(struct model *model, struct object *object)
{
    if (model->object_closed)
        model->object_closed(model->object_closed_ctx, object);
    model->objects[object->id & (BIT(INDEX_BITS) - 1)] = NULL;
    model->objects_used--;
    close(object->fd);
    switch (object->kind) {
    case SIM_KIND_VM:
        vm_put(model, object->vm);
        break;
    case SIM_KIND_VCPU:
        vm_put(model, object->vcpu->vm); /* the vCPU itself stays with the VM, as in KVM */
        break;
    case SIM_KIND_MEMFD: {
        struct vm *vm = object->memfd->vm;
        model_memfd_closed(object->memfd);
        vm_put(model, vm);
        break;
    }
    default:
        break;
    }
    free(object);
}

void model_object_closed(struct model *model, struct object *object)
{
    struct client *client = object->client;
    if (client) {
        uint32_t *gone = reallocarray(client->gone, client->gone_len + 1, sizeof(*gone));
        if (gone) {
            client->gone = gone;
            gone[client->gone_len++] = object->id;
        }
    }
    object_free(model, object);
}

void model_client_gone(struct model *model, struct client *client)
{
    for (size_t i = 0; i < MODEL_OBJECTS_MAX; i++) {
        struct object *object = model->objects[i];
        if (!object)
            continue;
        if (object->client == client)
            object->client = NULL;
        if (object->kind == SIM_KIND_VM && object->vm->owner == client)
            object->vm->owner = NULL;
        else if (object->kind == SIM_KIND_VCPU && object->vcpu->vm->owner == client)
            object->vcpu->vm->owner = NULL;
        else if (object->kind == SIM_KIND_MEMFD && object->memfd->vm->owner == client)
            object->memfd->vm->owner = NULL;
    }
}

void model_release(struct model *model)
{
    for (size_t i = 0; i < MODEL_OBJECTS_MAX; i++) {
        if (model->objects[i])
            object_free(model, model->objects[i]);
    }
}

int model_fault(struct call *call, enum sim_call name, const struct vm *vm, uint32_t *fw)
{
    uint32_t number = vm ? vm->number : 0;
    const struct sim_fault *fault = sim_faults_match(&call->model->faults, name, number);
    if (!fault || !fault->error)
        return 0;
    call->model->report.faults++;
    if (fw && fault->has_fw)
        *fw = fault->fw;
    report_line(&call->model->report, "injected vm=%u %s: %s%s", number, sim_call_name(name),
                strerrorname_np(fault->error),
                fault->has_fw ? " with a status of the firmware" : "");
    return -fault->error;
}

int model_broken(struct call *call, enum rule_id rule, const struct vm *vm, int result,
                 const char *fmt, ...)
{
    char detail[REPORT_DETAIL];
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, sizeof(detail), fmt, args);
    va_end(args);
    report_broken(&call->model->report, rule, vm ? vm->number : 0, call->client->pid, "%s", detail);
    return result;
}

struct vm *model_vm(struct call *call, int *result)
{
    struct object *object = model_object(call->model, call->in->head.object, SIM_KIND_VM);
    *result = -EBADF;
    if (!object)
        return NULL;
    if (object->vm->owner != call->client) {
        *result = model_broken(call, RULE_VM_PROCESS, object->vm, -EIO, "process %u made the VM",
                               object->vm->pid);
        return NULL;
    }
    *result = 0;
    return object->vm;
}

struct vcpu *model_vcpu(struct call *call, int *result)
{
    struct object *object = model_object(call->model, call->in->head.object, SIM_KIND_VCPU);
    *result = -EBADF;
    if (!object)
        return NULL;
    struct vm *vm = object->vcpu->vm;
    if (vm->owner != call->client) {
        *result = model_broken(call, RULE_VM_PROCESS, vm, -EIO, "process %u made the VM", vm->pid);
        return NULL;
    }
    *result = 0;
    return object->vcpu;
}

void model_vm_report(struct model *model, struct vm *vm)
{
    if (!model_snp(vm) || !vm->started || vm->reported)
        return;
    struct report_launch launch = {.vm = vm->number,
                                   .pid = vm->pid,
                                   .vcpus = (uint32_t)vm->vcpus_len,
                                   .finished = vm->finished,
                                   .policy = vm->policy,
                                   .vmsa_features = vm->vmsa_features,
                                   .hashing_ns = vm->hashing_ns};
    memcpy(launch.digest, vm->digest, sizeof(launch.digest));
    memcpy(launch.pages, vm->pages, sizeof(launch.pages));
    memcpy(launch.host_data, vm->host_data, sizeof(launch.host_data));
    report_launch_end(&model->report, &launch);
    vm->reported = true;
}
