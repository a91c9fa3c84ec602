/* Log lines, broken rules, and the JSON summary. */
#include "sim/report.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <time.h>

int report_open(struct report *report, const char *path, struct error *err)
{
    if (!path)
        return 0;
    report->log = fopen(path, "we");
    if (!report->log)
        return error_set_errno(err, -errno, "could not open the log %s", path);
    setvbuf(report->log, NULL, _IOLBF, 0);
    return 0;
}

void report_close(struct report *report)
{
    if (report->log)
        fclose(report->log);
    free(report->violations);
    free(report->launches);
    *report = (struct report){0};
}

char *report_hex(const uint8_t *data, size_t len, char *text)
{
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    text[2 * len] = '\0';
    return text;
}

static void log_va(struct report *report, const char *prefix, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static void log_va(struct report *report, const char *prefix, const char *fmt, va_list args)
{
    if (!report->log)
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char text[512];
    vsnprintf(text, sizeof(text), fmt, args);
    fprintf(report->log, "%lld.%06ld %s%s\n", (long long)now.tv_sec, now.tv_nsec / 1000, prefix,
            text);
}

void report_line(struct report *report, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_va(report, "", fmt, args);
    va_end(args);
}

/** grow() - room for one more entry of @size bytes; NULL when there is none, or when there are too many already. */
static void *grow(void *entries, size_t len, size_t size)
{
    if (len >= REPORT_ENTRIES_MAX)
        return NULL;
    if (len & (len - 1))
        return entries;
    return reallocarray(entries, len ? 2 * len : 1, size);
}

void report_broken(struct report *report, enum rule_id rule, uint32_t vm, uint32_t pid,
                   const char *fmt, ...)
{
    const struct rule *r = &rule_table[rule];
    char detail[REPORT_DETAIL];
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, sizeof(detail), fmt, args);
    va_end(args);

    const char *word = r->severity == RULE_ERROR ? "ERROR" : "WARNING";
    if (r->severity == RULE_ERROR)
        report->errors++;
    else
        report->warnings++;
    report_line(report, "%s %s vm=%u pid=%u: %s", word, r->name, vm, pid, detail);
    for (size_t i = 0; i < report->violations_len; i++) {
        struct report_violation *v = &report->violations[i];
        if (v->rule == rule && v->vm == vm && v->pid == pid && strcmp(v->detail, detail) == 0) {
            v->count++;
            return;
        }
    }
    if (!report->quiet)
        fprintf(stderr, "husk sim: %s %s: %s (%s; %s)\n", word, r->name, detail, r->text,
                r->source);
    void *entries = grow(report->violations, report->violations_len, sizeof(*report->violations));
    if (!entries)
        return;
    report->violations = entries;
    struct report_violation *v = &report->violations[report->violations_len++];
    *v = (struct report_violation){.rule = rule, .vm = vm, .pid = pid, .count = 1};
    memcpy(v->detail, detail, sizeof(detail));
}

void report_launch_end(struct report *report, const struct report_launch *launch)
{
    void *entries = grow(report->launches, report->launches_len, sizeof(*report->launches));
    if (!entries)
        return;
    report->launches = entries;
    report->launches[report->launches_len++] = *launch;
}

static json_t *violations_json(const struct report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->violations_len; i++) {
        const struct report_violation *v = &report->violations[i];
        const struct rule *r = &rule_table[v->rule];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "rule", r->name, "severity",
                            r->severity == RULE_ERROR ? "error" : "warning", "text", r->text,
                            "source", r->source, "detail", v->detail, "vm", (json_int_t)v->vm,
                            "pid", (json_int_t)v->pid, "count", (json_int_t)v->count));
    }
    return list;
}

static json_t *launches_json(const struct report *report)
{
    static const char *const types[8] = {[1] = "normal",     [2] = "vmsa",    [3] = "zero",
                                         [4] = "unmeasured", [5] = "secrets", [6] = "cpuid"};
    json_t *list = json_array();
    for (size_t i = 0; i < report->launches_len; i++) {
        const struct report_launch *l = &report->launches[i];
        char digest[2 * CRYPTO_DIGEST + 1];
        char host_data[2 * sizeof(l->host_data) + 1];
        char policy[32];
        snprintf(policy, sizeof(policy), "0x%llx", (unsigned long long)l->policy);
        json_t *pages = json_object();
        for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
            if (types[t] && l->pages[t])
                json_object_set_new(pages, types[t], json_integer((json_int_t)l->pages[t]));
        }
        json_array_append_new(
            list,
            json_pack("{s:I, s:I, s:I, s:b, s:s, s:s, s:I, s:s, s:f, s:o}", "vm", (json_int_t)l->vm,
                      "pid", (json_int_t)l->pid, "vcpus", (json_int_t)l->vcpus, "finished",
                      (int)l->finished, "digest", report_hex(l->digest, CRYPTO_DIGEST, digest),
                      "policy", policy, "vmsa_features", (json_int_t)l->vmsa_features, "host_data",
                      report_hex(l->host_data, sizeof(l->host_data), host_data), "hashing_ms",
                      (double)l->hashing_ns / 1e6, "pages", pages));
    }
    return list;
}

int report_json(const struct report *report, const char *path, const char *kernel,
                struct error *err)
{
    json_t *root =
        json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "simulated", 1, "kernel", kernel,
                  "errors", (json_int_t)report->errors, "warnings", (json_int_t)report->warnings,
                  "injected", (json_int_t)report->faults, "calls", (json_int_t)report->calls,
                  "launches", launches_json(report), "violations", violations_json(report));
    if (!root)
        return error_set(err, -ENOMEM, "out of memory for the report");
    int r = json_dump_file(root, path, JSON_INDENT(2));
    int saved = errno;
    json_decref(root);
    return r ? error_set_errno(err, saved ? -saved : -EIO, "could not write the report %s", path)
             : 0;
}
