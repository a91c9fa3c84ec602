/* The table of rules. docs/simulator.md shows it, and a test compares the two. */
#include "sim/rules.h"

const struct rule rule_table[RULE_COUNT] = {
#define RULE(id, name, severity, text, source) [RULE_##id] = {name, RULE_##severity, text, source},
#include "sim/rules.def"
#undef RULE
};
