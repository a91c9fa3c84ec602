/* Options of subcommands that are not in the table of "husk run". */
#ifndef HUSK_CMD_WORDS_H
#define HUSK_CMD_WORDS_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct word_option {
    const char *name;  /* without the dashes */
    const char *value; /* what help shows for its value; NULL for a flag */
    const char *help;
    char letter;              /* 0: none */
    bool *flag;               /* for a flag */
    const char **text;        /* where its value goes, */
    struct string_list *list; /* or is added, for one that may be repeated */
};

/**
 * words_take() - take the options of @options out of a command line.
 * @argc, @argv: what is left over stays, in order.
 * @only: everything that begins with a dash must be one of @options.
 *
 * Return: 0 or -EINVAL. Strings point into @argv; lists are to be freed with words_free_list().
 */
int words_take(const struct word_option *options, size_t n, int *argc, char **argv, bool only,
               struct error *err);

void words_free_list(struct string_list *list);

/** words_print() - the options as lines of help. */
void words_print(const struct word_option *options, size_t n);

/** words_number() - @text, decimal or with 0x, at most @max. 0, or -EINVAL naming --@option. */
int words_number(const char *option, const char *text, uint64_t max, uint64_t *number,
                 struct error *err);

#endif
