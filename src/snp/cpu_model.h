/* CPU signatures: CPUID 1 EAX, which QEMU puts into RDX at reset and so into the launch digest. */
#ifndef HUSK_SNP_CPU_MODEL_H
#define HUSK_SNP_CPU_MODEL_H

#include "base/error.h"

#include <stdint.h>

/* What KVM leaves in RDX of a vCPU that has no CPUID yet. */
#define CPU_SIGNATURE_KVM_RESET 0x600u

/** cpu_signature() - of family, model and stepping (AMD CPUID specification, function 1 EAX). */
uint32_t cpu_signature(uint32_t family, uint32_t model, uint32_t stepping);

/** cpu_signature_parse() - "23,1,2", numbers in any base C knows. 0 or -EINVAL. */
int cpu_signature_parse(const char *text, uint32_t *signature, struct error *err);

/** cpu_model_signature() - of QEMU's CPU model @name, with or without "-v2". 0, or -EINVAL naming what is known. */
int cpu_model_signature(const char *name, uint32_t *signature, struct error *err);

#endif
