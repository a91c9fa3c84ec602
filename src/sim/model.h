/*
 * The simulated platform: virtual machines, their slots, vCPUs, guest_memfds and launches. One thread works on it, the
 * server's. Everything that comes in here was sent by the program under test and is trusted in nothing.
 */
#ifndef HUSK_SIM_MODEL_H
#define HUSK_SIM_MODEL_H

#include "sim/abi.h"
#include "sim/faults.h"
#include "sim/proto.h"
#include "sim/rangemap.h"
#include "sim/report.h"
#include "sim/vcpu_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_kernel { SIM_KERNEL_6_11, SIM_KERNEL_6_18, SIM_KERNEL_7_0 };

#define MODEL_VCPUS_MAX 4096u /* per VM: KVM_MAX_VCPU_IDS of an x86 kernel */
#define MODEL_SLOTS_MAX 32764u
#define MODEL_OBJECTS_MAX 16384u
#define MODEL_REAL_SLOTS \
    16384u              /* numbers of real slots that stand for parts of slots with guest_memfd */
#define MODEL_ASIDS 99u /* unless --asids says otherwise */

/* What the simulated platform says of itself: no shipped firmware has this version. */
#define MODEL_API_MAJOR 1
#define MODEL_API_MINOR 255
#define MODEL_BUILD_ID 0x4d495348u /* "HSIM" */

struct vm;
struct client;

struct vcpu {
    struct vm *vm;
    uint32_t id;
    bool late;      /* made after LAUNCH_FINISH */
    bool protected; /* measured: its registers are the guest's */
    uint32_t runs;  /* KVM_RUNs that asked */
    struct vcpu_state state;
    struct sim_forged_exit *forged; /* the exit that the next KVM_RUN completes */
    uint64_t fault_gpa;             /* of the last memory fault, and what was the case then */
    uint64_t fault_epoch;
};

struct memfd {
    struct vm *vm;
    uint64_t size;
    uint64_t flags;
    struct rangemap imported; /* by page of the file */
    struct rangemap bound;    /* by page of the file: slot number + 1 */
};

struct slot {
    uint32_t number;
    uint32_t flags;
    uint64_t gpa;
    uint64_t size;
    uint64_t hva;
    struct memfd *memfd; /* NULL once that is closed */
    uint64_t memfd_offset;
    uint64_t memfd_hva;
};

/* A slot of the real VM that stands for a part of a slot with guest_memfd. */
struct real_slot {
    uint32_t owner; /* number of the slot that it is a part of */
    uint64_t gpa;
    uint64_t size; /* 0: this number is free */
    uint64_t hva;
    bool kept;
};

/* A LAUNCH_UPDATE whose pages are coming in. */
struct update {
    bool active;
    bool source_failed;
    struct abi_snp_update params;
    uint64_t wanted; /* pages that pass every check up to the firmware's */
    uint64_t done;
    uint32_t fw;
    bool write_back;    /* the firmware corrected a CPUID page */
    uint64_t corrected; /* which page of the window that is */
};

struct vm {
    uint32_t number; /* 1 for the first SNP VM */
    uint32_t type;
    struct client *owner; /* NULL once that process is gone */
    uint32_t pid;
    uint32_t refs; /* open tokens: of itself, its vCPUs, its guest_memfds */

    bool initialised;
    bool certs;
    bool asid;
    bool measured; /* LAUNCH_FINISH has protected the vCPUs */
    bool finished; /* LAUNCH_FINISH succeeded */
    bool started;
    uint64_t vmsa_features;
    uint64_t policy;
    uint64_t hypercalls;
    bool keep_cd_nw;
    uint8_t digest[CRYPTO_DIGEST];
    uint64_t pages[8]; /* imported, by type */
    uint8_t host_data[32];
    uint64_t hashing_ns; /* spent on page contents */

    struct slot *slots;
    size_t slots_len;
    size_t slots_cap;
    struct real_slot *real; /* the index is the number above MODEL_REAL_SLOTS */
    size_t real_len;
    struct rangemap attributes; /* by gfn */
    uint64_t epoch;             /* counts changes of attributes and slots */
    struct rangemap left;       /* by gfn: what partial LAUNCH_UPDATEs left undone */
    uint64_t parts_next;        /* gfn at which the next part of a range in --parts begins */
    uint64_t parts_left;
    struct vcpu **vcpus;
    size_t vcpus_len;
    struct update update;
    bool reported;
};

struct object {
    enum sim_kind kind;
    uint32_t id;
    uint64_t inode;
    int fd; /* our end of the token */
    struct client *client;
    union {
        struct vm *vm;
        struct vcpu *vcpu;
        struct memfd *memfd;
        void *any;
    };
};

/* One process of the program. */
struct client {
    int fd;
    uint32_t pid;
    uint8_t *window;
    uint32_t *gone; /* ids of its objects that are gone and that it does not know of yet */
    size_t gone_len;
};

struct model {
    enum sim_kernel kernel;
    uint64_t parts; /* 0: a LAUNCH_UPDATE does all it can at once */
    uint32_t asids;
    bool launch_only;
    struct sim_faults faults;
    struct report report;

    uint32_t asids_used;
    uint32_t vms; /* SNP VMs made so far */
    struct object *objects[MODEL_OBJECTS_MAX];
    uint16_t generation[MODEL_OBJECTS_MAX];
    uint32_t objects_used;
    /** object_closed() - the server's: stop watching an object's token. */
    void (*object_closed)(void *ctx, const struct object *object);
    void *object_closed_ctx;
};

/* One request and what becomes of it. */
struct call {
    struct model *model;
    struct client *client;
    const struct sim_message_in *in;
    size_t payload_len;
    struct sim_message_out *out;
    size_t out_len; /* bytes of payload in the reply */
    bool no_reply;
    int fds[2]; /* to be sent along, -1: none; closed afterwards */
};

/* model.c: objects and their lives */

/** model_release() - free everything. */
void model_release(struct model *model);

/** model_object() - the object with @id of that kind, NULL if there is none. */
struct object *model_object(struct model *model, uint32_t id, enum sim_kind kind);

/**
 * model_add() - a new object and its token, which call->fds[0] becomes.
 * @thing: the VM, vCPU or guest_memfd; NULL for the devices.
 *
 * Return: the object, or NULL with errno set.
 */
struct object *model_add(struct call *call, enum sim_kind kind, void *thing);

/** model_object_closed() - the last copy of a token was closed. */
void model_object_closed(struct model *model, struct object *object);

/** model_client_gone() - a process ended. */
void model_client_gone(struct model *model, struct client *client);

/** model_fault() - the errno (negative) of a fault that is due for this call, 0 if there is none; *fw: the firmware's. */
int model_fault(struct call *call, enum sim_call name, const struct vm *vm, uint32_t *fw);

/** model_broken() - a rule was broken by this call. Returns @result. */
int model_broken(struct call *call, enum rule_id rule, const struct vm *vm, int result,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/** model_vm() - the VM that the call is made on, checked to be this process's; NULL with *result set. */
struct vm *model_vm(struct call *call, int *result);

/** model_vcpu() - the same for a vCPU. */
struct vcpu *model_vcpu(struct call *call, int *result);

/** model_snp() - whether this VM is of the SNP type. */
static inline bool model_snp(const struct vm *vm)
{
    return vm->type == ABI_VM_TYPE_SNP;
}

/* The operations: each returns the result of the reply. */
int model_open(struct call *call);         /* model_vm.c */
int model_check_cap(struct call *call);    /* model_vm.c */
int model_device_attr(struct call *call);  /* model_vm.c */
int model_create_vm(struct call *call);    /* model_vm.c */
int model_enable_cap(struct call *call);   /* model_vm.c */
int model_vm_call(struct call *call);      /* model_vm.c */
int model_sev_issue(struct call *call);    /* model_vm.c */
int model_create_memfd(struct call *call); /* model_memory.c */
int model_region(struct call *call);       /* model_memory.c */
int model_attributes(struct call *call);   /* model_memory.c */
int model_fallocate(struct call *call);    /* model_memory.c */
int model_mmap_memfd(struct call *call);   /* model_memory.c */
int model_create_vcpu(struct call *call);  /* model_vcpu.c */
int model_vcpu_set(struct call *call);     /* model_vcpu.c */
int model_vcpu_call(struct call *call);    /* model_vcpu.c */
int model_pre_fault(struct call *call);    /* model_vcpu.c */
int model_run(struct call *call);          /* model_vcpu.c */
int model_sev_command(struct call *call);  /* model_launch.c */
int model_update_begin(struct call *call); /* model_update.c */
int model_pages(struct call *call);        /* model_update.c */
int model_update_end(struct call *call);   /* model_update.c */

/** model_policy_bits() - the policy bits that LAUNCH_START takes. */
uint64_t model_policy_bits(enum sim_kernel kernel);

/** model_features() - the VMSA features that INIT2 takes. */
uint64_t model_features(enum sim_kernel kernel);

/** model_memfd_closed() - slots lose a guest_memfd whose last descriptor was closed. */
void model_memfd_closed(struct memfd *memfd);

/** model_slot_at() - the slot that holds @gpa, NULL if none does. */
struct slot *model_slot_at(struct vm *vm, uint64_t gpa);

/** model_finish_launch() - LAUNCH_FINISH after its VMSAs: ID block, host data. @finish: validated to be complete. */
int model_finish_id(struct call *call, struct vm *vm, const struct sim_finish *finish,
                    uint32_t *fw);

/**
 * model_check_cpuid() - what the firmware thinks of a CPUID page.
 * @page: 4096 bytes, replaced by the corrected ones.
 *
 * Return: whether it takes the page.
 */
bool model_check_cpuid(struct call *call, const struct vm *vm, uint8_t *page);

/** model_dispatch() - do what a request asks for and fill the reply. */
void model_dispatch(struct call *call);

/** model_vm_report() - put the state of a launch into the report, once. */
void model_vm_report(struct model *model, struct vm *vm);

#endif
