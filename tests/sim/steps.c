/* The steps: each is one call, with every value to be had from a key. */
#include "steps.h"

#include "sim/abi.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_POLICY 0x30000
#define PAGE 4096

static int vm_of(const struct step *step)
{
    return vmm.vms[number(step, "vm", 0)];
}

static int vcpu_of(const struct step *step)
{
    return vmm.vcpus[number(step, "vcpu", 0)];
}

static int sev_fd_of(const struct step *step)
{
    return (int)number(step, "sevfd", (uint64_t)vmm.sev);
}

static long step_open_kvm(const struct step *step, char *detail, size_t len)
{
    const char *path = word(step, "path");
    vmm.kvm = open(path ? path : "/dev/kvm", O_RDWR | O_CLOEXEC);
    snprintf(detail, len, ", \"fd\": %d", vmm.kvm);
    return vmm.kvm;
}

static long step_open_sev(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    int flags = (int)number(step, "flags", O_RDWR | O_CLOEXEC);
    vmm.sev = openat(AT_FDCWD, "/dev/sev", flags);
    return vmm.sev;
}

static long step_check_cap(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    int fd = word(step, "vm") ? vm_of(step) : vmm.kvm;
    return ioctl(fd, KVM_CHECK_EXTENSION, number(step, "cap", 0));
}

static long step_attr(const struct step *step, char *detail, size_t len)
{
    uint64_t value = 0;
    struct abi_device_attr attr = {.group = (uint32_t)number(step, "group", ABI_GRP_SEV),
                                   .attr = number(step, "attr", 0),
                                   .addr = (uint64_t)&value};
    int r = ioctl(vmm.kvm, ABI_GET_DEVICE_ATTR, &attr);
    snprintf(detail, len, ", \"value\": %llu", (unsigned long long)value);
    return r;
}

static long step_create_vm(const struct step *step, char *detail, size_t len)
{
    int fd = ioctl(vmm.kvm, KVM_CREATE_VM, number(step, "type", ABI_VM_TYPE_SNP));
    if (fd >= 0)
        vmm.vms[vmm.vms_len++] = fd;
    snprintf(detail, len, ", \"cloexec\": %d", fd >= 0 ? fcntl(fd, F_GETFD) : -1);
    return fd;
}

static long step_enable_cap(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct abi_enable_cap cap = {.cap = (uint32_t)number(step, "cap", ABI_CAP_EXIT_HYPERCALL),
                                 .args = {number(step, "arg", 1 << ABI_HC_MAP_GPA_RANGE)}};
    return ioctl(vm_of(step), KVM_ENABLE_CAP, &cap);
}

/** sev_command() - KVM_MEMORY_ENCRYPT_OP; the firmware's status goes to @detail. */
static long sev_command(const struct step *step, uint32_t id, void *data, char *detail, size_t len)
{
    struct abi_sev_cmd cmd = {
        .id = id, .data = (uint64_t)data, .sev_fd = (uint32_t)sev_fd_of(step)};
    cmd.error = 0xffff;
    long r = ioctl(vm_of(step), ABI_MEMORY_ENCRYPT_OP, &cmd);
    int saved = errno;
    snprintf(detail, len, ", \"fw\": %u", cmd.error);
    errno = saved;
    return r;
}

static long step_sev_command(const struct step *step, char *detail, size_t len)
{
    uint8_t nothing[128] = {0};
    return sev_command(step, (uint32_t)number(step, "id", 0), nothing, detail, len);
}

static long step_init2(const struct step *step, char *detail, size_t len)
{
    struct abi_sev_init init = {.vmsa_features = number(step, "features", 0),
                                .flags = (uint32_t)number(step, "flags", 0),
                                .ghcb_version = (uint16_t)number(step, "ghcb", 0)};
    return sev_command(step, ABI_SEV_INIT2, &init, detail, len);
}

static long step_start(const struct step *step, char *detail, size_t len)
{
    struct abi_snp_start start = {.policy = number(step, "policy", DEFAULT_POLICY),
                                  .flags = (uint16_t)number(step, "flags", 0)};
    return sev_command(step, ABI_SNP_LAUNCH_START, &start, detail, len);
}

/** step_update() - one call; with all=1 as many as it takes, as a VMM has to. */
static long step_update(const struct step *step, char *detail, size_t len)
{
    struct abi_snp_update update = {.gfn_start = number(step, "gfn", 0),
                                    .uaddr = word(step, "uaddr")
                                                 ? number(step, "uaddr", 0)
                                                 : (uint64_t)vmm.ram + number(step, "off", 0),
                                    .len = number(step, "len", PAGE),
                                    .type = (uint8_t)number(step, "type", ABI_PAGE_NORMAL),
                                    .flags = (uint16_t)number(step, "flags", 0)};
    uint64_t calls = 0;
    long r;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    do {
        r = sev_command(step, ABI_SNP_LAUNCH_UPDATE, &update, detail, len);
        calls++;
    } while (r == 0 && number(step, "all", 0) && update.len);
    int saved = errno;
    clock_gettime(CLOCK_MONOTONIC, &after);
    size_t used = strlen(detail);
    snprintf(detail + used, len - used,
             ", \"gfn\": %llu, \"left\": %llu, \"calls\": %llu, \"ms\": %.3f",
             (unsigned long long)update.gfn_start, (unsigned long long)update.len,
             (unsigned long long)calls,
             (double)(after.tv_sec - before.tv_sec) * 1e3 +
                 (double)(after.tv_nsec - before.tv_nsec) / 1e6);
    errno = saved;
    return r;
}

static int load(const char *path, void *to, size_t len)
{
    FILE *f = fopen(path, "re");
    if (!f || fread(to, 1, len, f) != len) {
        fprintf(stderr, "step_vmm: %s does not have %zu bytes\n", path, len);
        exit(2);
    }
    return fclose(f);
}

static long step_finish(const struct step *step, char *detail, size_t len)
{
    static uint8_t block[96];
    static uint8_t auth[4096];
    struct abi_snp_finish finish = {.flags = (uint16_t)number(step, "flags", 0),
                                    .auth_key_en = (uint8_t)number(step, "author", 0)};
    memset(finish.host_data, (int)number(step, "host", 0), sizeof(finish.host_data));
    if (word(step, "block")) {
        load(word(step, "block"), block, sizeof(block));
        load(word(step, "auth"), auth, sizeof(auth));
        finish.id_block_en = 1;
        finish.id_block_uaddr = (uint64_t)block;
        finish.id_auth_uaddr = number(step, "authaddr", (uint64_t)auth);
    }
    return sev_command(step, ABI_SNP_LAUNCH_FINISH, &finish, detail, len);
}

static long step_memfd(const struct step *step, char *detail, size_t len)
{
    struct abi_create_memfd create = {.size = number(step, "size", 0x100000),
                                      .flags = number(step, "flags", 0)};
    int fd = ioctl(vm_of(step), ABI_CREATE_GUEST_MEMFD, &create);
    if (fd >= 0)
        vmm.memfds[vmm.memfds_len++] = fd;
    snprintf(detail, len, ", \"cloexec\": %d", fd >= 0 ? fcntl(fd, F_GETFD) : -1);
    return fd;
}

static long step_region(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct abi_region2 region = {.slot = (uint32_t)number(step, "slot", 0),
                                 .flags = (uint32_t)number(step, "flags", ABI_MEM_GUEST_MEMFD),
                                 .guest_phys_addr = number(step, "gpa", 0),
                                 .memory_size = number(step, "size", 0x100000),
                                 .userspace_addr = (uint64_t)vmm.ram + number(step, "off", 0),
                                 .guest_memfd_offset = number(step, "memfdoff", 0)};
    region.guest_memfd = (uint32_t)(word(step, "fd") ? (int)number(step, "fd", 0)
                                                     : vmm.memfds[number(step, "memfd", 0)]);
    return ioctl(vm_of(step),
                 number(step, "form", 2) == 1 ? ABI_SET_USER_MEMORY_REGION
                                              : ABI_SET_USER_MEMORY_REGION2,
                 &region);
}

static long step_attributes(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct abi_attributes attributes = {.address = number(step, "gpa", 0),
                                        .size = number(step, "size", 0x100000),
                                        .attributes = number(step, "attr", ABI_ATTRIBUTE_PRIVATE),
                                        .flags = number(step, "flags", 0)};
    return ioctl(vm_of(step), ABI_SET_MEMORY_ATTRIBUTES, &attributes);
}

static long step_fallocate(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    return fallocate(vmm.memfds[number(step, "memfd", 0)], (int)number(step, "mode", 3),
                     (off_t)number(step, "off", 0), (off_t)number(step, "len", PAGE));
}

static long step_mmap_memfd(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, vmm.memfds[number(step, "memfd", 0)], 0);
    return p == MAP_FAILED ? -1 : 0;
}

static long step_create_vcpu(const struct step *step, char *detail, size_t len)
{
    int fd = ioctl(vm_of(step), KVM_CREATE_VCPU, number(step, "id", 0));
    if (fd < 0)
        return fd;
    long size = ioctl(vmm.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (run == MAP_FAILED)
        return -1;
    vmm.vcpus[vmm.vcpus_len] = fd;
    vmm.runs[vmm.vcpus_len++] = run;
    snprintf(detail, len, ", \"cloexec\": %d", fcntl(fd, F_GETFD));
    return fd;
}

static long step_set_regs(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_regs regs = {.rip = number(step, "rip", 0xfff0),
                            .rdx = number(step, "rdx", 0x600),
                            .rbx = number(step, "rbx", 0),
                            .rflags = 2};
    return ioctl(vcpu_of(step), KVM_SET_REGS, &regs);
}

static long step_get_regs(const struct step *step, char *detail, size_t len)
{
    struct kvm_regs regs = {0};
    long r = ioctl(vcpu_of(step), KVM_GET_REGS, &regs);
    int saved = errno;
    snprintf(detail, len, ", \"rip\": %llu, \"rdx\": %llu", regs.rip, regs.rdx);
    errno = saved;
    return r;
}

static long step_set_sregs(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_sregs sregs = {0};
    long r = ioctl(vcpu_of(step), KVM_GET_SREGS, &sregs);
    if (r < 0)
        return r;
    sregs.efer = number(step, "efer", sregs.efer);
    sregs.cr0 = number(step, "cr0", sregs.cr0);
    sregs.cr4 = number(step, "cr4", sregs.cr4);
    sregs.cs.base = number(step, "csbase", sregs.cs.base);
    sregs.cs.selector = (uint16_t)number(step, "cs", sregs.cs.selector);
    sregs.cs.type = (uint8_t)number(step, "cstype", sregs.cs.type);
    return ioctl(vcpu_of(step), KVM_SET_SREGS, &sregs);
}

static long step_set_debugregs(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_debugregs regs = {.dr6 = number(step, "dr6", 0xffff0ff0),
                                 .dr7 = number(step, "dr7", 0x400),
                                 .flags = number(step, "flags", 0)};
    return ioctl(vcpu_of(step), KVM_SET_DEBUGREGS, &regs);
}

static long step_set_xcrs(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .flags = (uint32_t)number(step, "flags", 0)};
    xcrs.xcrs[0].value = number(step, "xcr0", 1);
    return ioctl(vcpu_of(step), KVM_SET_XCRS, &xcrs);
}

static long step_set_fpu(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_fpu fpu = {.fcw = (uint16_t)number(step, "fcw", 0x37f), .mxcsr = 0x1f80};
    return ioctl(vcpu_of(step), KVM_SET_FPU, &fpu);
}

static long step_guest_debug(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_guest_debug debug = {.control = (uint32_t)number(step, "control", 1)};
    return ioctl(vcpu_of(step), KVM_SET_GUEST_DEBUG, &debug);
}

static long step_pre_fault(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct abi_pre_fault range = {.gpa = number(step, "gpa", 0),
                                  .size = number(step, "size", PAGE),
                                  .flags = number(step, "flags", 0)};
    return ioctl(vcpu_of(step), ABI_PRE_FAULT_MEMORY, &range);
}

/** step_run() - KVM_RUN once. ret0, ret2, ret7: a 64-bit value into the union before, by index. */
static long step_run(const struct step *step, char *detail, size_t len)
{
    struct kvm_run *run = vmm.runs[number(step, "vcpu", 0)];
    uint64_t *values = (uint64_t *)((uint8_t *)run + 32);
    run->immediate_exit = (uint8_t)number(step, "immediate", 0);
    if (word(step, "ret2"))
        values[2] = number(step, "ret2", 0);
    if (word(step, "ret7"))
        values[7] = number(step, "ret7", 0);
    long r = ioctl(vcpu_of(step), KVM_RUN, 0);
    int saved = errno;
    snprintf(detail, len, ", \"exit\": %u, \"data\": [%llu, %llu, %llu, %llu]", run->exit_reason,
             (unsigned long long)values[0], (unsigned long long)values[1],
             (unsigned long long)values[2], (unsigned long long)values[3]);
    errno = saved;
    return r;
}

static long step_fill(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    memset(vmm.ram + number(step, "off", 0), (int)number(step, "byte", 0),
           number(step, "len", PAGE));
    return 0;
}

/** step_poke() - bytes=HEX into memory at off. */
static long step_poke(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    uint8_t *at = vmm.ram + number(step, "off", 0);
    for (const char *hex = word(step, "bytes"); hex[0] && hex[1]; hex += 2) {
        char two[3] = {hex[0], hex[1], 0};
        *at++ = (uint8_t)strtoul(two, NULL, 16);
    }
    return 0;
}

static long step_load(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    return load(word(step, "file"), vmm.ram + number(step, "off", 0), number(step, "len", PAGE));
}

static long step_read(const struct step *step, char *detail, size_t len)
{
    const uint8_t *at = vmm.ram + number(step, "off", 0);
    uint64_t bytes = number(step, "len", 16);
    size_t used = (size_t)snprintf(detail, len, ", \"bytes\": \"");
    for (uint64_t i = 0; i < bytes && used + 8 < len; i++)
        used += (size_t)snprintf(detail + used, len - used, "%02x", at[i]);
    snprintf(detail + used, len - used, "\"");
    return 0;
}

static long step_sev_issue(const struct step *step, char *detail, size_t len)
{
    uint8_t data[64] = {0};
    struct abi_sev_issue issue = {.cmd = (uint32_t)number(step, "cmd", ABI_SNP_PLATFORM_STATUS),
                                  .data = number(step, "data", (uint64_t)data)};
    long r = ioctl(vmm.sev, ABI_SEV_ISSUE_CMD, &issue);
    int saved = errno;
    struct abi_snp_status status;
    memcpy(&status, data, sizeof(status));
    snprintf(detail, len, ", \"fw\": %u, \"api\": \"%u.%u\", \"build\": %u, \"guests\": %u",
             issue.error, status.api_major, status.api_minor, status.build_id, status.guest_count);
    errno = saved;
    return r;
}

static long step_protect(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    return mprotect(vmm.ram + number(step, "off", 0), number(step, "len", PAGE), PROT_NONE);
}

/** step_cpuid() - what KVM_GET_SUPPORTED_CPUID says of leaf 0x8000001f. */
static long step_cpuid(const struct step *step, char *detail, size_t len)
{
    (void)step;
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(struct kvm_cpuid_entry2));
    if (!cpuid)
        return -1;
    cpuid->nent = 256;
    long r = ioctl(vmm.kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
    uint32_t eax = 0;
    for (uint32_t i = 0; r == 0 && i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == 0x8000001f)
            eax = cpuid->entries[i].eax;
    }
    int saved = errno;
    snprintf(detail, len, ", \"eax\": %u", eax);
    free(cpuid);
    errno = saved;
    return r;
}

/** step_set_cpuid() - what the host supports, to the guest. */
static long step_set_cpuid(const struct step *step, char *detail, size_t len)
{
    (void)detail;
    (void)len;
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(struct kvm_cpuid_entry2));
    if (!cpuid)
        return -1;
    cpuid->nent = 256;
    long r = ioctl(vmm.kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
    if (r == 0)
        r = ioctl(vcpu_of(step), KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return r;
}

/** step_read_io() - the byte that the last I/O exit wrote. */
static long step_read_io(const struct step *step, char *detail, size_t len)
{
    struct kvm_run *run = vmm.runs[number(step, "vcpu", 0)];
    snprintf(detail, len, ", \"byte\": %u", ((uint8_t *)run)[run->io.data_offset]);
    return 0;
}

/** step_host_cpuid() - what the processor itself says of leaf 0x8000001f. */
static long step_host_cpuid(const struct step *step, char *detail, size_t len)
{
    (void)step;
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    __get_cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
    snprintf(detail, len, ", \"ebx\": %u", ebx);
    return 0;
}

const struct step_kind step_kinds[] = {
    {"open-kvm", step_open_kvm},
    {"open-sev", step_open_sev},
    {"check-cap", step_check_cap},
    {"attr", step_attr},
    {"create-vm", step_create_vm},
    {"enable-cap", step_enable_cap},
    {"sev-command", step_sev_command},
    {"init2", step_init2},
    {"start", step_start},
    {"update", step_update},
    {"finish", step_finish},
    {"memfd", step_memfd},
    {"region", step_region},
    {"attributes", step_attributes},
    {"fallocate", step_fallocate},
    {"mmap-memfd", step_mmap_memfd},
    {"create-vcpu", step_create_vcpu},
    {"set-regs", step_set_regs},
    {"get-regs", step_get_regs},
    {"set-sregs", step_set_sregs},
    {"set-debugregs", step_set_debugregs},
    {"set-xcrs", step_set_xcrs},
    {"set-fpu", step_set_fpu},
    {"guest-debug", step_guest_debug},
    {"pre-fault", step_pre_fault},
    {"run", step_run},
    {"fill", step_fill},
    {"poke", step_poke},
    {"load", step_load},
    {"read", step_read},
    {"sev-issue", step_sev_issue},
    {"protect", step_protect},
    {"cpuid", step_cpuid},
    {"host-cpuid", step_host_cpuid},
    {"set-cpuid", step_set_cpuid},
    {"read-io", step_read_io},
    {"close", step_close},
    {"raw-close", step_raw_close},
    {"dup", step_dup},
    {"fork", step_fork},
    {"exec", step_exec},
    {"die", step_die},
    {"seccomp", step_seccomp},
    {"run-all", step_run_all},
    {"cloexec", step_cloexec},
    {"close-all", step_close_all},
    {"wait", step_wait},
};
const size_t step_kinds_len = sizeof(step_kinds) / sizeof(step_kinds[0]);
