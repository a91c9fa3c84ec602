/*
 * What starting a guest costs at the least: a VM, one slot of RAM, one vCPU, one instruction, and the way out. This is
 * the peer that husk's own start-up is measured against; it serves nothing else.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define RAM_BYTES (256u << 20)
#define CODE_GPA 0x100000u

/* mov $0x600,%dx; mov $0x34,%al; out %al,(%dx); hlt, as 32-bit code */
static const uint8_t code[] = {0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void set_flat(struct kvm_segment *segment, uint16_t selector, uint8_t type)
{
    *segment = (struct kvm_segment){.limit = 0xffffffff,
                                    .selector = selector,
                                    .type = type,
                                    .present = 1,
                                    .db = 1,
                                    .s = 1,
                                    .g = 1};
}

static void set_registers(int vcpu)
{
    struct kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        die("KVM_GET_SREGS");
    set_flat(&sregs.cs, 0x8, 0xb);
    set_flat(&sregs.ds, 0x10, 0x3);
    sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
    sregs.cr0 = 0x11;
    struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
        die("registers");
}

int main(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0)
        die("/dev/kvm");
    uint8_t *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram == MAP_FAILED)
        die("mmap");
    memcpy(ram + CODE_GPA, code, sizeof(code));
    struct kvm_userspace_memory_region region = {.memory_size = RAM_BYTES,
                                                 .userspace_addr = (uintptr_t)ram};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        die("KVM_SET_USER_MEMORY_REGION");

    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vcpu < 0 || run_size < 0)
        die("KVM_CREATE_VCPU");
    struct kvm_run *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED)
        die("mmap of kvm_run");
    set_registers(vcpu);
    if (ioctl(vcpu, KVM_RUN, 0) < 0)
        die("KVM_RUN");
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != 0x600) {
        fprintf(stderr, "unexpected exit %u\n", run->exit_reason);
        return 1;
    }
    return 0;
}
