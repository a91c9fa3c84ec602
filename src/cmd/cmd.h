/* The subcommands: one file each, one function each. */
#ifndef HUSK_CMD_CMD_H
#define HUSK_CMD_CMD_H

#include "base/error.h"

#include <stddef.h>

struct cmd {
    const char *name;
    /** run() - do it. @argc, @argv: the words behind the subcommand. Returns the exit status. */
    int (*run)(int argc, char **argv);
    const char *help; /* one line; NULL for one that the overview leaves out */
};

extern const struct cmd cmd_table[];
extern const size_t cmd_table_len;

/** cmd_run() - "husk run": boot a machine and run it until it ends. */
int cmd_run(int argc, char **argv);

/** cmd_sim() - "husk sim": run a program against the simulated SEV-SNP platform. */
int cmd_sim(int argc, char **argv);

/** cmd_measure() - "husk measure": the launch digest of what run would start. */
int cmd_measure(int argc, char **argv);

/** cmd_probe() - "husk probe": which guests this host can start. */
int cmd_probe(int argc, char **argv);

/** cmd_igvm() - "husk igvm": make, show and change IGVM files. */
int cmd_igvm(int argc, char **argv);

/** cmd_backend() - "husk backend": serve a device from a process of its own. Does not return if that can be started. */
int cmd_backend(int argc, char **argv);

/** cmd_help() - "husk help": the overview, or what is known about one subcommand. */
int cmd_help(int argc, char **argv);

/** cmd_version() - "husk version". */
int cmd_version(int argc, char **argv);

/** cmd_print_man() - the manual page husk(1), on standard output. */
void cmd_print_man(void);

/** cmd_unknown() - say that there is no subcommand @name, and which is meant. Returns the exit status. */
int cmd_unknown(const char *name);

/** cmd_print_error() - the one place where an error is printed: "husk: message", and the hint in a second line. */
void cmd_print_error(const struct error *err);

#endif
