/* What is told of a simulation: a log line a call, each broken rule at once, and a summary at the end. */
#ifndef HUSK_SIM_REPORT_H
#define HUSK_SIM_REPORT_H

#include "base/error.h"
#include "sim/crypto.h"
#include "sim/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define REPORT_DETAIL 160

struct report_violation {
    enum rule_id rule;
    uint32_t vm;  /* number of the VM, 0 if none */
    uint32_t pid; /* process that broke it */
    uint64_t count;
    char detail[REPORT_DETAIL];
};

/* One launch that was finished or given up. */
struct report_launch {
    uint32_t vm;
    uint32_t pid;
    uint32_t vcpus;
    bool finished;
    uint8_t digest[CRYPTO_DIGEST];
    uint64_t policy;
    uint64_t vmsa_features;
    uint64_t pages[8]; /* by page type */
    uint8_t host_data[32];
    uint64_t hashing_ns; /* that the simulator spent on page contents */
};

#define REPORT_ENTRIES_MAX 10000u

struct report {
    FILE *log;  /* NULL: no log */
    bool quiet; /* broken rules go to the log only */
    struct report_violation *violations;
    size_t violations_len;
    struct report_launch *launches;
    size_t launches_len;
    uint64_t errors; /* broken rules of each severity */
    uint64_t warnings;
    uint64_t faults; /* faults and exits that were injected */
    uint64_t calls;
};

/** report_open() - log to @path, if it is not NULL. Returns 0 or -errno. */
int report_open(struct report *report, const char *path, struct error *err);

/** report_close() - release everything. */
void report_close(struct report *report);

/** report_line() - one line into the log. */
void report_line(struct report *report, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** report_broken() - a rule was broken: count it, log it, say it on standard error the first time. */
void report_broken(struct report *report, enum rule_id rule, uint32_t vm, uint32_t pid,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/** report_launch_end() - remember how a launch came out. */
void report_launch_end(struct report *report, const struct report_launch *launch);

/** report_json() - write the summary to @path. Returns 0 or -errno. */
int report_json(const struct report *report, const char *path, const char *kernel,
                struct error *err);

/** report_hex() - @len bytes as hexadecimal digits; @text holds 2 * @len + 1 bytes. Returns @text. */
char *report_hex(const uint8_t *data, size_t len, char *text);

#endif
