#include "snp/cpu_model.h"

#include "base/bytes.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Family, model and stepping of QEMU's CPU models. Versions of one model differ in neither. */
static const struct {
    const char *name;
    uint32_t family, model, stepping;
} cpu_models[] = {
    {"EPYC", 23, 1, 2},       {"EPYC-IBPB", 23, 1, 2},   {"EPYC-Rome", 23, 49, 0},
    {"EPYC-Milan", 25, 1, 1}, {"EPYC-Genoa", 25, 17, 0}, {"EPYC-Turin", 26, 0, 0},
};

uint32_t cpu_signature(uint32_t family, uint32_t model, uint32_t stepping)
{
    uint32_t base = MIN(family, 15u), extended = family > 15 ? family - 15 : 0;
    return extended << 20 | (model >> 4 & 15) << 16 | base << 8 | (model & 15) << 4 | stepping;
}

int cpu_signature_parse(const char *text, uint32_t *signature, struct error *err)
{
    static const unsigned long limits[] = {15 + 255, 255, 15};
    uint32_t parts[3];
    const char *p = text;
    for (int i = 0; i < 3; i++) {
        char *end = NULL;
        unsigned long value = 0;
        errno = 0;
        if (isdigit((unsigned char)*p))
            value = strtoul(p, &end, p[0] == '0' && tolower((unsigned char)p[1]) == 'x' ? 16 : 10);
        if (!end || errno || value > limits[i] || *end != (i < 2 ? ',' : '\0'))
            return error_set(err, -EINVAL,
                             "'%s' is not a CPU signature: family,model,stepping, as 23,1,2", text);
        parts[i] = (uint32_t)value;
        p = end + 1;
    }
    *signature = cpu_signature(parts[0], parts[1], parts[2]);
    return 0;
}

int cpu_model_signature(const char *name, uint32_t *signature, struct error *err)
{
    size_t len = strlen(name);
    size_t digits = len;
    while (digits > 0 && isdigit((unsigned char)name[digits - 1]))
        digits--;
    if (digits < len && digits > 2 && strncmp(name + digits - 2, "-v", 2) == 0)
        len = digits - 2;
    for (size_t i = 0; i < ARRAY_SIZE(cpu_models); i++)
        if (strlen(cpu_models[i].name) == len && strncasecmp(cpu_models[i].name, name, len) == 0) {
            *signature =
                cpu_signature(cpu_models[i].family, cpu_models[i].model, cpu_models[i].stepping);
            return 0;
        }
    error_set(err, -EINVAL, "CPU model '%s' is not known", name);
    return error_hint(err, "known are EPYC, EPYC-IBPB, EPYC-Rome, EPYC-Milan, EPYC-Genoa and "
                           "EPYC-Turin, also with -v1 and so on; or give --cpu-signature");
}
