#include "cmd/cmd.h"
#include "config/options.h"
#include "husk_version.h"
#include "vmm/vmm.h"

#include <stdio.h>
#include <string.h>

int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("husk " HUSK_VERSION);
    return VMM_EXIT_POWER_OFF;
}

static void print_overview(void)
{
    puts("husk " HUSK_VERSION " - a virtual machine monitor for KVM\n"
         "\n"
         "Usage: husk [run] [options]\n"
         "       husk <subcommand> ...\n"
         "\n"
         "Subcommands:");
    for (size_t i = 0; i < cmd_table_len; i++)
        if (cmd_table[i].help)
            printf("  %-9s %s\n", cmd_table[i].name, cmd_table[i].help);
    puts("\n"
         "Examples:\n"
         "  husk run --kernel vmlinuz --initramfs initrd.img --cmdline console=ttyS0 --serial tty\n"
         "  husk run --kernel vmlinuz --cpus boot=4 --memory size=2G --print-config\n"
         "\n"
         "`husk run --help` lists all options, `man husk` explains them.");
}

/** help_of() - what a subcommand says of itself. */
static int help_of(const char *name)
{
    char option[] = "--help";
    char *argv[] = {option, NULL};
    for (size_t i = 0; i < cmd_table_len; i++)
        if (strcmp(cmd_table[i].name, name) == 0)
            return cmd_table[i].run(1, argv);
    return cmd_unknown(name);
}

int cmd_help(int argc, char **argv)
{
    const char *subject = argc ? argv[0] : "help";
    if (strcmp(subject, "help") == 0 || strcmp(subject, "version") == 0)
        print_overview();
    else if (strcmp(subject, "run") == 0)
        config_print_help(stdout);
    else if (strcmp(subject, "man") == 0)
        cmd_print_man();
    else
        return help_of(subject);
    return VMM_EXIT_POWER_OFF;
}
