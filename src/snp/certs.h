/*
 * The table of certificates that a host hands to a guest beside its attestation report (GHCB specification, 4.1.8.1): entries
 * of GUID, offset and length, closed by one of zeros, and the certificates behind them.
 */
#ifndef HUSK_SNP_CERTS_H
#define HUSK_SNP_CERTS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define SNP_CERTS_MAX (1u << 20) /* bytes; that of a VCEK with its chain has some 6 KiB */

/** snp_certs_check() - that @len bytes are such a table, whose certificates lie in it. Returns 0 or -EINVAL. */
int snp_certs_check(const uint8_t *table, size_t len, struct error *err);

#endif
