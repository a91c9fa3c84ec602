/* The command line: the input's lines are its words. */
#include "base/cleanup.h"
#include "config/options.h"

#include <string.h>

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** check_message() - an error is one line, and says something. */
static void check_message(const struct error *err)
{
    if (err->message[0] == '\0' || strchr(err->message, '\n') || strchr(err->hint, '\n'))
        __builtin_trap();
}

/** check_round_trip() - what was understood can be written as JSON and read again. */
static void check_round_trip(const struct vm_config *config)
{
    _cleanup_free_ char *text = config_to_json(config);
    if (!text)
        __builtin_trap();
    _cleanup_(config_release) struct vm_config again;
    config_init_defaults(&again);
    struct error err = ERROR_INIT;
    if (config_from_json(&again, text, strlen(text), &err) < 0)
        __builtin_trap();
    _cleanup_free_ char *text_again = config_to_json(&again);
    if (!text_again || strcmp(text, text_again) != 0)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    char *words[WORDS_MAX];
    int n = 0;
    for (char *rest = text; rest && n < WORDS_MAX;) {
        words[n] = strsep(&rest, "\n");
        if (strstr(words[n], "--config")) /* would open files */
            return 0;
        n++;
    }

    _cleanup_(config_release) struct vm_config config;
    _cleanup_(config_request_release) struct config_request request;
    struct error err = ERROR_INIT;
    if (config_parse_args(&config, n, words, &request, &err) < 0 ||
        config_validate(&config, &err) < 0)
        check_message(&err);
    else
        check_round_trip(&config);
    return 0;
}
