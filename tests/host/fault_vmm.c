/*
 * The smallest VMM of husk's parts that meets a real KVM_EXIT_MEMORY_FAULT: the guest reads an address that is private by
 * its attribute and whose slot has no guest_memfd, or that has no slot. husk itself never makes such a slot.
 *
 * usage: fault-vmm slot|hole     exit status: the enum stop_kind that the vCPU stopped with; its sentence on standard output
 */
#include "base/bytes.h"
#include "base/units.h"
#include "memory/private.h"
#include "sandbox/seccomp.h"
#include "vmm/protected.h"
#include "vmm/vcpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define FAULT_GPA 0x10000u

static struct stop_reason stopped_for;
static struct vcpu_context context;

static void on_stop(void *ctx, const struct stop_reason *reason)
{
    (void)ctx;
    stopped_for = *reason;
    atomic_store(&context.stopped, true);
}

static void on_eoi(void *ctx, uint8_t vector)
{
    (void)ctx;
    (void)vector;
}

static void must(int ret, const struct error *err)
{
    if (ret >= 0)
        return;
    fprintf(stderr, "fault-vmm: %s\n", err->message);
    exit(100);
}

/** start_at_zero() - real mode, all segments at 0. */
static int start_at_zero(const struct kvm_vcpu *vcpu)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rflags = 2};
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        return -1;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    return ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 ? -1 : ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

int main(int argc, char **argv)
{
    /* mov ax, 0x1000; mov ds, ax; mov al, [0]; hlt */
    static const uint8_t code[] = {0xb8, 0x00, 0x10, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xf4};
    struct error err = ERROR_INIT;
    struct kvm kvm;
    struct guest_memory memory;
    const struct memory_params params = {.size = KIB(64), .low_size = KIB(64)};
    const struct seccomp_program no_filter = {0};
    if (argc != 2)
        return 101;
    must(kvm_open(&kvm, "/dev/kvm", &err), &err);
    int vm_fd = protected_create_vm(&kvm, &err);
    must(vm_fd, &err);
    must(memory_create(&memory, &params, &err), &err);
    context.private = private_memory_create(&memory, &kvm, vm_fd, 1, &err);
    must(context.private ? 0 : err.code, &err);
    must(memory_convert(context.private, 0, PAGE_BYTES, false, MEMORY_AT_LAUNCH, 0, &err), &err);
    memcpy(memory.base, code, sizeof(code));

    /* The second half of RAM's memfd once more, behind the first slot. */
    const struct kvm_memory plain = {
        .slot = 1, .gpa = FAULT_GPA, .len = PAGE_BYTES, .hva = memory.base + KIB(32)};
    if (strcmp(argv[1], "slot") == 0)
        must(kvm_set_memory(&kvm, vm_fd, &plain, &err), &err);
    must(kvm_set_private(vm_fd, FAULT_GPA, PAGE_BYTES, true, &err), &err);

    context.stop = on_stop;
    context.eoi = on_eoi;
    struct vcpu vcpu = {.context = &context, .filter = &no_filter};
    must(vcpu_threads_init(&err), &err);
    must(kvm_vcpu_create(&kvm, vm_fd, 0, &vcpu.kvm, &err), &err);
    if (start_at_zero(&vcpu.kvm) < 0)
        return 102;
    must(vcpu_thread_start(&vcpu, &err), &err);
    vcpu_thread_join(&vcpu);
    printf("%s\n", stopped_for.detail);
    kvm_vcpu_destroy(&vcpu.kvm);
    private_memory_free(context.private);
    memory_destroy(&memory);
    return (int)stopped_for.kind;
}
