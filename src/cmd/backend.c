/* husk backend: a device in a process of its own. The program that serves it links nothing of the VMM's. */
#include "cmd/cmd.h"

#include "base/cleanup.h"
#include "sandbox/broker.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

int cmd_backend(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    char program[PATH_MAX];
    _cleanup_free_ char **words = calloc((size_t)argc + 2, sizeof(*words));
    if (!words) {
        error_set(&err, -ENOMEM, "out of memory");
    } else if (broker_find_backend(program, &err) == 0) {
        words[0] = program;
        memcpy(&words[1], argv, (size_t)argc * sizeof(*words));
        execv(program, words);
        error_set_errno(&err, -errno, "%s could not be started", program);
    }
    cmd_print_error(&err);
    return VMM_EXIT_ERROR;
}
