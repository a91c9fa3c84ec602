/*
 * The cage of a process: limits, an empty root, Landlock, no new privileges, no capabilities, and its role's system call
 * filter, in that order. What the
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
    int root_fd;      /* an empty mount namespace to go into (namespaces.h); -1: none */
};

/**
 * cage_back_end() - put a back-end in its cage; nothing can be opened or executed after it, and nothing connected to but by CAGE_CONNECTS.
 * @path: in whose folder it may do what @access of enum landlock_access says, by path; NULL: in none.
 */
int cage_back_end(const struct cage *cage, const char *path, unsigned access, struct error *err);

/** cage_broker() - put the broker in its cage, in which it may do what @paths say. */
int cage_broker(const struct cage *cage, const struct landlock_path *paths, size_t n,
                struct error *err);

/**
 * cage_leave_host() - the VMM's cage but for its filter: limits, the host's namespaces, files too, Landlock and capabilities. What is
 * opened by path is open. To be called with one thread.
 * @stay: in the host's namespaces.
 * @rules: of landlock_make(), closed.
 */
int cage_leave_host(const char *who, bool stay, int rules, struct error *err);

/** cage_filter() - put the filter of @cage's role around this thread and those that it starts, and report by it. */
int cage_filter(const struct cage *cage, struct error *err);

/**
 * cage_program() - the filter of a role for threads that put it around themselves with seccomp_install().
 *
 * @program has length 0 with SECCOMP_OFF.
 */
int cage_program(const struct cage *cage, struct seccomp_program *program, struct error *err);

#endif
