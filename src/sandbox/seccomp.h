/*
 * System call filters: a list of what a process may call, made into a program for the kernel, put around a thread. The
 * lists are in roles.c.
 */
#ifndef HUSK_SANDBOX_SECCOMP_H
#define HUSK_SANDBOX_SECCOMP_H

#include "base/error.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum seccomp_mode {
    SECCOMP_OFF,
    SECCOMP_ON,    /* a call that is not listed ends the process */
    SECCOMP_LOG,   /* it is carried out, and the kernel's log tells of it */
    SECCOMP_ERRNO, /* it fails with EPERM */
};

enum call_test {
    CALL_ANY,
    CALL_EQUAL,   /* (argument & mask) == value */
    CALL_BOTH,    /* the same, and argument @and is @and_value */
    CALL_OWN_PID, /* the argument is the process's own id */
};

/* One system call that is allowed, if an argument is as said. */
struct call_rule {
    int number; /* as libseccomp counts */
    const char *name;
    enum call_test test;
    unsigned argument;    /* from 0 */
    uint64_t mask, value; /* of CALL_EQUAL and CALL_BOTH */
    unsigned and;         /* of CALL_BOTH: another argument */
    uint32_t and_value;
    const char *text; /* the argument in words: "TCGETS", "no PROT_EXEC" */
    int refusal;      /* > 0: not allowed after all, but answered with this errno in every mode */
};

struct call_list {
    const struct call_rule *rules;
    size_t n;
};

struct seccomp_program {
    struct sock_filter *code;
    unsigned short len;
};

/** seccomp_mode_parse() - "true", "false", "log" or "errno". Returns false for anything else. */
bool seccomp_mode_parse(const char *text, enum seccomp_mode *mode);

/** seccomp_mode_name() - what seccomp_mode_parse() reads. */
const char *seccomp_mode_name(enum seccomp_mode mode);

/**
 * seccomp_build() - the program that allows what is in any of @lists.
 * @mode: not SECCOMP_OFF.
 * @program: to be freed with seccomp_free().
 *
 * Calls of another architecture's ABI (32-bit, x32) end the process in every mode but SECCOMP_LOG.
 */
int seccomp_build(const struct call_list *lists, size_t n, enum seccomp_mode mode,
                  struct seccomp_program *program, struct error *err);

/** seccomp_install() - put @program around this thread and what it starts from now on. no_new_privs is set. */
int seccomp_install(const struct seccomp_program *program, struct error *err);

void seccomp_free(struct seccomp_program *program);

/**
 * seccomp_report() - let a forbidden call be told of in the log before it ends the process.
 * @who: the process in words, at most 63 characters of it are kept.
 *
 * What else wanted to hear of SIGSYS (a terminal to be restored) does so first.
 */
int seccomp_report(const char *who, struct error *err);

/** seccomp_call_name() - of call @number; "?" if these headers do not know it. */
const char *seccomp_call_name(int number);

#endif
