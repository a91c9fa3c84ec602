/* The manual page husk(1), in the man macros of roff. What it says of the options comes from the option table. */
#include "cmd/cmd.h"
#include "config/options.h"
#include "husk_version.h"
#include "vmm/vmm.h"

#include <stdio.h>

static const struct {
    int status;
    const char *meaning;
} exit_statuses[] = {
    {VMM_EXIT_POWER_OFF, "The guest switched itself off, or there was nothing to run."},
    {VMM_EXIT_ERROR, "The machine could not be made or kept running."},
    {VMM_EXIT_USAGE, "A wrong option or subcommand. Nothing was started."},
    {VMM_EXIT_RESET, "The guest asked for a reset, and \\fB\\-\\-no\\-reboot\\fR was given."},
    {VMM_EXIT_TRIPLE_FAULT, "The guest took a triple fault."},
    {VMM_EXIT_INTERNAL_ERROR, "KVM could not go on with the guest."},
    {VMM_EXIT_FAIL_ENTRY, "The processor refused to enter the guest."},
    {VMM_EXIT_MEMORY_FAULT, "The guest used or asked for private or shared memory that cannot be."},
};

static void print_head(void)
{
    puts(".\\\" Made by husk itself: husk help man\n"
         ".TH HUSK 1 \"\" \"husk " HUSK_VERSION "\" \"User Commands\"\n"
         ".SH NAME\n"
         "husk \\- virtual machine monitor for KVM\n"
         ".SH SYNOPSIS\n"
         ".B husk\n"
         ".RB [ run ]\n"
         ".RI [ options ]\n"
         ".br\n"
         ".B husk backend\n"
         ".I kind\n"
         ".RI [ options ]\n"
         ".br\n"
         ".B husk help\n"
         ".RI [ subcommand ]\n"
         ".br\n"
         ".B husk version\n"
         ".SH DESCRIPTION\n"
         ".B husk run\n"
         "makes a virtual machine, boots the given kernel, firmware or IGVM file in it and runs it "
         "until it "
         "ends.\n"
         "Without a subcommand,\n"
         ".B husk\n"
         "does the same.\n"
         ".PP\n"
         ".B husk backend\n"
         "serves a virtio device to any VMM that speaks vhost-user, such as\n"
         ".BR \"husk backend blk \\-\\-socket\" \" PATH \" \\-\\-path \" FILE\" .\n"
         "It ends with SIGTERM, status 0.\n"
         ".B husk backend\n"
         ".I kind\n"
         ".B \\-\\-help\n"
         "lists its options.\n"
         ".PP\n"
         "The options of a machine have the names, grammar and meaning that they have in Cloud "
         "Hypervisor.\n"
         ".PP\n"
         "An option is written\n"
         ".BI \\-\\-name \" value\"\n"
         "or\n"
         ".BI \\-\\-name= value\\fR.\n"
         "A value may hold several keys, parted by commas.\n"
         "Brackets keep a list together, and double quotes protect what is between them;\n"
         "two double quotes within quotes stand for one.\n"
         "Sizes are bytes, or take K, M, G or T for powers of 1024.\n"
         "An option other than\n"
         ".B \\-v\n"
         "is given once.\n"
         ".SH OPTIONS");
}

static void print_tail(void)
{
    puts(".SH CONFIGURATION FILE\n"
         "The file that\n"
         ".B \\-\\-config\n"
         "names holds one JSON object in the shape of Cloud Hypervisor\\(aqs VmConfig.\n"
         ".B \\-\\-print\\-config\n"
         "writes one, with every default filled in.\n"
         "Unknown fields are errors.\n"
         ".SH SIGNALS\n"
         "The first SIGTERM, SIGINT or SIGHUP presses the guest\\(aqs power button.\n"
         "A second one ends husk.\n"
         ".SH EXIT STATUS");
    for (size_t i = 0; i < sizeof(exit_statuses) / sizeof(exit_statuses[0]); i++)
        printf(".TP\n.B %d\n%s\n", exit_statuses[i].status, exit_statuses[i].meaning);
    printf(".TP\n.BI %d+ n\nSignal\n.I n\ncame a second time and ended husk.\n", VMM_EXIT_SIGNAL);
    puts(".SH EXAMPLES\n"
         "Boot a kernel, with its console on this terminal:\n"
         ".PP\n"
         ".in +4n\n"
         ".EX\n"
         "husk run \\-\\-kernel vmlinuz \\-\\-initramfs initrd.img \\e\n"
         "    \\-\\-cmdline console=ttyS0 \\-\\-cpus boot=2 \\-\\-memory size=1G \\-\\-serial tty\n"
         ".EE\n"
         ".in\n"
         ".PP\n"
         "Start what an IGVM file has for SEV\\-SNP as an ordinary guest, and before that see what "
         "it is:\n"
         ".PP\n"
         ".in +4n\n"
         ".EX\n"
         "husk run \\-\\-igvm guest.igvm \\-\\-platform sev_snp=off \\-\\-dry\\-run\n"
         "husk run \\-\\-igvm guest.igvm \\-\\-platform sev_snp=off \\-\\-serial tty\n"
         ".EE\n"
         ".in\n"
         ".PP\n"
         "Keep a configuration, and start it with more memory:\n"
         ".PP\n"
         ".in +4n\n"
         ".EX\n"
         "husk \\-\\-kernel vmlinuz \\-\\-serial tty \\-\\-print\\-config > vm.json\n"
         "husk \\-\\-config vm.json \\-\\-memory size=4G\n"
         ".EE\n"
         ".in");
}

void cmd_print_man(void)
{
    print_head();
    config_print_man(stdout);
    print_tail();
}
