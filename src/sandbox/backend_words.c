#include "sandbox/backend_words.h"

#include <inttypes.h>
#include <stdio.h>

void backend_words_add(struct backend_words *words, const char *word)
{
    if (words->n < BACKEND_WORDS_MAX)
        words->argv[words->n++] = word;
}

void backend_words_text(struct backend_words *words, const char *name, const char *text)
{
    backend_words_add(words, name);
    backend_words_add(words, text);
}

void backend_words_number(struct backend_words *words, const char *name, uint64_t value)
{
    backend_words_add(words, name);
    if (words->n == BACKEND_WORDS_MAX)
        return;
    char *text = words->numbers[words->n];
    snprintf(text, BACKEND_WORD_BYTES, "%" PRIu64, value);
    backend_words_add(words, text);
}

/** add_limit() - "--bw-size" and its relatives, if there is a limit. */
static void add_limit(struct backend_words *to, const char *const names[3],
                      const struct rate_limit_config *limit)
{
    if (!limit->size)
        return;
    backend_words_number(to, names[0], limit->size);
    if (limit->one_time_burst)
        backend_words_number(to, names[1], limit->one_time_burst);
    backend_words_number(to, names[2], limit->refill_time);
}

void backend_words_limits(struct backend_words *words, const struct rate_limit_config *bandwidth,
                          const struct rate_limit_config *ops)
{
    static const char *const of_bytes[] = {"--bw-size", "--bw-one-time-burst", "--bw-refill-time"};
    static const char *const of_ops[] = {"--ops-size", "--ops-one-time-burst", "--ops-refill-time"};
    add_limit(words, of_bytes, bandwidth);
    add_limit(words, of_ops, ops);
}
