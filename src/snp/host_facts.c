/* Asks the host. Everything here may fail and is then told as missing, for host_judge.c to explain. */
#include "snp/host_facts.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MODULE "/sys/module/kvm_amd"
#define MISC "/sys/fs/cgroup/misc."
#define CPUID_SEV 0x8000001fu
#define GROUP_SEV 1 /* KVM_X86_GRP_SEV */

enum { ATTR_VMSA_FEATURES, ATTR_POLICY_BITS, ATTR_REQ_CERTS };

/* api.rst. Headers of Debian 12 lack most of them. */
static const struct {
    int number;
    const char *name;
} caps[] = {
    [HOST_CAP_SPLIT_IRQCHIP] = {121, "KVM_CAP_SPLIT_IRQCHIP"},
    [HOST_CAP_EXIT_HYPERCALL] = {201, "KVM_CAP_EXIT_HYPERCALL"},
    [HOST_CAP_USER_MEMORY2] = {231, "KVM_CAP_USER_MEMORY2"},
    [HOST_CAP_MEMORY_FAULT_INFO] = {232, "KVM_CAP_MEMORY_FAULT_INFO"},
    [HOST_CAP_MEMORY_ATTRIBUTES] = {233, "KVM_CAP_MEMORY_ATTRIBUTES"},
    [HOST_CAP_GUEST_MEMFD] = {234, "KVM_CAP_GUEST_MEMFD"},
    [HOST_CAP_PRE_FAULT_MEMORY] = {236, "KVM_CAP_PRE_FAULT_MEMORY"},
    [HOST_CAP_GUEST_MEMFD_FLAGS] = {244, "KVM_CAP_GUEST_MEMFD_FLAGS"},
};
#define CAP_VM_TYPES 235

/* uapi/linux/psp-sev.h */
#define SNP_PLATFORM_STATUS 9
struct sev_issue {
    uint32_t command;
    uint64_t data;
    uint32_t error;
} __attribute__((packed));
#define SEV_ISSUE _IOWR('S', 0x0, struct sev_issue)
_Static_assert(sizeof(struct sev_issue) == 16, "uapi/linux/psp-sev.h");

struct snp_status {
    uint8_t api_major, api_minor, state, rmp;
    uint32_t build, flags, guests;
    uint64_t current_tcb, reported_tcb;
};
_Static_assert(sizeof(struct snp_status) == 32, "uapi/linux/psp-sev.h");

const char *host_cap_name(enum host_cap cap)
{
    return caps[cap].name;
}

static void put_registers(char *to, const uint32_t *registers, size_t n)
{
    memcpy(to, registers, n * sizeof(*registers));
    to[n * sizeof(*registers)] = '\0';
}

static void read_brand(struct host_cpu *cpu)
{
    uint32_t r[12] = {0};
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    put_registers(cpu->brand, r, ARRAY_SIZE(r));
    for (size_t len = strlen(cpu->brand); len && cpu->brand[len - 1] == ' '; len--)
        cpu->brand[len - 1] = '\0';
}

static void read_cpu(struct host_cpu *cpu)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d))
        return;
    put_registers(cpu->vendor, (const uint32_t[]){b, d, c}, 3);
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        uint32_t family = a >> 8 & 0xf;
        cpu->family = family == 0xf ? family + (a >> 20 & 0xff) : family;
        cpu->model = (a >> 4 & 0xf) | (a >> 12 & 0xf0);
        cpu->is_virtual = c & BIT(31);
    }
    read_brand(cpu);
    __get_cpuid_count(CPUID_SEV, 0, &cpu->eax, &cpu->ebx, &cpu->ecx, &cpu->edx);
}

/** read_parameter() - of the module: 'Y' or 'N', however it is written there; 0 if there is none. */
static char read_parameter(const char *name)
{
    char path[128], value = 0;
    snprintf(path, sizeof(path), MODULE "/parameters/%s", name);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &value, 1) != 1)
        return 0;
    return value == 'Y' || value == '1' ? 'Y' : 'N';
}

static void read_module(struct host_module *module)
{
    module->loaded = access(MODULE, F_OK) == 0;
    module->sev = read_parameter("sev");
    module->sev_es = read_parameter("sev_es");
    module->sev_snp = read_parameter("sev_snp");
}

/** read_misc() - the number of sev_es in the root cgroup's misc.@what. */
static bool read_misc(const char *what, uint64_t *number)
{
    char path[64], line[128];
    snprintf(path, sizeof(path), MISC "%s", what);
    _cleanup_fclose_ FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "sev_es %" SCNu64, number) == 1)
            return true;
    return false;
}

static bool read_attribute(int fd, uint64_t attribute, uint64_t *value)
{
    struct kvm_device_attr attr = {.group = GROUP_SEV, .attr = attribute};
    if (ioctl(fd, KVM_HAS_DEVICE_ATTR, &attr) < 0)
        return false;
    attr.addr = (uint64_t)(uintptr_t)value;
    return !value || ioctl(fd, KVM_GET_DEVICE_ATTR, &attr) == 0;
}

static uint32_t check_extension(int fd, int number)
{
    int value = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)number);
    return (uint32_t)MAX(value, 0);
}

static void read_kvm(struct host_kvm *kvm)
{
    _cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        kvm->open_error = errno;
        return;
    }
    kvm->api_version = ioctl(fd, KVM_GET_API_VERSION, 0);
    kvm->vm_types = check_extension(fd, CAP_VM_TYPES);
    for (size_t i = 0; i < HOST_CAPS; i++)
        kvm->caps[i] = check_extension(fd, caps[i].number);
    kvm->has_vmsa_features = read_attribute(fd, ATTR_VMSA_FEATURES, &kvm->vmsa_features);
    kvm->has_policy_bits = read_attribute(fd, ATTR_POLICY_BITS, &kvm->policy_bits);
    kvm->has_req_certs = read_attribute(fd, ATTR_REQ_CERTS, NULL);
}

static void read_firmware(struct host_firmware *firmware)
{
    /* Reading the status needs no right to write (sev-dev.c), but a launch does open it so. */
    _cleanup_close_ int fd = open("/dev/sev", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        firmware->open_error = errno;
        return;
    }
    struct snp_status status = {0};
    struct sev_issue issue = {.command = SNP_PLATFORM_STATUS, .data = (uint64_t)(uintptr_t)&status};
    if (ioctl(fd, SEV_ISSUE, &issue) < 0) {
        firmware->status_error = errno;
        firmware->status = issue.error;
        return;
    }
    firmware->api_major = status.api_major;
    firmware->api_minor = status.api_minor;
    firmware->state = status.state;
    firmware->rmp_is_initialized = status.rmp & BIT(0);
    firmware->build = status.build;
    firmware->mask_chip_id = status.flags & BIT(0);
    firmware->mask_chip_key = status.flags & BIT(1);
    firmware->vlek = status.flags & BIT(2);
    firmware->guests = status.guests;
    firmware->current_tcb = status.current_tcb;
    firmware->reported_tcb = status.reported_tcb;
}

void host_facts_read(struct host_facts *facts)
{
    *facts = (struct host_facts){0};
    struct utsname name;
    if (uname(&name) == 0)
        snprintf(facts->kernel, sizeof(facts->kernel), "%s", name.release);
    read_cpu(&facts->cpu);
    read_module(&facts->module);
    facts->has_asids =
        read_misc("capacity", &facts->asids) && read_misc("current", &facts->asids_in_use);
    read_kvm(&facts->kvm);
    read_firmware(&facts->firmware);
}
