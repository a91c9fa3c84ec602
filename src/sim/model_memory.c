/* Slots, guest_memfds and memory attributes. */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ADDRESS_MAX (BIT64(47) - PAGE_BYTES) /* where a process's addresses end */
#define SLOT_PAGES_MAX (BIT64(31) - 1)       /* KVM_MEM_MAX_NR_PAGES */

int model_create_memfd(struct call *call)
{
    const struct sim_request *in = &call->in->head;
    uint64_t size = in->arg[0];
    uint64_t flags = in->arg[1];
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    r = model_fault(call, SIM_CALL_CREATE_MEMFD, vm, NULL);
    if (r)
        return r;
    if (!model_snp(vm))
        return model_broken(call, RULE_MEMFD_VM, vm, -EINVAL, "the VM has type %u", vm->type);
    uint64_t valid = call->model->kernel >= SIM_KERNEL_6_18 ? ABI_MEMFD_MMAP : 0;
    if (flags & ~valid)
        return model_broken(call, RULE_MEMFD_FLAGS, vm, -EINVAL, "flags 0x%llx",
                            (unsigned long long)flags);
    if (!size || size > INT64_MAX || !is_aligned(size, PAGE_BYTES))
        return model_broken(call, RULE_MEMFD_SIZE, vm, -EINVAL, "size 0x%llx",
                            (unsigned long long)size);

    struct memfd *memfd = calloc(1, sizeof(*memfd));
    if (!memfd)
        return -ENOMEM;
    *memfd = (struct memfd){.vm = vm, .size = size, .flags = flags};
    int storage = -1;
    if (!call->model->launch_only) {
        storage = memfd_create("husk-sim-guest-memfd", MFD_CLOEXEC);
        if (storage < 0 || ftruncate(storage, (off_t)size) < 0) {
            r = -errno;
            goto fail;
        }
    }
    if (!model_add(call, SIM_KIND_MEMFD, memfd)) {
        r = -errno;
        goto fail;
    }
    vm->refs++;
    call->fds[1] = storage;
    if (storage >= 0)
        call->out->head.flags |= SIM_REPLY_STORAGE;
    report_line(&call->model->report, "vm=%u KVM_CREATE_GUEST_MEMFD size 0x%llx", vm->number,
                (unsigned long long)size);
    return 0;

fail:
    if (storage >= 0)
        close(storage);
    free(memfd);
    return r;
}

void model_memfd_closed(struct memfd *memfd)
{
    struct vm *vm = memfd->vm;
    for (size_t i = 0; i < vm->slots_len; i++) {
        if (vm->slots[i].memfd == memfd)
            vm->slots[i].memfd = NULL;
    }
    rangemap_release(&memfd->imported);
    rangemap_release(&memfd->bound);
    free(memfd);
}

struct slot *model_slot_at(struct vm *vm, uint64_t gpa)
{
    for (size_t i = 0; i < vm->slots_len; i++) {
        struct slot *slot = &vm->slots[i];
        if (gpa >= slot->gpa && gpa - slot->gpa < slot->size)
            return slot;
    }
    return NULL;
}

static struct slot *slot_by_number(struct vm *vm, uint32_t number)
{
    for (size_t i = 0; i < vm->slots_len; i++) {
        if (vm->slots[i].number == number)
            return &vm->slots[i];
    }
    return NULL;
}

/** emit() - one more slot to be set on the real VM. */
static int emit(struct call *call, uint32_t number, uint32_t flags, uint64_t gpa, uint64_t size,
                uint64_t hva)
{
    struct sim_slot slot = {number, flags, gpa, size, hva};
    if (call->model->launch_only)
        return 0;
    if (call->out_len + sizeof(slot) > SIM_PAYLOAD_MAX)
        return -ENOMEM;
    memcpy(call->out->payload + call->out_len, &slot, sizeof(slot));
    call->out_len += sizeof(slot);
    return 0;
}

/** add_real() - let a real slot stand for a part of @slot. */
static int add_real(struct call *call, struct vm *vm, const struct slot *slot, uint64_t gpa,
                    uint64_t size, uint64_t hva)
{
    size_t i = 0;
    while (i < vm->real_len && vm->real[i].size)
        i++;
    if (i == vm->real_len) {
        if (i >= MODEL_SLOTS_MAX - MODEL_REAL_SLOTS)
            return -ENOMEM;
        struct real_slot *real = reallocarray(vm->real, i + 1, sizeof(*real));
        if (!real)
            return -ENOMEM;
        vm->real = real;
        vm->real_len++;
    }
    vm->real[i] = (struct real_slot){slot->number, gpa, size, hva, false};
    return emit(call, (uint32_t)(MODEL_REAL_SLOTS + i), 0, gpa, size, hva);
}

/** next_part() - the part of a slot that begins at *gpa and is of one attribute. Returns where it is in the VMM. */
static uint64_t next_part(const struct vm *vm, const struct slot *slot, uint64_t gpa,
                          uint64_t *size)
{
    uint64_t change;
    bool private = rangemap_get(&vm->attributes, gpa / PAGE_BYTES, &change) & ABI_ATTRIBUTE_PRIVATE;
    uint64_t end = slot->gpa + slot->size;
    if (change < end / PAGE_BYTES)
        end = change * PAGE_BYTES;
    *size = end - gpa;
    uint64_t offset = gpa - slot->gpa;
    if (!private)
        return slot->hva + offset;
    return slot->memfd && slot->memfd_hva ? slot->memfd_hva + slot->memfd_offset + offset : 0;
}

/** find_real() - the real slot that stands for the part of @slot at @gpa, NULL if there is none. */
static struct real_slot *find_real(struct vm *vm, const struct slot *slot, uint64_t gpa)
{
    for (size_t i = 0; i < vm->real_len; i++) {
        struct real_slot *real = &vm->real[i];
        if (real->size && real->owner == slot->number && real->gpa == gpa)
            return real;
    }
    return NULL;
}

/** sync_real() - make the real VM's slots those that the attributes ask for: what goes first, then what comes. */
static int sync_real(struct call *call, struct vm *vm, const struct slot *slot)
{
    if (call->model->launch_only)
        return 0;
    uint64_t size;
    for (uint64_t gpa = slot->gpa; gpa - slot->gpa < slot->size; gpa += size) {
        uint64_t hva = next_part(vm, slot, gpa, &size);
        struct real_slot *real = find_real(vm, slot, gpa);
        if (real)
            real->kept = real->size == size && real->hva == hva;
    }
    for (size_t i = 0; i < vm->real_len; i++) {
        struct real_slot *real = &vm->real[i];
        if (!real->size || real->owner != slot->number)
            continue;
        if (!real->kept) {
            real->size = 0;
            int r = emit(call, (uint32_t)(MODEL_REAL_SLOTS + i), 0, real->gpa, 0, 0);
            if (r)
                return r;
        }
        real->kept = false;
    }
    for (uint64_t gpa = slot->gpa; gpa - slot->gpa < slot->size; gpa += size) {
        uint64_t hva = next_part(vm, slot, gpa, &size);
        int r = !hva || find_real(vm, slot, gpa) ? 0 : add_real(call, vm, slot, gpa, size, hva);
        if (r)
            return r;
    }
    return 0;
}

static int delete_region(struct call *call, struct vm *vm, struct slot *slot)
{
    uint32_t number = slot->number;
    bool guest_memfd = slot->flags & ABI_MEM_GUEST_MEMFD;
    uint64_t first = slot->memfd_offset / PAGE_BYTES;
    if (slot->memfd)
        rangemap_set(&slot->memfd->bound, first, first + slot->size / PAGE_BYTES, 0);
    uint64_t gpa = slot->gpa;
    *slot = vm->slots[--vm->slots_len];
    vm->epoch++;
    if (!guest_memfd)
        return emit(call, number, 0, gpa, 0, 0);
    for (size_t i = 0; i < vm->real_len; i++) {
        if (!vm->real[i].size || vm->real[i].owner != number)
            continue;
        vm->real[i].size = 0;
        int r = emit(call, (uint32_t)(MODEL_REAL_SLOTS + i), 0, vm->real[i].gpa, 0, 0);
        if (r)
            return r;
    }
    return 0;
}

/** check_region() - what __kvm_set_memory_region() asks of the numbers, in its order. Returns the rule, RULE_COUNT if good. */
static enum rule_id check_region(const struct vm *vm, const struct sim_region *region)
{
    uint32_t valid = ABI_MEM_LOG_DIRTY_PAGES | ABI_MEM_READONLY;
    if (model_snp(vm)) {
        if (region->flags & ABI_MEM_READONLY)
            return RULE_REGION_READONLY;
        if ((region->flags & ABI_MEM_GUEST_MEMFD) && (region->flags & ABI_MEM_LOG_DIRTY_PAGES))
            return RULE_REGION_DIRTY;
        valid = ABI_MEM_LOG_DIRTY_PAGES | ABI_MEM_GUEST_MEMFD;
    }
    if (region->version < 2)
        valid &= ABI_MEM_LOG_DIRTY_PAGES | ABI_MEM_READONLY;
    if (region->flags & ~valid)
        return RULE_REGION_FLAGS;
    uint64_t end;
    if (!is_aligned(region->size | region->gpa | region->hva, PAGE_BYTES) ||
        !range_within(region->hva, region->size, ADDRESS_MAX) ||
        add_overflows(region->gpa, region->size, &end) ||
        region->size / PAGE_BYTES > SLOT_PAGES_MAX)
        return RULE_REGION_ALIGNED;
    if ((region->flags & ABI_MEM_GUEST_MEMFD) &&
        (!is_aligned(region->memfd_offset, PAGE_BYTES) ||
         add_overflows(region->memfd_offset, region->size, &end)))
        return RULE_REGION_ALIGNED;
    uint32_t spaces = model_snp(vm) ? 1 : 2;
    if (region->slot >> 16 >= spaces || (region->slot & 0xffff) >= MODEL_SLOTS_MAX)
        return RULE_REGION_NUMBER;
    return RULE_COUNT;
}

/** bind_memfd() - find the guest_memfd of a new slot and mark its part as used. */
static int bind_memfd(struct call *call, struct vm *vm, const struct sim_region *region,
                      struct memfd **memfd)
{
    if (!region->memfd_open)
        return model_broken(call, RULE_REGION_MEMFD, vm, -EBADF,
                            "slot %u: the descriptor is not open", region->slot);
    struct object *object = model_object(call->model, region->memfd_object, SIM_KIND_MEMFD);
    if (!object || object->memfd->vm != vm)
        return model_broken(call, RULE_REGION_MEMFD, vm, -EINVAL,
                            "slot %u: the descriptor is no guest_memfd of this VM", region->slot);
    struct memfd *found = object->memfd;
    if (!range_within(region->memfd_offset, region->size, found->size))
        return model_broken(call, RULE_REGION_MEMFD_RANGE, vm, -EINVAL,
                            "slot %u: 0x%llx bytes at 0x%llx of a guest_memfd of 0x%llx",
                            region->slot, (unsigned long long)region->size,
                            (unsigned long long)region->memfd_offset,
                            (unsigned long long)found->size);
    uint64_t first = region->memfd_offset / PAGE_BYTES;
    uint64_t pages = region->size / PAGE_BYTES;
    uint64_t change;
    if (rangemap_get(&found->bound, first, &change) || change < first + pages)
        return model_broken(call, RULE_REGION_MEMFD_BOUND, vm, -EINVAL,
                            "slot %u: a part of it is bound to another slot", region->slot);
    *memfd = found;
    return rangemap_set(&found->bound, first, first + pages, region->slot + 1);
}

static int create_region(struct call *call, struct vm *vm, const struct sim_region *region)
{
    for (size_t i = 0; i < vm->slots_len; i++) {
        const struct slot *other = &vm->slots[i];
        if (other->number >> 16 == region->slot >> 16 &&
            ranges_overlap(region->gpa, region->size, other->gpa, other->size))
            return model_broken(call, RULE_REGION_OVERLAP, vm, -EEXIST,
                                "slot %u at 0x%llx overlaps slot %u", region->slot,
                                (unsigned long long)region->gpa, other->number);
    }
    if (vm->slots_len == vm->slots_cap) {
        size_t cap = vm->slots_cap ? 2 * vm->slots_cap : 8;
        struct slot *slots = reallocarray(vm->slots, cap, sizeof(*slots));
        if (!slots)
            return -ENOMEM;
        vm->slots = slots;
        vm->slots_cap = cap;
    }
    struct memfd *memfd = NULL;
    if (region->flags & ABI_MEM_GUEST_MEMFD) {
        int r = bind_memfd(call, vm, region, &memfd);
        if (r)
            return r;
    }
    struct slot *slot = &vm->slots[vm->slots_len++];
    *slot = (struct slot){.number = region->slot,
                          .flags = region->flags,
                          .gpa = region->gpa,
                          .size = region->size,
                          .hva = region->hva,
                          .memfd = memfd,
                          .memfd_offset = region->memfd_offset,
                          .memfd_hva = region->memfd_hva};
    vm->epoch++;
    if (memfd)
        return sync_real(call, vm, slot);
    return emit(call, region->slot, region->flags, region->gpa, region->size, region->hva);
}

static int change_region(struct call *call, struct vm *vm, struct slot *slot,
                         const struct sim_region *region)
{
    if ((region->flags | slot->flags) & ABI_MEM_GUEST_MEMFD || region->hva != slot->hva ||
        region->size != slot->size || (region->flags ^ slot->flags) & ABI_MEM_READONLY)
        return model_broken(call, RULE_REGION_FIXED, vm, -EINVAL, "slot %u is set a second time",
                            region->slot);
    for (size_t i = 0; i < vm->slots_len; i++) {
        const struct slot *other = &vm->slots[i];
        if (other != slot && other->number >> 16 == region->slot >> 16 &&
            ranges_overlap(region->gpa, region->size, other->gpa, other->size))
            return model_broken(call, RULE_REGION_OVERLAP, vm, -EEXIST,
                                "slot %u moves over slot %u", region->slot, other->number);
    }
    slot->gpa = region->gpa;
    slot->flags = region->flags;
    vm->epoch++;
    return emit(call, region->slot, region->flags, region->gpa, region->size, region->hva);
}

int model_region(struct call *call)
{
    struct sim_region region;
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    if (call->payload_len < sizeof(region))
        return -EFAULT;
    memcpy(&region, call->in->payload, sizeof(region));
    report_line(&call->model->report, "vm=%u slot %u flags %u gpa 0x%llx size 0x%llx", vm->number,
                region.slot, region.flags, (unsigned long long)region.gpa,
                (unsigned long long)region.size);
    r = model_fault(call, SIM_CALL_REGION, vm, NULL);
    if (r)
        return r;
    enum rule_id rule = check_region(vm, &region);
    if (rule != RULE_COUNT)
        return model_broken(call, rule, vm, -EINVAL, "slot %u, flags %u, gpa 0x%llx, size 0x%llx",
                            region.slot, region.flags, (unsigned long long)region.gpa,
                            (unsigned long long)region.size);
    struct slot *slot = slot_by_number(vm, region.slot);
    if (!region.size) {
        if (!slot)
            return model_broken(call, RULE_REGION_MISSING, vm, -EINVAL, "slot %u", region.slot);
        return delete_region(call, vm, slot);
    }
    return slot ? change_region(call, vm, slot, &region) : create_region(call, vm, &region);
}

int model_attributes(struct call *call)
{
    const uint64_t *arg = call->in->head.arg;
    uint64_t address = arg[0];
    uint64_t size = arg[1];
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    report_line(&call->model->report, "vm=%u attributes 0x%llx for 0x%llx + 0x%llx", vm->number,
                (unsigned long long)arg[2], (unsigned long long)address, (unsigned long long)size);
    r = model_fault(call, SIM_CALL_ATTRIBUTES, vm, NULL);
    if (r)
        return r;
    if (arg[3])
        return model_broken(call, RULE_ATTRIBUTES_FLAGS, vm, -EINVAL, "flags 0x%llx",
                            (unsigned long long)arg[3]);
    if (arg[2] & ~(uint64_t)(model_snp(vm) ? ABI_ATTRIBUTE_PRIVATE : 0))
        return model_broken(call, RULE_ATTRIBUTES_KNOWN, vm, -EINVAL, "attributes 0x%llx",
                            (unsigned long long)arg[2]);
    uint64_t end;
    if (!size || add_overflows(address, size, &end) || !is_aligned(address | size, PAGE_BYTES))
        return model_broken(call, RULE_ATTRIBUTES_RANGE, vm, -EINVAL, "address 0x%llx, size 0x%llx",
                            (unsigned long long)address, (unsigned long long)size);
    r = rangemap_set(&vm->attributes, address / PAGE_BYTES, end / PAGE_BYTES, (uint32_t)arg[2]);
    vm->epoch++;
    for (size_t i = 0; i < vm->slots_len && !r; i++) {
        const struct slot *slot = &vm->slots[i];
        if ((slot->flags & ABI_MEM_GUEST_MEMFD) &&
            ranges_overlap(address, size, slot->gpa, slot->size))
            r = sync_real(call, vm, slot);
    }
    return r;
}

int model_fallocate(struct call *call)
{
    const uint64_t *arg = call->in->head.arg;
    struct object *object = model_object(call->model, call->in->head.object, SIM_KIND_MEMFD);
    if (!object)
        return -EBADF;
    struct memfd *memfd = object->memfd;
    int r = model_fault(call, SIM_CALL_FALLOCATE, memfd->vm, NULL);
    if (r)
        return r;
    if (arg[0] != FALLOC_FL_KEEP_SIZE && arg[0] != (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
        return model_broken(call, RULE_FALLOCATE_MODE, memfd->vm, -EOPNOTSUPP, "mode 0x%llx",
                            (unsigned long long)arg[0]);
    bool punch = arg[0] & FALLOC_FL_PUNCH_HOLE;
    if (!arg[2] || !is_aligned(arg[1] | arg[2], PAGE_BYTES) || arg[1] > INT64_MAX ||
        arg[2] > INT64_MAX || (!punch && !range_within(arg[1], arg[2], memfd->size)))
        return model_broken(call, RULE_FALLOCATE_RANGE, memfd->vm, -EINVAL,
                            "0x%llx bytes at 0x%llx of a guest_memfd of 0x%llx",
                            (unsigned long long)arg[2], (unsigned long long)arg[1],
                            (unsigned long long)memfd->size);
    if (!punch)
        return 0;
    uint64_t first = arg[1] / PAGE_BYTES;
    memfd->vm->epoch++;
    /* The pages go back to the hypervisor: what comes in their place can be imported. */
    return rangemap_set(&memfd->imported, first, first + arg[2] / PAGE_BYTES, 0);
}

int model_mmap_memfd(struct call *call)
{
    struct object *object = model_object(call->model, call->in->head.object, SIM_KIND_MEMFD);
    if (!object)
        return -EBADF;
    return model_broken(call, RULE_MEMFD_MMAP, object->memfd->vm, -ENODEV, "mmap of a guest_memfd");
}
