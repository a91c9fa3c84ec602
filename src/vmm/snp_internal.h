/* Shared by snp.c and snp_launch.c. */
#ifndef HUSK_VMM_SNP_INTERNAL_H
#define HUSK_VMM_SNP_INTERNAL_H

#include "base/error.h"

#include <stdint.h>

/** snp_failed() - fill @err for a command of the launch: "@fmt: " errno and, where the firmware was asked, its answer, and what
 * usually helps.
 *
 * Return: @code.
 */
int snp_failed(struct error *err, int code, uint32_t status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
