/* The SEV-SNP platform simulator: the door of sim/ for the subcommand. */
#ifndef HUSK_SIM_SIM_H
#define HUSK_SIM_SIM_H

#include "base/error.h"
#include "sim/faults.h"
#include "sim/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses of its own; else it ends as the program did. */
enum sim_status {
    SIM_STATUS_ERROR = 1,       /* the program could not be started under it */
    SIM_STATUS_USAGE = 2,       /* a wrong option */
    SIM_STATUS_RULES = 99,      /* the program ended with 0 and broke a rule */
    SIM_STATUS_NOT_FOUND = 127, /* as a shell has it */
    SIM_STATUS_SIGNAL = 128,    /* plus the signal that ended the program */
};

struct sim_options {
    const char *log;  /* NULL: none */
    const char *json; /* NULL: none */
    enum sim_kernel kernel;
    uint64_t parts;
    uint32_t asids;
    bool no_kvm;
    struct sim_faults faults;
};

/**
 * sim_run() - run a program, and all that it starts, against the simulated platform.
 * @program: its path or name, and its arguments; ends with NULL.
 *
 * Return: an exit status; SIM_STATUS_NOT_FOUND or -errno, with @err filled, if the program could not be started or the
 *         report not written.
 */
int sim_run(const struct sim_options *options, char **program, struct error *err);

/** sim_kernel_name() - "6.11" and its like. */
const char *sim_kernel_name(enum sim_kernel kernel);

/** sim_parse_kernel() - the opposite. Returns 0 or -EINVAL. */
int sim_parse_kernel(const char *text, enum sim_kernel *kernel);

/** sim_print_rules() - the table of rules as docs/simulator.md shows it, on standard output. */
void sim_print_rules(void);

/**
 * sim_check_program() - whether the library can be loaded into a program: a dynamically linked x86-64 one whose start does
 * not change user or group.
 * @path: of the file; scripts are followed to their interpreter.
 *
 * Return: 0, or -errno with @err filled.
 */
int sim_check_program(const char *path, struct error *err);

#endif
