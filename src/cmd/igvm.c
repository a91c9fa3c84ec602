/* husk igvm: finds which part of it is meant. */
#include "base/bytes.h"
#include "cmd/cmd.h"
#include "cmd/igvm_cmd.h"
#include "config/table.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv, struct error *err);
    const char *usage, *help;
} parts[] = {
    {"build", igvm_cmd_build, "--firmware <file> -o <file>", "make an IGVM file from firmware"},
    {"show", igvm_cmd_show, "<file> [--json|--svg <file>|--verify]", "what is in an IGVM file"},
    {"extract", igvm_cmd_extract, "<file> -o <file>", "file data of an IGVM file"},
    {"set-policy", igvm_cmd_set_policy, "<file> <policy>", "change the guest policy of SEV-SNP"},
    {"sign", igvm_cmd_sign, "<file> --id-key <pem>", "add a signed ID block"},
};

static void print_overview(void)
{
    puts("Usage: husk igvm <what> ...\n");
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        printf("  husk igvm %-10s %-38s %s\n", parts[i].name, parts[i].usage, parts[i].help);
    puts("\nEach lists its options with --help. docs/igvm.md explains the format.");
}

int cmd_igvm(int argc, char **argv)
{
    if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_overview();
        return argc == 0 ? VMM_EXIT_USAGE : VMM_EXIT_POWER_OFF;
    }
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (strcmp(argv[0], parts[i].name) != 0)
            continue;
        int r = parts[i].run(argc - 1, argv + 1, &err);
        if (r >= 0)
            return r;
        cmd_print_error(&err);
        return VMM_EXIT_ERROR;
    }
    error_set(&err, -EINVAL, "there is no 'husk igvm %s'",
              option_excerpt(argv[0], strlen(argv[0])).text);
    error_hint(&err, "`husk igvm --help` lists what there is");
    cmd_print_error(&err);
    return VMM_EXIT_USAGE;
}
