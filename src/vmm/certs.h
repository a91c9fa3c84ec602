/* Certificates for SEV-SNP guests that ask for them with an attestation report (api.rst 5, KVM_EXIT_SNP_REQ_CERTS). */
#ifndef HUSK_VMM_CERTS_H
#define HUSK_VMM_CERTS_H

#include "base/error.h"
#include "memory/memory.h"

#include <stdint.h>

/**
 * certs_open() - the table of certificates at @path, which is read again for each request: whoever renews it does so in place
 * and holds an exclusive lock of open file descriptions meanwhile.
 *
 * Return: the descriptor, or -errno: -EINVAL if it is no such table.
 */
int certs_open(const char *path, struct error *err);

/**
 * certs_serve() - answer a request: write the table of @fd to guest address @gpa, where there is room for *@pages.
 * @pages: what is needed, where it is more than there is.
 *
 * The file is locked when this returns 0, until certs_served(). Return: 0, or as the kernel wants it: ENOSPC if there is too
 * little room, EAGAIN if somebody has locked the file, EIO for what else is wrong.
 */
int certs_serve(int fd, const struct guest_memory *memory, uint64_t gpa, uint64_t *pages);

/** certs_served() - the kernel has fetched the report that the certificates belong to: they may change. */
void certs_served(int fd);

#endif
