/* Findings on their way to whoever asked for them. */
#include "igvm_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/** counted() - whether @code has had its share of reports: a file may have a finding for each 8 bytes. */
static bool counted(struct igvm_reporter *reporter, IgvmResult code, bool tolerated)
{
    uint32_t *count = &reporter->counts[-code][tolerated];
    if (*count < IGVM_FINDINGS_MAX)
        return false;
    if (*count < UINT32_MAX)
        ++*count;
    return true;
}

static void report(struct igvm_reporter *reporter, const struct igvm_header *header,
                   IgvmResult code, bool tolerated, const char *fmt, va_list args)
    __attribute__((format(printf, 5, 0)));

static void report(struct igvm_reporter *reporter, const struct igvm_header *header,
                   IgvmResult code, bool tolerated, const char *fmt, va_list args)
{
    if (!tolerated && reporter->first == IGVMAPI_OK)
        reporter->first = code;
    if (!reporter->fn || counted(reporter, code, tolerated))
        return;
    reporter->counts[-code][tolerated]++;
    char message[256];
    vsnprintf(message, sizeof(message), fmt, args);
    struct igvm_finding finding = {.code = code, .tolerated = tolerated, .message = message};
    if (header) {
        finding.header = header->number;
        finding.type = header->type;
        finding.offset = header->offset;
    }
    reporter->fn(&finding, reporter->opaque);
}

void igvm_report(struct igvm_reporter *reporter, const struct igvm_header *header, IgvmResult code,
                 const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    report(reporter, header, code, false, fmt, args);
    va_end(args);
}

void igvm_report_tolerated(struct igvm_reporter *reporter, const struct igvm_header *header,
                           IgvmResult code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    report(reporter, header, code, true, fmt, args);
    va_end(args);
}

bool igvm_report_counted(struct igvm_reporter *reporter, IgvmResult code)
{
    return counted(reporter, code, false);
}

void igvm_report_rest(struct igvm_reporter *reporter)
{
    for (uint32_t code = 0; reporter->fn && code < IGVM_RESULTS; code++) {
        for (int tolerated = 0; tolerated < 2; tolerated++) {
            uint32_t more = reporter->counts[code][tolerated] - IGVM_FINDINGS_MAX;
            if (reporter->counts[code][tolerated] <= IGVM_FINDINGS_MAX)
                continue;
            char message[128];
            snprintf(message, sizeof(message),
                     "%" PRIu32 " more findings like the %u with result -%" PRIu32
                     " above are not listed",
                     more, IGVM_FINDINGS_MAX, code);
            struct igvm_finding finding = {.code = -(IgvmResult)code,
                                           .tolerated = tolerated,
                                           .more = more,
                                           .message = message};
            reporter->fn(&finding, reporter->opaque);
        }
    }
}
