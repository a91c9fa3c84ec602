/* Finds the subcommand; nothing else. */
#include "base/fd.h"
#include "cmd/cmd.h"

#include <string.h>

int main(int argc, char **argv)
{
    fd_fill_standard();
    if (argc < 2)
        return cmd_help(0, NULL);
    const char *word = argv[1];
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        return cmd_help(0, NULL);
    for (size_t i = 0; i < cmd_table_len; i++)
        if (strcmp(word, cmd_table[i].name) == 0)
            return cmd_table[i].run(argc - 2, argv + 2);
    if (word[0] != '-')
        return cmd_unknown(word);
    return cmd_run(argc - 1, argv + 1);
}
