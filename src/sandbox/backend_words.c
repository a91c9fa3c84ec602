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
