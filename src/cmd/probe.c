/* husk probe: which guests this host can start, and what is missing for the others. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "cmd/cmd.h"
#include "cmd/words.h"
#include "snp/host_facts.h"
#include "vmm/vmm.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static const char *const verdicts[] = {
    [HOST_OK] = "ok", [HOST_MISSING] = "missing", [HOST_NOTE] = "note"};

static void print_help(const struct word_option *options, size_t n)
{
    puts("husk probe - which guests this host can start, and what is missing for the others\n"
         "\n"
         "Usage: husk probe [--json]\n"
         "\n"
         "Options:");
    words_print(options, n);
    puts("\n"
         "Nothing is changed on the host. The exit status is 0 if ordinary guests can be started,\n"
         "whether or not the host has SEV-SNP; scripts read can.sev_snp of --json.");
}

static void print_can(const char *guests, bool can, const char *option)
{
    printf("%-28s %-3s  %s\n", guests, can ? "yes" : "no", option);
}

static void print_report(const struct host_report *report)
{
    for (size_t i = 0; i < report->n; i++) {
        const struct host_finding *finding = &report->findings[i];
        printf("%-10s %-8s %s\n", finding->area, verdicts[finding->verdict], finding->text);
        if (finding->hint)
            printf("%-10s %-8s -> %s\n", "", "", finding->hint);
    }
    putchar('\n');
    print_can("ordinary guests", report->ordinary, "husk run");
    print_can("software-protected guests", report->sw_protected,
              "KVM's test bed for private memory: protects nothing");
    print_can("SEV-SNP guests", report->sev_snp, "");
}

static json_t *json_of_tcb(uint64_t tcb, uint32_t family)
{
    struct host_tcb t = host_tcb_split(tcb, family);
    char hex[24];
    snprintf(hex, sizeof(hex), "0x%016" PRIx64, tcb);
    json_t *json = json_pack("{s:s, s:i, s:i, s:i, s:i}", "value", hex, "bootloader", t.bootloader,
                             "tee", t.tee, "snp", t.snp, "microcode", t.microcode);
    if (json && t.has_fmc)
        json_object_set_new(json, "fmc", json_integer(t.fmc));
    return json;
}

static json_t *json_of_firmware(const struct host_facts *facts)
{
    const struct host_firmware *f = &facts->firmware;
    if (f->open_error || f->status_error)
        return json_null();
    return json_pack("{s:i, s:i, s:I, s:I, s:b, s:o, s:o}", "api_major", f->api_major, "api_minor",
                     f->api_minor, "build", (json_int_t)f->build, "guests", (json_int_t)f->guests,
                     "vlek", f->vlek, "current_tcb", json_of_tcb(f->current_tcb, facts->cpu.family),
                     "reported_tcb", json_of_tcb(f->reported_tcb, facts->cpu.family));
}

static json_t *json_of_findings(const struct host_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < report->n; i++) {
        const struct host_finding *f = &report->findings[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s?}", "area", f->area, "verdict",
                                        verdicts[f->verdict], "text", f->text, "hint", f->hint));
    }
    return list;
}

static int print_json(const struct host_facts *facts, const struct host_report *report)
{
    json_t *json = json_pack("{s:{s:b, s:b, s:b}, s:{s:s, s:s, s:i, s:i}, s:s, s:o, s:o}", "can",
                             "ordinary", report->ordinary, "sw_protected", report->sw_protected,
                             "sev_snp", report->sev_snp, "processor", "vendor", facts->cpu.vendor,
                             "brand", facts->cpu.brand, "family", facts->cpu.family, "model",
                             facts->cpu.model, "kernel", facts->kernel, "firmware",
                             json_of_firmware(facts), "findings", json_of_findings(report));
    int ret = json ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;
    json_decref(json);
    putchar('\n');
    return ret;
}

int cmd_probe(int argc, char **argv)
{
    bool json = false, help = false;
    const struct word_option options[] = {
        {.name = "json", .help = "one JSON object instead of text", .flag = &json},
        {.name = "help", .letter = 'h', .help = "this help", .flag = &help},
    };
    struct error err = ERROR_INIT;
    if (words_take(options, ARRAY_SIZE(options), &argc, argv, true, &err) == 0 && argc > 0)
        error_set(&err, -1, "probe takes options only, not '%.64s'", argv[0]);
    if (err.code < 0) {
        cmd_print_error(&err);
        return VMM_EXIT_USAGE;
    }
    if (help) {
        print_help(options, ARRAY_SIZE(options));
        return 0;
    }
    struct host_facts facts;
    struct host_report report;
    host_facts_read(&facts);
    host_judge(&facts, &report);
    if (!json)
        print_report(&report);
    else if (print_json(&facts, &report) < 0)
        return VMM_EXIT_ERROR;
    return report.ordinary ? 0 : VMM_EXIT_ERROR;
}
