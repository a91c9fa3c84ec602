/* The rules as data: what is checked, where it is written, and how bad breaking it is. */
#ifndef HUSK_SIM_RULES_H
#define HUSK_SIM_RULES_H

#include <stddef.h>

enum rule_severity {
    RULE_ERROR, /* the kernel, the firmware or the processor refuses it, or the guest cannot live with it */
    RULE_WARNING, /* the kernel lets it pass; husk's own rule */
};

/* enum rule_id: RULE_ and the first word of each line in rules.def. */
enum rule_id {
#define RULE(id, name, severity, text, source) RULE_##id,
#include "sim/rules.def"
#undef RULE
    RULE_COUNT
};

struct rule {
    const char *name;
    enum rule_severity severity;
    const char *text;
    const char *
        source; /* kernel file and function of Linux 6.12 unless it says otherwise, or section of a specification */
};

extern const struct rule rule_table[RULE_COUNT];

#endif
