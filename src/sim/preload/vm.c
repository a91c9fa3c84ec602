/* What is asked of a virtual machine. */
#include "sim/preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

int apply_slots(const struct entry *vm, const struct sim_slot *slots, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct abi_region region = {.slot = slots[i].slot,
                                    .flags = slots[i].flags,
                                    .guest_phys_addr = slots[i].gpa,
                                    .memory_size = slots[i].size,
                                    .userspace_addr = slots[i].hva};
        if (raw_ioctl(vm->real, ABI_SET_USER_MEMORY_REGION, (unsigned long)&region) < 0)
            return -errno;
    }
    return 0;
}

/** run_with_slots() - an exchange whose answer is a list of slots to be set. */
static int run_with_slots(const struct entry *vm, struct exchange *x)
{
    struct sim_slot *slots = malloc(SIM_PAYLOAD_MAX);
    if (!slots)
        return fail(-ENOMEM);
    x->out = slots;
    x->out_cap = SIM_PAYLOAD_MAX;
    int r = exchange_run(x);
    if (!r && vm->real >= 0)
        r = apply_slots(vm, slots, x->out_len / sizeof(*slots));
    free(slots);
    return fail(r);
}

static int set_region(const struct entry *vm, unsigned long arg, bool second_form)
{
    struct abi_region2 user = {0};
    memcpy(&user, (const void *)arg, second_form ? sizeof(user) : sizeof(struct abi_region));
    struct sim_region region = {.slot = user.slot,
                                .flags = user.flags,
                                .gpa = user.guest_phys_addr,
                                .size = user.memory_size,
                                .hva = user.userspace_addr,
                                .version = second_form ? 2 : 1};
    if (second_form && (user.flags & ABI_MEM_GUEST_MEMFD)) {
        bool open;
        region.memfd_object = entry_id((int)user.guest_memfd, SIM_KIND_MEMFD, &open);
        region.memfd_open = open;
        region.memfd_offset = user.guest_memfd_offset;
        const struct entry *memfd = region.memfd_object ? entry_of((int)user.guest_memfd) : NULL;
        region.memfd_hva = memfd ? (uint64_t)memfd->memory : 0;
    }
    struct exchange x = {.head = {.op = SIM_OP_REGION, .object = vm->id},
                         .payload = &region,
                         .payload_len = sizeof(region)};
    return run_with_slots(vm, &x);
}

static int set_attributes(const struct entry *vm, unsigned long arg)
{
    struct abi_attributes user;
    memcpy(&user, (const void *)arg, sizeof(user));
    struct exchange x = {.head = {.op = SIM_OP_ATTRIBUTES,
                                  .object = vm->id,
                                  .arg = {user.address, user.size, user.attributes, user.flags}}};
    return run_with_slots(vm, &x);
}

static int create_memfd(const struct entry *vm, unsigned long arg)
{
    struct abi_create_memfd user;
    memcpy(&user, (const void *)arg, sizeof(user));
    struct exchange x = {
        .head = {.op = SIM_OP_CREATE_MEMFD, .object = vm->id, .arg = {user.size, user.flags}}};
    int r = exchange_run(&x);
    if (r < 0)
        return fail(r);
    void *memory = NULL;
    if (x.fds[1] >= 0) {
        memory =
            mmap(NULL, user.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, x.fds[1], 0);
        raw_close(x.fds[1]);
    }
    struct entry *memfd = memory == MAP_FAILED ? NULL : entry_add(SIM_KIND_MEMFD, &x.reply);
    if (!memfd) {
        raw_close(x.fds[0]);
        return fail(-ENOMEM);
    }
    memfd->memory = memory;
    memfd->memory_len = user.size;
    return give_token(&x);
}

static int create_vcpu(struct entry *vm, unsigned long id)
{
    struct exchange x = {.head = {.op = SIM_OP_CREATE_VCPU, .object = vm->id, .arg = {id}}};
    int r = exchange_run(&x);
    if (r < 0)
        return fail(r);
    int hidden = x.fds[1];
    if (vm->real >= 0)
        hidden = raw_ioctl(vm->real, KVM_CREATE_VCPU, id);
    if (hidden < 0) {
        raw_close(x.fds[0]);
        return -1;
    }
    hidden = raw_dup_high(hidden);
    size_t len = sizeof(struct kvm_run);
    void *run = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, hidden, 0);
    struct entry *vcpu = run == MAP_FAILED ? NULL : entry_add(SIM_KIND_VCPU, &x.reply);
    if (!vcpu) {
        raw_close(x.fds[0]);
        raw_close(hidden);
        return fail(-ENOMEM);
    }
    vcpu->real = hidden;
    vcpu->memory = run;
    vcpu->memory_len = len;
    vcpu->vm = vm;
    return give_token(&x);
}

static int enable_cap(const struct entry *vm, unsigned long arg)
{
    struct abi_enable_cap cap;
    memcpy(&cap, (const void *)arg, sizeof(cap));
    struct exchange x = {.head = {.op = SIM_OP_ENABLE_CAP,
                                  .object = vm->id,
                                  .arg = {cap.cap, cap.flags, cap.args[0]}}};
    int r = exchange_run(&x);
    if (r < 0 || vm->real < 0)
        return fail(r);
    r = raw_ioctl(vm->real, KVM_ENABLE_CAP, arg);
    /* An ordinary KVM need not know what SNP rests on. */
    return r < 0 && cap.cap == ABI_CAP_EXIT_HYPERCALL ? 0 : r;
}

static int check_extension(const struct entry *vm, unsigned long cap)
{
    int real = vm->real >= 0 ? raw_ioctl(vm->real, KVM_CHECK_EXTENSION, cap) : 0;
    struct exchange x = {.head = {.op = SIM_OP_CHECK_CAP,
                                  .object = vm->id,
                                  .arg = {cap, (uint64_t)(real < 0 ? 0 : real)}}};
    int r = exchange_run(&x);
    return r < 0 ? fail(r) : (int)x.reply.value[0];
}

/** launch_only() - a VM without KVM: what shapes no launch succeeds and does nothing. */
static int launch_only(unsigned long request, unsigned long arg)
{
    switch (request) {
    case KVM_SET_TSS_ADDR:
    case KVM_SET_IDENTITY_MAP_ADDR:
    case KVM_CREATE_IRQCHIP:
    case KVM_CREATE_PIT2:
    case KVM_SET_GSI_ROUTING:
    case KVM_IRQ_LINE:
    case KVM_IRQFD:
    case KVM_IOEVENTFD:
    case KVM_SIGNAL_MSI:
    case KVM_SET_CLOCK:
    case KVM_SET_IRQCHIP:
    case KVM_SET_BOOT_CPU_ID:
    case KVM_SET_TSC_KHZ:
        return 0;
    case KVM_GET_CLOCK:
    case KVM_GET_IRQCHIP:
        if (!arg)
            return fail(-EFAULT);
        return 0;
    default:
        return fail(-ENOTTY);
    }
}

int vm_ioctl(struct entry *vm, unsigned long request, unsigned long arg)
{
    if (!arg && (request == KVM_ENABLE_CAP || request == ABI_SET_USER_MEMORY_REGION ||
                 request == ABI_SET_USER_MEMORY_REGION2 || request == ABI_SET_MEMORY_ATTRIBUTES ||
                 request == ABI_CREATE_GUEST_MEMFD))
        return fail(-EFAULT);
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return check_extension(vm, arg);
    case KVM_ENABLE_CAP:
        return enable_cap(vm, arg);
    case ABI_SET_USER_MEMORY_REGION:
        return set_region(vm, arg, false);
    case ABI_SET_USER_MEMORY_REGION2:
        return set_region(vm, arg, true);
    case ABI_SET_MEMORY_ATTRIBUTES:
        return set_attributes(vm, arg);
    case ABI_CREATE_GUEST_MEMFD:
        return create_memfd(vm, arg);
    case KVM_CREATE_VCPU:
        return create_vcpu(vm, arg);
    case ABI_MEMORY_ENCRYPT_OP:
        return memory_encrypt_op(vm, arg);
    case KVM_MEMORY_ENCRYPT_REG_REGION:
    case KVM_MEMORY_ENCRYPT_UNREG_REGION:
        return 0; /* sev_mem_enc_register_region(): nothing to pin for a guest with guest_memfd */
    default:
        return vm->real >= 0 ? raw_ioctl(vm->real, request, arg) : launch_only(request, arg);
    }
}
