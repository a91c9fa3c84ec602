/* What can be read off this host about confidential guests, and what follows from it. */
#ifndef HUSK_SNP_HOST_FACTS_H
#define HUSK_SNP_HOST_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* KVM's capabilities that guests with private memory need, and those that help. */
enum host_cap {
    HOST_CAP_SPLIT_IRQCHIP,
    HOST_CAP_EXIT_HYPERCALL,
    HOST_CAP_USER_MEMORY2,
    HOST_CAP_MEMORY_FAULT_INFO,
    HOST_CAP_MEMORY_ATTRIBUTES,
    HOST_CAP_GUEST_MEMFD,
    HOST_CAP_PRE_FAULT_MEMORY, /* from here on: does without */
    HOST_CAP_GUEST_MEMFD_FLAGS,
    HOST_CAPS
};
#define HOST_CAP_OPTIONAL HOST_CAP_PRE_FAULT_MEMORY

struct host_cpu {
    char vendor[13];
    char brand[49];
    uint32_t family, model;
    bool is_virtual;             /* CPUID 1 ECX bit 31: a hypervisor is below */
    uint32_t eax, ebx, ecx, edx; /* CPUID 0x8000001f; 0 where there is no such leaf */
};

/* Parameters of the module kvm_amd: 'Y', 'N', or 0 where there is none of that name. */
struct host_module {
    bool loaded;
    char sev, sev_es, sev_snp;
};

struct host_kvm {
    int open_error; /* errno of opening /dev/kvm, 0 if it is open */
    int api_version;
    uint32_t vm_types; /* bit N: type N can be made; 0: KVM does not tell */
    uint32_t caps[HOST_CAPS];
    bool has_vmsa_features, has_policy_bits, has_req_certs;
    uint64_t vmsa_features, policy_bits;
};

/* SNP_PLATFORM_STATUS (SEV-SNP firmware ABI, 8.3; layout of uapi/linux/psp-sev.h). */
struct host_firmware {
    int open_error;   /* errno of opening /dev/sev, 0 if it is open */
    int status_error; /* errno of asking for the status */
    uint32_t status;  /* the firmware's own, where status_error is EIO */
    uint8_t api_major, api_minor, state;
    bool rmp_is_initialized, mask_chip_id, mask_chip_key, vlek;
    uint32_t build, guests;
    uint64_t current_tcb, reported_tcb;
};

struct host_facts {
    char kernel[65]; /* release, as uname -r */
    struct host_cpu cpu;
    struct host_module module;
    bool has_asids;
    uint64_t asids, asids_in_use; /* of SEV-ES and SNP guests together (cgroup controller misc) */
    struct host_kvm kvm;
    struct host_firmware firmware;
};

/** host_facts_read() - ask processor, sysfs, /dev/kvm and /dev/sev. Nothing is changed; what is not there is so marked. */
void host_facts_read(struct host_facts *facts);

enum host_verdict {
    HOST_OK,
    HOST_MISSING, /* something that SEV-SNP guests need is not there */
    HOST_NOTE,    /* nothing is wrong, or guests can do without */
};

#define HOST_TEXT 320
#define HOST_FINDINGS_MAX 32

struct host_finding {
    const char *area; /* "processor", "kernel", "KVM", "firmware" */
    enum host_verdict verdict;
    char text[HOST_TEXT];
    const char *hint; /* what to do; NULL: nothing */
};

struct host_report {
    struct host_finding findings[HOST_FINDINGS_MAX];
    size_t n;
    bool ordinary, sw_protected, sev_snp; /* which guests can be started */
};

/** host_judge() - what @facts mean for guests. Findings stand in the order in which a guest's start would come upon them. */
void host_judge(const struct host_facts *facts, struct host_report *report);

/* The parts of a TCB version, which the family of the processor gives their places (firmware ABI, 2.2 and table 3). */
struct host_tcb {
    bool has_fmc;
    uint8_t fmc, bootloader, tee, snp, microcode;
};

/** host_tcb_split() - @tcb of a processor of @family. */
struct host_tcb host_tcb_split(uint64_t tcb, uint32_t family);

/** host_cap_name() - KVM's name of @cap. */
const char *host_cap_name(enum host_cap cap);

#endif
