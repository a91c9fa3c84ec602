/*
 * The options: from the command line or from JSON into struct vm_config, and back. One table (table.c) describes each
 * option once; the parser, the validation, the JSON, --help and the manual page all read that table.
 *
 * Grammar: "--name value" or "--name=value". A value is a word, or a list of key=value parted by commas. Brackets
 * nest, and double quotes protect what is between them; two double quotes inside quotes stand for one.
 *
 * The struct error is not optional for any of these functions.
 */
#ifndef HUSK_CONFIG_OPTIONS_H
#define HUSK_CONFIG_OPTIONS_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The longest JSON text that is read, in bytes. */
#define CONFIG_JSON_MAX (1 << 20)

/* What the command line asks of husk itself, beside the machine. */
struct config_request {
    bool help;
    bool version;
    bool print_config;
    bool dry_run;
    bool json;         /* with dry_run */
    char *config_file; /* --config, NULL if not given; owned */
};

#define CONFIG_REQUEST_INIT ((struct config_request){0})

/** config_request_release() - free what it owns. */
void config_request_release(struct config_request *request);

/** config_init_defaults() - fill @config with each option's default; nothing is allocated. */
void config_init_defaults(struct vm_config *config);

/** config_release() - free what @config owns and leave it empty. */
void config_release(struct vm_config *config);

/**
 * config_parse_args() - read a command line.
 * @config: initialised here; to be released by the caller, on failure too.
 * @argc, @argv: the words behind "husk" or "husk run".
 * @request: what else was asked for; to be released by the caller, on failure too.
 *
 * A file named by --config is read first, wherever it stands. Each option on the command line then replaces the whole
 * of what the file says for that option. If help or the version is asked for, nothing behind that word is read.
 * The result is not validated: see config_validate().
 *
 * Return: 0, -EINVAL for a wrong option, or the -errno of reading the file.
 */
int config_parse_args(struct vm_config *config, int argc, char **argv,
                      struct config_request *request, struct error *err);

/**
 * config_validate() - check all limits, and the rules that several options have between them.
 *
 * Sets cpus.max where it was not given. Return: 0 or -EINVAL.
 */
int config_validate(struct vm_config *config, struct error *err);

/**
 * config_kernel_hashes() - what a validated @platform says of kernel hashes.
 * @gpa: where they go; 0: where the firmware looks for them.
 *
 * Return: SWITCH_UNSET where nothing is said.
 */
enum switch_state config_kernel_hashes(const struct platform_config *platform, uint64_t *gpa);

/**
 * config_from_json() - read a configuration in JSON over what @config already holds.
 * @config: initialised (config_init_defaults()); to be released by the caller, on failure too.
 * @text, @len: one JSON object, at most CONFIG_JSON_MAX bytes; need not end with a NUL.
 *
 * Unknown fields are errors. An error names the path of the field ("cpus.boot_vcpus: ..."). null means not given.
 * The result is not validated.
 *
 * Return: 0, -EINVAL, or -ENOMEM.
 */
int config_from_json(struct vm_config *config, const char *text, size_t len, struct error *err);

/**
 * config_to_json() - @config as JSON text, indented, without a line break at its end.
 *
 * Reading it with config_from_json() gives the same configuration. Return: to be freed; NULL if memory ran out or a
 * string is not UTF-8.
 */
char *config_to_json(const struct vm_config *config);

/** config_print_help() - the options of "husk run", grouped by topic. */
void config_print_help(FILE *out);

/** config_print_man() - the options as part of a manual page, in roff's man macros. */
void config_print_man(FILE *out);

#endif
