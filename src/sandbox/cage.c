#include "sandbox/cage.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sandbox/capabilities.h"
#include "sandbox/limits.h"
#include "sandbox/namespaces.h"

#include <errno.h>
#include <libgen.h>
#include <linux/capability.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* The sanitizers make system calls of their own: they open files, and stop the process's threads from another process to
 * look for leaks. In a build with them a filter only logs, and paths stay open. */
#ifdef HUSK_SANITIZED
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* To give a back-end the empty root, and to open and remove other users' files. */
#define BROKER_CAPABILITIES \
    (CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_SYS_CHROOT) | CAPABILITY(CAP_DAC_OVERRIDE))

/* malloc's heaps of a process. To give back a part of one beyond the first, glibc opens /proc/sys/vm/overcommit_memory
 * (check_may_shrink_heap() in sysdeps/unix/sysv/linux/malloc-sysdep.h). */
#define ARENAS_MAX 1

int cage_program(const struct cage *cage, struct seccomp_program *program, struct error *err)
{
    struct call_list lists[CAGE_LISTS_MAX];
    size_t n = cage_calls(cage->role, cage->extra, lists);
    *program = (struct seccomp_program){0};
    if (cage->seccomp == SECCOMP_OFF)
        return 0;
    return seccomp_build(lists, n, sanitized ? SECCOMP_LOG : cage->seccomp, program, err);
}

int cage_filter(const struct cage *cage, struct error *err)
{
    mallopt(M_ARENA_MAX, ARENAS_MAX);
    if (cage->seccomp == SECCOMP_OFF)
        return 0;
    tzset(); /* which the C library would do, from a file, when the first time is written to the log */
    _cleanup_(seccomp_free) struct seccomp_program program;
    char who[64];
    snprintf(who, sizeof(who), "%s%s%s", cage->name ? cage->name : "", cage->name ? ": " : "",
             cage_roles[cage->role].process);
    int ret = cage_program(cage, &program, err);
    if (ret == 0)
        ret = seccomp_report(who, err);
    return ret < 0 ? ret : seccomp_install(&program, err);
}

/** gain_nothing() - a program that is executed has no more rights than this one. */
static int gain_nothing(struct error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set_errno(err, -errno, "could not give up new privileges");
    return 0;
}

int cage_leave_host(const char *who, bool stay, int rules, struct error *err)
{
    _cleanup_close_ int landlock = rules;
    int ret = limits_vmm(err);
    if (ret == 0)
        ret = gain_nothing(err);
    if (ret < 0)
        return ret;
    if (!stay && !sanitized)
        namespaces_enter_vmm(who);
    if (!sanitized)
        ret = landlock_apply(take_fd(&landlock), err); /* which lets nobody mount */
    return ret < 0 ? ret : capabilities_keep(0, err);
}

int cage_broker(const struct cage *cage, const struct landlock_path *paths, size_t n,
                struct error *err)
{
    int ret = limits_broker(err);
    if (ret == 0)
        ret = gain_nothing(err);
    if (ret == 0 && !sanitized) {
        namespaces_show_only("husk-broker", paths, n);
        ret = landlock_enter("husk-broker", paths, n, err);
    }
    capabilities_bound(BROKER_CAPABILITIES);
    if (ret == 0)
        ret = capabilities_keep(BROKER_CAPABILITIES, err);
    return ret < 0 ? ret : cage_filter(cage, err);
}

int cage_back_end(const struct cage *cage, const char *path, unsigned access, struct error *err)
{
    const char *who = cage->name ? cage->name : cage_roles[cage->role].name;
    _cleanup_free_ char *copy = path ? strdup(path) : NULL;
    const struct landlock_path folder = {copy ? dirname(copy) : NULL, access};
    int ret = limits_back_end(err);
    if (ret == 0)
        ret = gain_nothing(err);
    if (ret < 0)
        return ret;
    namespaces_join_root(who, sanitized ? -1 : cage->root_fd);
    if (!sanitized)
        ret = landlock_enter(who, &folder, copy ? 1 : 0, err);
    if (ret == 0)
        ret = capabilities_keep(
            copy || cage->role == CAGE_CONNECTOR ? CAPABILITY(CAP_DAC_OVERRIDE) : 0, err);
    return ret < 0 ? ret : cage_filter(cage, err);
}
