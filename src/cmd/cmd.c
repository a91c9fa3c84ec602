/* What the subcommands share: the list of them, and how an error is printed. */
#include "cmd/cmd.h"

#include "base/fd.h"
#include "config/options.h"
#include "config/table.h"
#include "vmm/vmm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct cmd cmd_table[] = {
    {"run", cmd_run, "boot a virtual machine and run it until it ends; may be left out"},
    {"sim", cmd_sim, "run any VMM against a simulated SEV-SNP host; `husk sim --help`"},
    {"measure", cmd_measure, "the launch digest of an SEV-SNP guest, before it is started"},
    {"probe", cmd_probe, "which guests this host can start, and what is missing for SEV-SNP"},
    {"igvm", cmd_igvm, "make, show and change IGVM files; `husk igvm --help`"},
    {"backend", cmd_backend, "serve a device to any VMM (vhost-user); `husk backend --help`"},
    {"help", cmd_help, "this overview; `husk help run` lists the options of run"},
    {"version", cmd_version, "the version of husk"},
};

const size_t cmd_table_len = sizeof(cmd_table) / sizeof(cmd_table[0]);

/** print_line() - @text in one write, so that lines of several processes do not mix; control characters escaped. */
static void print_line(const char *prefix, const char *text)
{
    char line[4 * ERROR_MESSAGE_MAX + 16];
    size_t used = (size_t)snprintf(line, sizeof(line) - 1, "%s", prefix);
    for (const unsigned char *p = (const unsigned char *)text; *p && used + 6 < sizeof(line); p++) {
        if (*p < 0x20 || *p == 0x7f)
            used += (size_t)snprintf(line + used, sizeof(line) - used, "\\x%02x", *p);
        else
            line[used++] = (char)*p;
    }
    line[used++] = '\n';
    /* Nobody can be told that standard error cannot be written. */
    (void)!fd_write_full(STDERR_FILENO, line, used);
}

void cmd_print_error(const struct error *err)
{
    print_line("husk: ", err->message);
    if (err->hint[0])
        print_line("  ", err->hint);
}

int cmd_unknown(const char *name)
{
    const char *names[16];
    size_t n = 0;
    for (size_t i = 0; i < cmd_table_len && n < sizeof(names) / sizeof(names[0]); i++)
        names[n++] = cmd_table[i].name;
    struct error err = ERROR_INIT;
    error_set(&err, -1, "there is no subcommand '%s'", option_excerpt(name, strlen(name)).text);
    const char *near = option_nearest(name, names, n);
    if (near)
        error_hint(&err, "did you mean 'husk %s'? `husk help` lists the subcommands", near);
    error_hint(&err, "`husk help` lists the subcommands");
    cmd_print_error(&err);
    return VMM_EXIT_USAGE;
}
