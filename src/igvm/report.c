/* Findings on their way to whoever asked for them. */
#include "igvm_internal.h"

#include <stdarg.h>
#include <stdio.h>

static void report(struct igvm_reporter *reporter, const struct igvm_header *header,
                   IgvmResult code, bool tolerated, const char *fmt, va_list args)
    __attribute__((format(printf, 5, 0)));

static void report(struct igvm_reporter *reporter, const struct igvm_header *header,
                   IgvmResult code, bool tolerated, const char *fmt, va_list args)
{
    if (!tolerated && reporter->first == IGVMAPI_OK)
        reporter->first = code;
    if (!reporter->fn)
        return;
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
