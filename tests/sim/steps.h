/* What a step is, and the state that steps share. */
#ifndef HUSK_TESTS_STEPS_H
#define HUSK_TESTS_STEPS_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define STEP_KEYS 16
#define RAM_BYTES (2ull << 30)
#define MANY 128

struct step {
    char text[1024];
    const char *name;
    const char *keys[STEP_KEYS];
    size_t keys_len;
};

struct vmm {
    int argc;
    char **argv;
    int at; /* index of the step that runs */
    int kvm;
    int sev;
    int vms[MANY];
    int vms_len;
    int vcpus[MANY];
    struct kvm_run *runs[MANY];
    int vcpus_len;
    int memfds[MANY];
    int memfds_len;
    uint8_t *ram;
};

extern struct vmm vmm;

struct step_kind {
    const char *name;
    /** run() - do it. Returns what the call returned, with errno; what else came out goes to @detail as JSON. */
    long (*run)(const struct step *step, char *detail, size_t len);
};

extern const struct step_kind step_kinds[];
extern const size_t step_kinds_len;

/** number() - the value of a key, or another if the step does not have it. */
uint64_t number(const struct step *step, const char *key, uint64_t otherwise);

/** word() - the same as text; NULL if the step does not have it. */
const char *word(const struct step *step, const char *key);

/** run_step() - parse and run one step. */
long run_step(const char *text, char *detail, size_t detail_len);

/** print_result() - one line of output. */
void print_result(const char *text, long result, int error, const char *detail);

/* steps_process.c: what is about processes, threads and descriptors */
long step_close(const struct step *step, char *detail, size_t len);
long step_raw_close(const struct step *step, char *detail, size_t len);
long step_dup(const struct step *step, char *detail, size_t len);
long step_fork(const struct step *step, char *detail, size_t len);
long step_exec(const struct step *step, char *detail, size_t len);
long step_die(const struct step *step, char *detail, size_t len);
long step_seccomp(const struct step *step, char *detail, size_t len);
long step_run_all(const struct step *step, char *detail, size_t len);
long step_cloexec(const struct step *step, char *detail, size_t len);
long step_close_all(const struct step *step, char *detail, size_t len);
long step_wait(const struct step *step, char *detail, size_t len);

#endif
