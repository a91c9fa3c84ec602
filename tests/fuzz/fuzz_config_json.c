/* A configuration in JSON: read, checked, written, read again. */
#include "base/cleanup.h"
#include "config/options.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(config_release) struct vm_config config;
    struct error err = ERROR_INIT;
    config_init_defaults(&config);
    if (config_from_json(&config, (const char *)data, size, &err) < 0) {
        if (err.message[0] == '\0')
            __builtin_trap();
        return 0;
    }

    _cleanup_free_ char *text = config_to_json(&config);
    if (!text)
        __builtin_trap();
    _cleanup_(config_release) struct vm_config again;
    config_init_defaults(&again);
    if (config_from_json(&again, text, strlen(text), &err) < 0)
        __builtin_trap();
    _cleanup_free_ char *text_again = config_to_json(&again);
    if (!text_again || strcmp(text, text_again) != 0)
        __builtin_trap();
    if (config_validate(&config, &err) < 0 && err.message[0] == '\0')
        __builtin_trap();
    return 0;
}
