/* Faults and forged exits, as the command line asks for them. */
#ifndef HUSK_SIM_FAULTS_H
#define HUSK_SIM_FAULTS_H

#include "base/error.h"
#include "sim/proto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The calls that can be made to fail. */
enum sim_call {
    SIM_CALL_OPEN_KVM,
    SIM_CALL_OPEN_SEV,
    SIM_CALL_CREATE_VM,
    SIM_CALL_ENABLE_CAP,
    SIM_CALL_CREATE_VCPU,
    SIM_CALL_CREATE_MEMFD,
    SIM_CALL_REGION,
    SIM_CALL_ATTRIBUTES,
    SIM_CALL_INIT2,
    SIM_CALL_START,
    SIM_CALL_UPDATE,
    SIM_CALL_FINISH,
    SIM_CALL_ENABLE_CERTS,
    SIM_CALL_VCPU_SET,
    SIM_CALL_PRE_FAULT,
    SIM_CALL_RUN,
    SIM_CALL_FALLOCATE,
    SIM_CALL_SEV_ISSUE,
    SIM_CALL_COUNT
};

/** sim_call_name() - "launch-update" and its like. */
const char *sim_call_name(enum sim_call call);

struct sim_fault {
    enum sim_call call;
    uint32_t vm;    /* 1 for the first SNP VM made, 0 for any */
    uint32_t at;    /* the first call that fails, from 1 */
    uint32_t times; /* how many calls fail; 0: all from then on */
    int error;      /* errno, positive; 0 if the call only gets less done */
    uint32_t fw;    /* status of the firmware, with error EIO */
    bool has_fw;
    bool partial; /* LAUNCH_UPDATE stops after short_pages */
    uint64_t short_pages;
    uint32_t seen; /* matching calls so far */
};

struct sim_forged_exit {
    struct sim_exit exit;
    const char *kind;
    uint32_t vm;
    uint32_t vcpu; /* its id */
    uint32_t at;   /* the KVM_RUN that ends this way, from 1 */
    bool done;
};

#define SIM_SPECS_MAX 64u

struct sim_faults {
    struct sim_fault faults[SIM_SPECS_MAX];
    size_t faults_len;
    struct sim_forged_exit exits[SIM_SPECS_MAX];
    size_t exits_len;
};

/**
 * sim_faults_add() - one --fault: CALL,at=N,times=N,vm=N and an effect: errno=NAME, fw=N, short=PAGES or signal.
 *
 * Return: 0 or -EINVAL with @err filled.
 */
int sim_faults_add(struct sim_faults *faults, const char *spec, struct error *err);

/** sim_faults_add_exit() - one --exit: KIND,vcpu=N,at=N,vm=N and the values of the kind. Returns 0 or -EINVAL. */
int sim_faults_add_exit(struct sim_faults *faults, const char *spec, struct error *err);

/** sim_faults_match() - count this call; the fault that is due now, or NULL. @vm: as in struct sim_fault. */
const struct sim_fault *sim_faults_match(struct sim_faults *faults, enum sim_call call,
                                         uint32_t vm);

/** sim_faults_match_exit() - the exit that KVM_RUN number @run (from 1) of this vCPU ends with, or NULL. */
struct sim_forged_exit *sim_faults_match_exit(struct sim_faults *faults, uint32_t vm, uint32_t vcpu,
                                              uint32_t run);

#endif
