#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/dry_run.h"
#include "config/options.h"
#include "vmm/machine.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>

static int start_log(const struct logging_config *logging, struct error *err)
{
    if (logging->verbosity)
        log_set_level(logging->verbosity == 1 ? LOG_INFO : LOG_DEBUG);
    log_set_format((enum log_format)logging->format);
    return logging->file ? log_open(logging->file, err) : 0;
}

/** start() - the machine that the configuration describes. Returns the exit status, or -errno. */
static int start(struct vm_config *config, struct error *err)
{
    int ret = start_log(&config->logging, err);
    if (ret < 0)
        return ret;
    return vmm_run(config, err);
}

static int print_config(const struct vm_config *config)
{
    _cleanup_free_ char *text = config_to_json(config);
    if (text && puts(text) >= 0 && fflush(stdout) == 0)
        return VMM_EXIT_POWER_OFF;
    struct error err = ERROR_INIT;
    error_set(&err, -EIO, "could not write the configuration");
    cmd_print_error(&err);
    return VMM_EXIT_ERROR;
}

int cmd_run(int argc, char **argv)
{
    _cleanup_(config_release) struct vm_config config;
    _cleanup_(config_request_release) struct config_request request;
    struct error err = ERROR_INIT;
    int ret = config_parse_args(&config, argc, argv, &request, &err);
    if (ret == 0 && request.help) {
        config_print_help(stdout);
        return VMM_EXIT_POWER_OFF;
    }
    if (ret == 0 && request.version)
        return cmd_version(0, NULL);
    if (ret == 0)
        ret = config_validate(&config, &err);
    if (ret < 0) {
        cmd_print_error(&err);
        return ret == -EINVAL ? VMM_EXIT_USAGE : VMM_EXIT_ERROR;
    }
    if (request.print_config)
        return print_config(&config);
    ret = machine_settle(&config, &err);
    if (ret == 0)
        ret = request.dry_run ? dry_run(&config, request.json, &err) : start(&config, &err);
    if (ret < 0) {
        cmd_print_error(&err);
        return VMM_EXIT_ERROR;
    }
    return ret;
}
