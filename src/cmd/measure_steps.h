/* The pages of a measurement, kept to be shown or compared. */
#ifndef HUSK_CMD_MEASURE_STEPS_H
#define HUSK_CMD_MEASURE_STEPS_H

#include "base/buf.h"
#include "base/error.h"
#include "launch/digest_sink.h"

#include <stdio.h>

struct steps {
    struct buf records; /* struct step_record, one behind the other */
};

#define STEPS_INIT ((struct steps){0})

void steps_release(struct steps *steps);

/** steps_add() - a digest_step_fn that keeps the step in the struct steps @opaque. */
void steps_add(const struct digest_step *step, void *opaque);

/** steps_to_json() - "steps": [...] and the end of the object, to @file. Returns 0 or -ENOMEM. */
int steps_to_json(const struct steps *steps, FILE *file);

/* What a file given to --compare turned out to be. */
enum compared_kind { COMPARED_DIGEST, COMPARED_JSON, COMPARED_IGVM, COMPARED_FIRMWARE };

/**
 * steps_read() - look at the file @path: a digest in hexadecimal, what --json wrote, or something to be measured.
 * @digest, *len: the digest, for the first two kinds; the latter fills @steps too.
 *
 * Return: 0, -EINVAL, -errno.
 */
int steps_read(struct steps *steps, const char *path, uint8_t digest[SHA384_BYTES], int *len,
               enum compared_kind *kind, struct error *err);

/** steps_print_difference() - the first page in which the two differ, if both have pages. */
void steps_print_difference(const struct steps *a, const struct steps *b, FILE *out);

#endif
