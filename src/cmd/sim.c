/* husk sim: its options, which are its own and no machine's. */
#include "cmd/cmd.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/sim.h"

#include <errno.h>
#include <stdlib.h>

static const char usage[] =
    "usage: husk sim [OPTION]... -- PROGRAM [ARGUMENT]...\n"
    "\n"
    "Runs a program, and all that it starts, on a host that claims to have SEV-SNP, and holds each "
    "of its calls to the\n"
    "rules of the kernel and the firmware. Needs no hardware; works over an ordinary KVM or, "
    "launches only, over none.\n"
    "\n"
    "  --kernel V      rules of Linux 6.11 (also 6.12), 6.18 or 7.0 (6.11)\n"
    "  --log FILE      write a line for each call\n"
    "  --json FILE     write a summary: launches with their digests, broken rules\n"
    "  --parts N       each launch update of several pages is done in N parts\n"
    "  --asids N       how many SNP guests there can be at once (99)\n"
    "  --no-kvm        do not use KVM: launches only, vCPUs halt (so, too, where there is no "
    "/dev/kvm)\n"
    "  --fault SPEC    let a call fail: CALL[,at=N][,times=N][,vm=N],EFFECT, which is errno=NAME, "
    "fw=STATUS,\n"
    "                  short=PAGES or signal\n"
    "                  CALL is open-kvm, open-sev, create-vm, enable-cap, create-vcpu, "
    "create-guest-memfd,\n"
    "                  set-region, set-attributes, init2, launch-start, launch-update, "
    "launch-finish,\n"
    "                  enable-req-certs, set-registers, pre-fault, run, fallocate or sev-command\n"
    "  --exit SPEC     let KVM_RUN end: KIND[,vcpu=ID][,at=N][,vm=N][,KEY=VALUE]...; KIND is "
    "map-gpa-range,\n"
    "                  memory-fault, sev-term, snp-req-certs, fail-entry, shutdown, internal-error "
    "or errno\n"
    "  --rules         print the table of rules and end\n"
    "\n"
    "The exit status is the program's; 99 if that is 0 and a rule was broken. docs/simulator.md "
    "has the rest.\n";

static int usage_error(const struct error *err)
{
    cmd_print_error(err);
    return SIM_STATUS_USAGE;
}

static int parse_count(const char *name, const char *value, uint64_t most, uint64_t *count,
                       struct error *err)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 0);
    if (errno || end == value || *end || value[0] == '-' || !number || number > most)
        return error_set(err, -EINVAL, "%s %s: not a number from 1 to %llu", name, value,
                         (unsigned long long)most);
    *count = number;
    return 0;
}

/** set_option() - one option with its value. Returns 0 or -errno with @err filled. */
static int set_option(struct sim_options *options, const char *name, const char *value,
                      struct error *err)
{
    uint64_t count = 0;
    int r = 0;
    if (strcmp(name, "--log") == 0) {
        options->log = value;
    } else if (strcmp(name, "--json") == 0) {
        options->json = value;
    } else if (strcmp(name, "--kernel") == 0) {
        if (sim_parse_kernel(value, &options->kernel))
            r = error_set(err, -EINVAL, "--kernel %s: there are 6.11, 6.18 and 7.0", value);
    } else if (strcmp(name, "--parts") == 0) {
        r = parse_count(name, value, UINT32_MAX, &options->parts, err);
    } else if (strcmp(name, "--asids") == 0) {
        r = parse_count(name, value, 4096, &count, err);
        options->asids = (uint32_t)count;
    } else if (strcmp(name, "--fault") == 0) {
        r = sim_faults_add(&options->faults, value, err);
    } else if (strcmp(name, "--exit") == 0) {
        r = sim_faults_add_exit(&options->faults, value, err);
    } else {
        r = error_set(err, -EINVAL, "husk sim has no option %s", name);
        error_hint(err, "`husk sim --help` lists them; the program comes behind --");
    }
    return r;
}

static bool is_flag(const char *word, const char *name)
{
    return strcmp(word, name) == 0;
}

int cmd_sim(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    _cleanup_free_ struct sim_options *options = calloc(1, sizeof(*options));
    if (!options) {
        error_set(&err, -ENOMEM, "out of memory for the simulator");
        cmd_print_error(&err);
        return SIM_STATUS_ERROR;
    }
    options->asids = MODEL_ASIDS;

    int i = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (is_flag(argv[i], "--")) {
            i++;
            break;
        }
        if (is_flag(argv[i], "--help") || is_flag(argv[i], "--rules")) {
            if (is_flag(argv[i], "--help"))
                fputs(usage, stdout);
            else
                sim_print_rules();
            return 0;
        }
        if (is_flag(argv[i], "--no-kvm")) {
            options->no_kvm = true;
            continue;
        }
        if (i + 1 == argc) {
            error_set(&err, -EINVAL, "%s wants a value", argv[i]);
            return usage_error(&err);
        }
        if (set_option(options, argv[i], argv[i + 1], &err))
            return usage_error(&err);
        i++;
    }
    if (i >= argc) {
        error_set(&err, -EINVAL, "husk sim wants a program to run");
        error_hint(&err, "husk sim [OPTION]... -- PROGRAM [ARGUMENT]...");
        return usage_error(&err);
    }
    int status = sim_run(options, argv + i, &err);
    if (err.code)
        cmd_print_error(&err);
    return status < 0 ? SIM_STATUS_ERROR : status;
}
