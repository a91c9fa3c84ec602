/*
 * The cage of a process: limits, Landlock, no new privileges, and its role's system call filter, in that order. What the
 * process opens by path is opened before.
 */
#ifndef HUSK_SANDBOX_CAGE_H
#define HUSK_SANDBOX_CAGE_H

#include "base/error.h"
#include "sandbox/landlock.h"
#include "sandbox/roles.h"

struct cage {
    enum cage_role role;
    unsigned extra; /* of enum cage_extra */
    enum seccomp_mode seccomp;
    const char *name; /* of the device, in messages; NULL: the role's */
};

/**
 * cage_back_end() - put a back-end in its cage; nothing can be opened, connected to or executed after it.
 * @socket: with CAGE_LISTENS, the path that is removed at the end; else NULL.
 */
int cage_back_end(const struct cage *cage, const char *socket, struct error *err);

/** cage_filter() - put the filter of @cage's role around this thread and those that it starts, and report by it. */
int cage_filter(const struct cage *cage, struct error *err);

/**
 * cage_program() - the filter of a role for threads that put it around themselves with seccomp_install().
 *
 * @program has length 0 with SECCOMP_OFF.
 */
int cage_program(const struct cage *cage, struct seccomp_program *program, struct error *err);

#endif
