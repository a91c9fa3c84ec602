/* The words that a back-end is started with. Private to sandbox/. */
#ifndef HUSK_SANDBOX_BACKEND_WORDS_H
#define HUSK_SANDBOX_BACKEND_WORDS_H

#include "config/config.h"

#include <stdint.h>

/* Where a back-end finds its connection, and the first of the descriptors that its kind needs. */
#define BACKEND_SOCKET_FD 3
#define BACKEND_FIRST_FD 4

#define BACKEND_WORDS_MAX 192
#define BACKEND_WORD_BYTES 32

struct backend_words {
    const char *argv[BACKEND_WORDS_MAX + 1];
    unsigned n;
    char numbers[BACKEND_WORDS_MAX][BACKEND_WORD_BYTES];
};

/** backend_words_add() - one word, which must outlive @words. What does not fit is left out. */
void backend_words_add(struct backend_words *words, const char *word);

/** backend_words_text() - "@name @text" as two words. */
void backend_words_text(struct backend_words *words, const char *name, const char *text);

/** backend_words_number() - "@name @value" as two words. */
void backend_words_number(struct backend_words *words, const char *name, uint64_t value);

/** backend_words_limits() - the rate limits, as far as there are any. */
void backend_words_limits(struct backend_words *words, const struct rate_limit_config *bandwidth,
                          const struct rate_limit_config *ops);

#endif
