/*
 * The kernel's structures and numbers that the simulator speaks, as far as <linux/kvm.h> of older systems lacks them.
 * Written down here a second time on purpose: the simulator shares no definition with what it checks.
 * Source: Linux 6.12 and 7.2, include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h, include/uapi/linux/psp-sev.h.
 */
#ifndef HUSK_SIM_ABI_H
#define HUSK_SIM_ABI_H

#include <linux/ioctl.h>
#include <stddef.h>
#include <stdint.h>

#define ABI_KVMIO 0xAE

enum abi_cap {
    ABI_CAP_READONLY_MEM = 81,
    ABI_CAP_SYNC_REGS = 74,
    ABI_CAP_MULTI_ADDRESS_SPACE = 118,
    ABI_CAP_X86_SMM = 117,
    ABI_CAP_EXIT_HYPERCALL = 201,
    ABI_CAP_USER_MEMORY2 = 231,
    ABI_CAP_MEMORY_FAULT_INFO = 232,
    ABI_CAP_MEMORY_ATTRIBUTES = 233,
    ABI_CAP_GUEST_MEMFD = 234,
    ABI_CAP_VM_TYPES = 235,
    ABI_CAP_PRE_FAULT_MEMORY = 236,
    ABI_CAP_GUEST_MEMFD_FLAGS = 244,
};

#define ABI_VM_TYPE_SNP 4u
#define ABI_VM_TYPES_MAX 32u
#define ABI_HC_MAP_GPA_RANGE 12u

struct abi_region {
    uint32_t slot;
    uint32_t flags;
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
};

struct abi_region2 {
    uint32_t slot;
    uint32_t flags;
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
    uint64_t guest_memfd_offset;
    uint32_t guest_memfd;
    uint32_t pad1;
    uint64_t pad2[14];
};
#define ABI_MEM_LOG_DIRTY_PAGES 1u
#define ABI_MEM_READONLY 2u
#define ABI_MEM_GUEST_MEMFD 4u

struct abi_attributes {
    uint64_t address;
    uint64_t size;
    uint64_t attributes;
    uint64_t flags;
};
#define ABI_ATTRIBUTE_PRIVATE 8u

struct abi_create_memfd {
    uint64_t size;
    uint64_t flags;
    uint64_t reserved[6];
};
#define ABI_MEMFD_MMAP 1u
#define ABI_MEMFD_INIT_SHARED 2u

struct abi_pre_fault {
    uint64_t gpa;
    uint64_t size;
    uint64_t flags;
    uint64_t padding[5];
};

struct abi_enable_cap {
    uint32_t cap;
    uint32_t flags;
    uint64_t args[4];
    uint8_t pad[64];
};

struct abi_device_attr {
    uint32_t flags;
    uint32_t group;
    uint64_t attr;
    uint64_t addr;
};
#define ABI_GRP_SEV 1u

#define ABI_SET_USER_MEMORY_REGION _IOW(ABI_KVMIO, 0x46, struct abi_region)
#define ABI_SET_USER_MEMORY_REGION2 _IOW(ABI_KVMIO, 0x49, struct abi_region2)
#define ABI_MEMORY_ENCRYPT_OP _IOWR(ABI_KVMIO, 0xba, unsigned long)
#define ABI_SET_MEMORY_ATTRIBUTES _IOW(ABI_KVMIO, 0xd2, struct abi_attributes)
#define ABI_CREATE_GUEST_MEMFD _IOWR(ABI_KVMIO, 0xd4, struct abi_create_memfd)
#define ABI_PRE_FAULT_MEMORY _IOWR(ABI_KVMIO, 0xd5, struct abi_pre_fault)
#define ABI_GET_DEVICE_ATTR _IOW(ABI_KVMIO, 0xe2, struct abi_device_attr)
#define ABI_HAS_DEVICE_ATTR _IOW(ABI_KVMIO, 0xe3, struct abi_device_attr)

struct abi_sev_cmd {
    uint32_t id;
    uint32_t pad0;
    uint64_t data;
    uint32_t error;
    uint32_t sev_fd;
};

enum abi_sev_id {
    ABI_SEV_INIT2 = 22,
    ABI_SNP_LAUNCH_START = 100,
    ABI_SNP_LAUNCH_UPDATE = 101,
    ABI_SNP_LAUNCH_FINISH = 102,
    ABI_SNP_ENABLE_REQ_CERTS = 103,
};

struct abi_sev_init {
    uint64_t vmsa_features;
    uint32_t flags;
    uint16_t ghcb_version;
    uint16_t pad1;
    uint32_t pad2[8];
};

struct abi_snp_start {
    uint64_t policy;
    uint8_t gosvw[16];
    uint16_t flags;
    uint8_t pad0[6];
    uint64_t pad1[4];
};

struct abi_snp_update {
    uint64_t gfn_start;
    uint64_t uaddr;
    uint64_t len;
    uint8_t type;
    uint8_t pad0;
    uint16_t flags;
    uint32_t pad1;
    uint64_t pad2[4];
};

struct abi_snp_finish {
    uint64_t id_block_uaddr;
    uint64_t id_auth_uaddr;
    uint8_t id_block_en;
    uint8_t auth_key_en;
    uint8_t vcek_disabled;
    uint8_t host_data[32];
    uint8_t pad0[3];
    uint16_t flags;
    uint64_t pad1[4];
};

enum abi_page_type {
    ABI_PAGE_NORMAL = 1,
    ABI_PAGE_VMSA = 2,
    ABI_PAGE_ZERO = 3,
    ABI_PAGE_UNMEASURED = 4,
    ABI_PAGE_SECRETS = 5,
    ABI_PAGE_CPUID = 6,
};

struct abi_sev_issue {
    uint32_t cmd;
    uint64_t data;
    uint32_t error;
} __attribute__((packed));
#define ABI_SEV_ISSUE_CMD _IOWR('S', 0x0, struct abi_sev_issue)

enum abi_sev_device_cmd { ABI_SEV_PLATFORM_STATUS = 1, ABI_SNP_PLATFORM_STATUS = 9 };

struct abi_snp_status {
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t state;
    uint8_t rmp_init;
    uint32_t build_id;
    uint32_t mask;
    uint32_t guest_count;
    uint64_t current_tcb;
    uint64_t reported_tcb;
} __attribute__((packed));

struct abi_sev_status {
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t state;
    uint32_t flags;
    uint8_t build;
    uint32_t guest_count;
} __attribute__((packed));

/* Status of a firmware command (psp-sev.h, sev_ret_code). */
enum abi_fw {
    ABI_FW_SUCCESS = 0,
    ABI_FW_INVALID_GUEST_STATE = 2,
    ABI_FW_POLICY_FAILURE = 7,
    ABI_FW_BAD_SIGNATURE = 10,
    ABI_FW_BAD_MEASUREMENT = 11,
    ABI_FW_INVALID_PARAM = 22,
};

enum abi_exit {
    ABI_EXIT_HYPERCALL = 3,
    ABI_EXIT_HLT = 5,
    ABI_EXIT_SHUTDOWN = 8,
    ABI_EXIT_FAIL_ENTRY = 9,
    ABI_EXIT_INTERNAL_ERROR = 17,
    ABI_EXIT_SYSTEM_EVENT = 24,
    ABI_EXIT_MEMORY_FAULT = 39,
    ABI_EXIT_SNP_REQ_CERTS = 43,
};
#define ABI_SYSTEM_EVENT_SEV_TERM 6u

_Static_assert(sizeof(struct abi_region2) == 160, "uapi");
_Static_assert(sizeof(struct abi_sev_cmd) == 24, "uapi");
_Static_assert(sizeof(struct abi_sev_init) == 48, "uapi");
_Static_assert(sizeof(struct abi_snp_start) == 64, "uapi");
_Static_assert(sizeof(struct abi_snp_update) == 64, "uapi");
_Static_assert(sizeof(struct abi_snp_finish) == 88, "uapi");
_Static_assert(offsetof(struct abi_snp_finish, flags) == 54, "uapi");
_Static_assert(sizeof(struct abi_sev_issue) == 16, "uapi");
_Static_assert(sizeof(struct abi_snp_status) == 32, "uapi");
_Static_assert(ABI_MEMORY_ENCRYPT_OP == 0xc008aeba, "uapi");

#endif
