/* How the lists of system calls are written. Private to sandbox/. */
#ifndef HUSK_SANDBOX_ROLES_INTERNAL_H
#define HUSK_SANDBOX_ROLES_INTERNAL_H

#include "base/bytes.h"
#include "sandbox/roles.h"

#include <seccomp.h>
#include <sys/socket.h>

#define CALL(call)                              \
    {                                           \
        .number = SCMP_SYS(call), .name = #call \
    }

/* If argument @arg is @want, told as @words. */
#define CALL_IF(call, arg, want, words) CALL_MASKED(call, arg, UINT32_MAX, want, words)

/* If the bits @bits of argument @arg are @want. The kernel reads 32 bits of all arguments that are tested so. */
#define CALL_MASKED(call, arg, bits, want, words)                                       \
    {                                                                                   \
        .number = SCMP_SYS(call), .name = #call, .test = CALL_EQUAL, .argument = (arg), \
        .mask = (bits), .value = (want), .text = (words)                                \
    }

/* A connected pair: datagram sockets would reach any address. @type: SOCK_STREAM or SOCK_SEQPACKET. */
#define SOCKETPAIR(type)                                                                        \
    {                                                                                           \
        .number = SCMP_SYS(socketpair), .name = "socketpair", .test = CALL_BOTH, .argument = 0, \
        .mask = UINT32_MAX, .value = AF_UNIX, .and = 1,                                         \
        .and_value = (uint32_t)(type) | (uint32_t)SOCK_CLOEXEC, .text = "AF_UNIX, " #type       \
    }

#define CALL_ON_SELF(call)                                                                 \
    {                                                                                      \
        .number = SCMP_SYS(call), .name = #call, .test = CALL_OWN_PID, .text = "on itself" \
    }

/* Answered with an errno rather than with the process's end: the C library asks, and knows another way. */
#define CALL_REFUSED(call, code)                                   \
    {                                                              \
        .number = SCMP_SYS(call), .name = #call, .refusal = (code) \
    }

#define IOCTL(request) CALL_IF(ioctl, 1, request, #request)
#define FCNTL(command) CALL_IF(fcntl, 1, command, #command)

#define CALLS(rules)             \
    {                            \
        rules, ARRAY_SIZE(rules) \
    }

/* roles_common.c */
extern const struct cage_list calls_process; /* what the C library needs in every process */
extern const struct cage_list calls_threads;
extern const struct cage_list
    calls_messages; /* over connections that are there, with descriptors */
extern const struct cage_list calls_events;

/* roles_vmm.c */
extern const struct cage_list calls_machine_at_work;
extern const struct cage_list calls_vcpu;
extern const struct cage_list calls_machine;
extern const struct cage_list calls_converting;
extern const struct cage_list calls_private_memory;
extern const struct cage_list calls_snp;
extern const struct cage_list calls_certificates;
extern const struct cage_list calls_consoles;
extern const struct cage_list calls_of_broker;

/* roles_broker.c */
extern const struct cage_list calls_brokering;
extern const struct cage_list calls_program;
extern const struct cage_list calls_opening;
extern const struct cage_list calls_opening_disk;
extern const struct cage_list calls_opening_tap;
extern const struct cage_list calls_opening_streams;

/* roles_backends.c */
extern const struct cage_list calls_back_end; /* the vhost-user server */
extern const struct cage_list calls_listening;
extern const struct cage_list calls_disk;
extern const struct cage_list calls_tap;
extern const struct cage_list calls_console;
extern const struct cage_list calls_streams;
extern const struct cage_list calls_connecting;

#endif
