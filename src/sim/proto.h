/*
 * What the preloaded library and the simulator process say to each other: one request and one reply a message, over a
 * SOCK_SEQPACKET socket pair. A connection belongs to one process of the VMM; it is made by sending one end of a new
 * pair over the door, a socket that every process of the program inherits.
 *
 * Descriptors that the VMM holds (virtual machines, vCPUs, guest_memfds, /dev/sev) are tokens: ends of socket pairs
 * whose other end the simulator keeps. The kernel tells it when the last copy of one is closed, by whichever process and
 * in whichever way; a token is recognised by its inode, which stays the same over dup, fork, exec and SCM_RIGHTS.
 */
#ifndef HUSK_SIM_PROTO_H
#define HUSK_SIM_PROTO_H

#include <stddef.h>
#include <stdint.h>

#define SIM_ENV_DOOR "HUSK_SIM_DOOR" /* "FD:INODE" of the door, in the environment of the program */

#define SIM_PAYLOAD_MAX 32768u
#define SIM_ARGS 6

/* The window: memory shared between a client and the simulator, through which page contents travel. Two halves, so that
 * one is filled while the other is hashed. */
#define SIM_WINDOW_HALF_PAGES 128u
#define SIM_ZERO_PAGES 4096u /* ZERO pages in one message; they have no contents */
#define SIM_WINDOW_HALVES 2u
#define SIM_PAGE 4096u
#define SIM_WINDOW_HALF ((size_t)SIM_WINDOW_HALF_PAGES * SIM_PAGE)
#define SIM_WINDOW_SIZE (SIM_WINDOW_HALVES * SIM_WINDOW_HALF)

enum sim_op {
    SIM_OP_HELLO = 1,   /* -> window descriptor; value[0] enum sim_hello_flags */
    SIM_OP_RESOLVE,     /* arg[0] inode -> value[0] kind, value[1] id */
    SIM_OP_REAP,        /* -> payload: uint32_t ids of objects of this process that are gone */
    SIM_OP_OPEN,        /* arg[0] kind (KVM or SEV), arg[1] open flags -> token */
    SIM_OP_CHECK_CAP,   /* object KVM or VM; arg[0] capability, arg[1] real answer -> value[0] */
    SIM_OP_DEVICE_ATTR, /* arg[0] group, arg[1] attribute -> value[0] */
    SIM_OP_CREATE_VM,   /* arg[0] type -> token; value[0] 1 if the VM is simulated */
    SIM_OP_ENABLE_CAP,  /* object VM; arg[0] capability, arg[1] flags, arg[2] args[0] */
    SIM_OP_CREATE_VCPU, /* object VM; arg[0] id -> token, with SIM_REPLY_STORAGE the kvm_run memory */
    SIM_OP_CREATE_MEMFD, /* object VM; arg[0] size, arg[1] flags -> token and its storage */
    SIM_OP_REGION,       /* object VM; payload struct sim_region -> payload struct sim_slot[] */
    SIM_OP_ATTRIBUTES, /* object VM; arg[0] address, [1] size, [2] attributes, [3] flags -> struct sim_slot[] */
    SIM_OP_SEV_COMMAND, /* object VM; arg[0] id, arg[1] /dev/sev object, payload by command -> value[0] fw error, value[1] whether to store it */
    SIM_OP_UPDATE_BEGIN, /* object VM; as SEV_COMMAND -> value[2] pages wanted, value[3] where they go */
    SIM_OP_PROBE,        /* payload: one byte of each page; no reply */
    SIM_OP_PAGES, /* object VM; arg[0] half, arg[1] pages, arg[2] 1 if the next source page cannot be read */
    SIM_OP_UPDATE_END, /* object VM -> result of the command; payload struct sim_update_end; value[2..4] write back */
    SIM_OP_FETCH,     /* arg[0] page of the window -> payload: that page */
    SIM_OP_VCPU_SET,  /* object vCPU; arg[0] ioctl number, payload its structure */
    SIM_OP_VCPU_CALL, /* object vCPU; arg[0] ioctl number: may it be made now? */
    SIM_OP_VM_CALL,   /* object VM; the same */
    SIM_OP_PRE_FAULT, /* object vCPU; arg[0] gpa, [1] size, [2] flags */
    SIM_OP_RUN,       /* object vCPU; payload struct sim_run -> payload struct sim_exit if forged */
    SIM_OP_FALLOCATE, /* object guest_memfd; arg[0] mode, [1] offset, [2] length */
    SIM_OP_MMAP_MEMFD, /* object guest_memfd; arg[0] protection */
    SIM_OP_SEV_ISSUE,  /* object SEV; arg[0] command -> value[0] fw error, payload its data */
    SIM_OP_END
};

enum sim_kind {
    SIM_KIND_NONE,
    SIM_KIND_KVM,
    SIM_KIND_SEV,
    SIM_KIND_VM,
    SIM_KIND_VCPU,
    SIM_KIND_MEMFD
};

enum sim_hello_flags {
    SIM_HELLO_LAUNCH_ONLY = 1, /* there is no KVM below */
    SIM_HELLO_ASK_RUN = 2, /* each KVM_RUN is to be asked about: an exit or a fault may be due */
};

enum sim_reply_flags {
    SIM_REPLY_TOKEN = 1,     /* a token comes with this reply */
    SIM_REPLY_STORAGE = 2,   /* and behind it a descriptor for memory */
    SIM_REPLY_REAP = 4,      /* objects of this process are gone: send SIM_OP_REAP */
    SIM_REPLY_CLOEXEC = 8,   /* the token is close-on-exec */
    SIM_REPLY_RUNNABLE = 16, /* this vCPU need not ask before KVM_RUN again */
    SIM_REPLY_FORGED = 32,   /* do not enter the guest: the payload is the exit */
};

struct sim_request {
    uint32_t op;
    uint32_t object;
    uint64_t arg[SIM_ARGS];
};

struct sim_reply {
    int32_t result; /* >= 0, or -errno */
    uint32_t flags;
    uint64_t value[SIM_ARGS];
};

/* KVM_SET_USER_MEMORY_REGION and its second form. */
struct sim_region {
    uint32_t slot;
    uint32_t flags;
    uint64_t gpa;
    uint64_t size;
    uint64_t hva;
    uint64_t memfd_offset;
    uint64_t memfd_hva;    /* where the guest_memfd's storage is mapped, 0 if it is not */
    uint32_t memfd_object; /* 0 if the descriptor is none */
    uint32_t memfd_open;   /* whether the descriptor is open at all */
    uint32_t version;      /* 1 or 2: which form of the ioctl */
    uint32_t pad;
};

/* One KVM_SET_USER_MEMORY_REGION to be made on the real VM, in order. */
struct sim_slot {
    uint32_t slot;
    uint32_t flags;
    uint64_t gpa;
    uint64_t size; /* 0 deletes */
    uint64_t hva;
};
#define SIM_SLOTS_MAX (SIM_PAYLOAD_MAX / sizeof(struct sim_slot))

struct sim_update_end {
    uint64_t gfn_start;
    uint64_t uaddr;
    uint64_t len;
};

/* What an SNP_LAUNCH_FINISH brings along. */
#define SIM_ID_BLOCK 96u
#define SIM_ID_AUTH 4096u
struct sim_finish {
    uint8_t params[88];
    uint32_t
        stored_sev_object; /* what the descriptor number given at LAUNCH_START is now; 0: not /dev/sev */
    uint32_t id_block_fault; /* 1: the ID block or its authentication cannot be read */
    uint8_t id_block[SIM_ID_BLOCK];
    uint8_t id_auth[SIM_ID_AUTH];
};

/* The part of struct kvm_run that differs by exit: its union. */
#define SIM_RUN_UNION_OFFSET 32u
#define SIM_RUN_UNION 256u
struct sim_run {
    uint32_t exit_reason; /* as the last KVM_RUN left it */
    uint32_t immediate_exit;
    uint8_t data[SIM_RUN_UNION];
};

struct sim_exit {
    int32_t result; /* 0, or the -errno of this KVM_RUN */
    uint32_t exit_reason;
    uint32_t keep; /* 1: leave kvm_run as it is */
    uint32_t pad;
    uint8_t data[SIM_RUN_UNION];
};

struct sim_message_in {
    struct sim_request head;
    uint8_t payload[SIM_PAYLOAD_MAX];
};

struct sim_message_out {
    struct sim_reply head;
    uint8_t payload[SIM_PAYLOAD_MAX];
};

_Static_assert(sizeof(struct sim_request) == 56, "no padding");
_Static_assert(sizeof(struct sim_reply) == 56, "no padding");
_Static_assert(sizeof(struct sim_finish) == 96 + SIM_ID_BLOCK + SIM_ID_AUTH, "no padding");
_Static_assert(sizeof(struct sim_slot) == 32, "no padding");

#endif
