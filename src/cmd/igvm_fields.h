/* The fields of each header type, for those who show them. */
#ifndef HUSK_CMD_IGVM_FIELDS_H
#define HUSK_CMD_IGVM_FIELDS_H

#include "igvm/igvm.h"

#include <stddef.h>
#include <stdint.h>

struct igvm_field {
    const char *name;
    uint16_t at;    /* in the header's value */
    uint16_t width; /* bytes; over 8: shown as a string of hexadecimal digits */
};

/** igvm_fields() - those of @type, in order; *n is 0 for an unknown type. */
const struct igvm_field *igvm_fields(uint32_t type, size_t *n);

/** igvm_field_value() - a field of up to 8 bytes. */
uint64_t igvm_field_value(const struct igvm_header *header, const struct igvm_field *field);

#endif
