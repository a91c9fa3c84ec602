/* Defaults, release, and the rules that the table's limits cannot say. */
#include "base/units.h"
#include "config/options.h"
#include "config/table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define PAGE_BYTES 4096

void config_init_defaults(struct vm_config *config)
{
    *config = (struct vm_config){0};
    config_release(config);
}

void config_release(struct vm_config *config)
{
    for (size_t i = 0; i < option_table_len; i++)
        if (!option_table[i].request)
            option_reset(config, &option_table[i]);
}

/** number_is_given() - false where a number stands for "not given". */
static bool number_is_given(const struct option_key *key, uint64_t value)
{
    switch (key->type) {
    case OPTION_FD:
    case OPTION_SIZE:
    case OPTION_U32:
    case OPTION_NUMBER:
        return value != key->initial;
    case OPTION_COUNT:
    case OPTION_PORT:
        return true;
    default:
        return false;
    }
}

/** check_item() - each number of one option, or of one item of a list. */
static int check_item(const void *base, const struct option *option, struct error *err)
{
    for (size_t i = 0; i < option->n_keys; i++) {
        const struct option_key *key = &option->keys[i];
        uint64_t value = option_get_number(base, key);
        if (!number_is_given(key, value) || option_check_number(key, value, err) == 0)
            continue;
        if (key->name)
            error_context(err, "--%s: %s", option->name, key->name);
        return -EINVAL;
    }
    return 0;
}

/** check_limits() - each number against the table, for a configuration that no parser made. */
static int check_limits(const struct vm_config *config, struct error *err)
{
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        if (option->request)
            continue;
        for (size_t j = 0; j < option_n_items(config, option); j++)
            if (check_item(option_item(config, option, j), option, err) < 0)
                return -EINVAL;
    }
    return 0;
}

static int check_cpus(struct cpus_config *cpus, struct error *err)
{
    if (cpus->max == 0)
        cpus->max = cpus->boot;
    if (cpus->max < cpus->boot)
        return error_set(err, -EINVAL, "--cpus: max=%u is less than boot=%u", cpus->max,
                         cpus->boot);
    const struct cpu_topology *t = &cpus->topology;
    uint64_t product =
        (uint64_t)t->threads_per_core * t->cores_per_die * t->dies_per_package * t->packages;
    bool given = t->threads_per_core || t->cores_per_die || t->dies_per_package || t->packages;
    if (given && product != cpus->max)
        return error_set(err, -EINVAL,
                         "--cpus: topology=%u:%u:%u:%u makes %" PRIu64 " vCPUs, but max is %u",
                         t->threads_per_core, t->cores_per_die, t->dies_per_package, t->packages,
                         product, cpus->max);
    for (size_t i = 0; i < cpus->n_affinity; i++) {
        const struct cpu_affinity *affinity = &cpus->affinity[i];
        if (affinity->vcpu >= cpus->max)
            return error_set(err, -EINVAL,
                             "--cpus: affinity names vCPU %u, but max=%u makes the last one %u",
                             affinity->vcpu, cpus->max, cpus->max - 1);
        if (affinity->n_host_cpus == 0)
            return error_set(err, -EINVAL, "--cpus: affinity leaves vCPU %u no host CPU",
                             affinity->vcpu);
        for (size_t j = 0; j < i; j++)
            if (cpus->affinity[j].vcpu == affinity->vcpu)
                return error_set(err, -EINVAL, "--cpus: affinity lists vCPU %u twice",
                                 affinity->vcpu);
    }
    return 0;
}

static int check_memory(const struct memory_config *memory, struct error *err)
{
    char size[UNITS_SIZE_TEXT], unit[UNITS_SIZE_TEXT];
    uint64_t page = memory->hugepage_size;
    if (page && !memory->hugepages)
        return error_set(err, -EINVAL, "--memory: hugepage_size needs hugepages=on");
    if (page & (page - 1))
        return error_set(err, -EINVAL, "--memory: hugepage_size=%s is not a power of two",
                         units_format_size(page, unit));
    uint64_t multiple = page ? page : PAGE_BYTES;
    if (memory->size % multiple)
        return error_set(err, -EINVAL, "--memory: size=%s is not a multiple of %s",
                         units_format_size(memory->size, size), units_format_size(multiple, unit));
    return 0;
}

static int check_vsock(const struct vsock_config *vsock, struct error *err)
{
    if (!vsock->cid == !vsock->socket)
        return 0;
    return error_set(err, -EINVAL, "--vsock: needs %s as well as %s",
                     vsock->cid ? "socket=PATH" : "cid=N", vsock->cid ? "cid" : "socket");
}

static int check_consoles(const struct vm_config *config, struct error *err)
{
    const struct {
        const char *name;
        const struct console_config *console;
    } all[] = {
        {"serial", &config->serial},
        {"console", &config->console},
        {"debug-console", &config->debug_console},
    };
    const char *on_tty = NULL;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const struct console_config *console = all[i].console;
        bool to_path = console->mode == CONSOLE_FILE || console->mode == CONSOLE_SOCKET;
        if (to_path && !console->path)
            return error_set(err, -EINVAL, "--%s: needs the path of the %s", all[i].name,
                             console->mode == CONSOLE_FILE ? "file" : "socket");
        if (console->mode != CONSOLE_TTY)
            continue;
        if (on_tty)
            return error_set(err, -EINVAL,
                             "--%s and --%s are both on tty, but there is one terminal", on_tty,
                             all[i].name);
        on_tty = all[i].name;
    }
    return 0;
}

static int check_uuid(const char *uuid, struct error *err)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    bool valid = strlen(uuid) == strlen(form);
    for (size_t i = 0; valid && form[i]; i++)
        valid = form[i] == '-' ? uuid[i] == '-' : isxdigit((unsigned char)uuid[i]) != 0;
    if (valid)
        return 0;
    return error_set(err, -EINVAL,
                     "--platform: system_uuid: '%s' is not a UUID, as "
                     "123e4567-e89b-12d3-a456-426614174000",
                     option_excerpt(uuid, strlen(uuid)).text);
}

static int check_payload(const struct payload_config *payload, struct error *err)
{
    if (!payload->kernel && !payload->firmware && !payload->igvm)
        return error_set(
            err, -EINVAL,
            "nothing to boot: --kernel <file>, --firmware <file> or --igvm <file> is needed");
    if (payload->firmware && payload->igvm)
        return error_set(err, -EINVAL,
                         "--firmware and --igvm exclude each other: an IGVM file brings firmware");
    /* An IGVM file may want the command line for itself. */
    if (!payload->kernel && (payload->initramfs || (payload->cmdline && !payload->igvm)))
        return error_set(
            err, -EINVAL,
            "--initramfs and --cmdline are for a kernel: --kernel <file> is needed with them");
    return 0;
}

static int check_chipset(const struct vm_config *config, struct error *err)
{
    const struct payload_config *payload = &config->payload;
    if (config->platform.chipset != CHIPSET_Q35 || payload->firmware || payload->igvm)
        return 0;
    return error_set(err, -EINVAL,
                     "--platform: chipset=q35 is for --firmware and --igvm: there, firmware places "
                     "the devices that a kernel started without it would not find");
}

static int check_fw_cfg(const struct payload_config *payload, struct error *err)
{
    const struct fw_cfg_config *told = &payload->fw_cfg;
    bool more = told->n_items || told->e820 || told->kernel || told->cmdline || told->initramfs ||
                told->acpi_table;
    if (told->disable && more)
        return error_set(err, -EINVAL, "--fw-cfg-config: disable goes with nothing else");
    if (told->disable && payload->kernel && (payload->firmware || payload->igvm))
        return error_set(err, -EINVAL,
                         "--fw-cfg-config: disable leaves the firmware no way to the kernel");
    for (size_t i = 0; i < told->n_items; i++) {
        const struct fw_cfg_item_config *item = &told->items[i];
        if (!item->name)
            return error_set(err, -EINVAL, "--fw-cfg-config: items: item %zu has no name", i + 1);
        if (!item->file == !item->string)
            return error_set(err, -EINVAL,
                             "--fw-cfg-config: items: '%s' needs either a file or a string",
                             item->name);
        for (size_t j = 0; j < i; j++)
            if (strcmp(told->items[j].name, item->name) == 0)
                return error_set(err, -EINVAL, "--fw-cfg-config: items: '%s' is given twice",
                                 item->name);
    }
    return 0;
}

static int check_isolation(const struct vm_config *config, struct error *err)
{
    const struct payload_config *payload = &config->payload;
    bool snp = config->platform.sev_snp == SWITCH_ON;
    if (snp && config->platform.sw_protected)
        return error_set(err, -EINVAL,
                         "--platform: sev_snp=on and sw_protected=on exclude each other");
    if ((snp || config->platform.sw_protected) && config->memory.hugepages)
        return error_set(err, -EINVAL,
                         "--memory: hugepages=on is not for --platform %s=on: a page would be held "
                         "twice, as huge shared memory and as small private one",
                         snp ? "sev_snp" : "sw_protected");
    if (config_validate_snp(config, err) < 0)
        return err->code;
    if (!snp || payload->firmware || payload->igvm)
        return 0;
    return error_set(err, -EINVAL,
                     "--platform: sev_snp=on needs --igvm <file> or --firmware <file>: a kernel "
                     "cannot start in a guest that is not yet isolated");
}

static int check(struct vm_config *config, struct error *err)
{
    int ret = check_limits(config, err);
    if (ret == 0)
        ret = check_cpus(&config->cpus, err);
    if (ret == 0)
        ret = check_memory(&config->memory, err);
    if (ret == 0)
        ret = check_consoles(config, err);
    if (ret == 0)
        ret = check_vsock(&config->vsock, err);
    if (ret == 0)
        ret = config_validate_disks(config, err);
    if (ret == 0)
        ret = config_validate_nets(config, err);
    if (ret == 0)
        ret = config_validate_filesystems(config, err);
    if (ret == 0)
        ret = config_validate_ids(config, err);
    if (ret == 0 && config->platform.system_uuid)
        ret = check_uuid(config->platform.system_uuid, err);
    if (ret < 0)
        return ret;
    if (config->event_monitor.path && config->event_monitor.fd >= 0)
        return error_set(err, -EINVAL, "--event-monitor: path and fd exclude each other");
    ret = check_payload(&config->payload, err);
    if (ret == 0)
        ret = check_chipset(config, err);
    if (ret == 0)
        ret = check_fw_cfg(&config->payload, err);
    return ret < 0 ? ret : check_isolation(config, err);
}

int config_validate(struct vm_config *config, struct error *err)
{
    int ret = check(config, err);
    if (ret < 0)
        error_hint(err, "`husk run --help` lists all options");
    return ret;
}
