/*
 * What each process of a VM may do: one role a kind of process. A new back-end adds a value here, its lists in
 * roles_backends.c and a row of cage_roles[].
 */
#ifndef HUSK_SANDBOX_ROLES_H
#define HUSK_SANDBOX_ROLES_H

#include "sandbox/seccomp.h"

enum cage_role {
    CAGE_VMM,    /* husk run: its main thread, and those that look after devices */
    CAGE_VCPU,   /* its vCPU threads; inside of CAGE_VMM */
    CAGE_BROKER, /* around the back-ends too, which it starts */
    CAGE_BLK,
    CAGE_RNG,
    CAGE_NET,
    CAGE_CONSOLE,
    CAGE_VSOCK,
    CAGE_CONNECTOR, /* started by a socket device's back-end before its cage is shut */
    CAGE_ROLES,
};

/* Some lists are only for processes that were asked to do more. */
enum cage_extra {
    CAGE_LISTENS = 1, /* a back-end on a socket of its own (--socket) */
    CAGE_CONNECTS =
        2, /* the connector; the broker of a device that has one, or of another program's */
    CAGE_PRIVATE = 4, /* a guest with private memory */
    CAGE_SNP = 8,     /* a guest that the secure processor isolates */
    /* What the broker starts back-ends for, whose calls its own filter has to let through. */
    CAGE_DISKS = 16,
    CAGE_TAPS = 32,
    CAGE_CONSOLES = 64,
    CAGE_STREAMS = 128,
};

#define CAGE_LISTS_MAX 20

struct cage_list {
    const char *title;
    struct call_list calls;
    unsigned extra; /* enum cage_extra; 0: always */
};

struct cage_role_of {
    const char *name;                              /* in messages and in docs/threat-model.md */
    const char *process;                           /* who that is */
    const char *opens;                             /* what it may open after its start, in words */
    const char *holds;                             /* the descriptors it has */
    unsigned has;                                  /* of enum cage_extra, always */
    const struct cage_list *lists[CAGE_LISTS_MAX]; /* ended by NULL */
};

extern const struct cage_role_of cage_roles[CAGE_ROLES];

/** cage_calls() - the lists of @role with @extra. @lists: room for CAGE_LISTS_MAX. Returns how many. */
size_t cage_calls(enum cage_role role, unsigned extra, struct call_list *lists);

#endif
