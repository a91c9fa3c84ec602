/*
 * The launch plan: everything that goes into a guest before its first instruction, as one value. Pure functions make
 * it (from a kernel, a firmware image, an IGVM file), sinks consume it (guest memory and KVM, the launch digest, the
 * secure processor). No sink changes the order of the runs.
 */
#ifndef HUSK_LAUNCH_PLAN_H
#define HUSK_LAUNCH_PLAN_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a run is for. Values are husk's; the SNP sink maps them to the firmware's page types. */
enum plan_page_type {
    PLAN_PAGE_NORMAL,     /* contents are loaded and measured */
    PLAN_PAGE_ZERO,       /* zero pages, measured as such */
    PLAN_PAGE_UNMEASURED, /* contents are loaded, only the place is measured */
    PLAN_PAGE_SECRETS,    /* filled by the secure processor */
    PLAN_PAGE_CPUID,      /* filled by the sink, checked by the secure processor */
};

enum plan_source_kind {
    PLAN_SOURCE_NONE,  /* no bytes: zero, or a placeholder that the sink fills */
    PLAN_SOURCE_BYTES, /* bytes that the plan owns */
    PLAN_SOURCE_FILE,  /* a range of a file, read when the sink needs it */
};

struct plan_run {
    uint64_t gpa; /* page-aligned */
    uint64_t len; /* bytes that have contents; the rest of the last page is zero */
    enum plan_page_type type;
    bool shared; /* written to shared RAM, not imported */
    const char
        *origin; /* what asked for it ("kernel", "ACPI tables"); a string that outlives the plan */
    uint32_t directive;      /* number of the first IGVM header that asked for it, 0 if none did */
    uint32_t directive_type; /* IGVM_VHT_* of it */
    uint32_t header_bytes;   /* that each header from directive on asked for; 0: it asked for all */
    enum plan_source_kind source;
    union {
        uint8_t *bytes; /* owned by the plan */
        struct {
            unsigned file;   /* index into plan->files */
            uint64_t offset; /* of the first byte */
        } range;
    };
};

/* A file that runs take their bytes from. */
struct plan_file {
    int fd;        /* owned by the plan */
    uint64_t size; /* bytes, when it was opened */
    char *path;    /* for messages */
};

struct plan_segment {
    uint64_t base;
    uint32_t limit; /* bytes - 1, not scaled */
    uint16_t selector;
    uint16_t attributes; /* VMCB form: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11 */
};

/* The state a vCPU starts in. */
struct plan_vcpu {
    uint32_t index;
    bool waits_for_sipi; /* no state of its own: started by the boot processor */
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    uint64_t cr0, cr3, cr4, efer, xcr0, pat, dr6, dr7;
    uint32_t mxcsr;
    uint16_t fcw;
    struct plan_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
};

/* What isolates the guest. */
enum plan_platform { PLAN_NATIVE, PLAN_SEV, PLAN_SEV_ES, PLAN_SEV_SNP };

/* A VMSA as a file has it, for those who measure it at its place among the runs. */
struct plan_vmsa {
    uint32_t vcpu;
    uint32_t directive; /* number of the IGVM header */
    size_t position;    /* how many runs come before it */
    uint64_t gpa;
    unsigned file;   /* index into plan->files */
    uint64_t offset; /* of its 4096 bytes in that file */
};

/* What the loader has to write into a run once it knows the machine: an IGVM parameter. */
struct plan_parameter {
    size_t run;         /* index of the run that the parameter area became */
    uint32_t type;      /* IGVM_VHT_*: memory map, VP count, ... */
    uint32_t offset;    /* in that run */
    uint32_t directive; /* number of the IGVM header */
};

/* Memory that has to be there, or that the guest reports errors in (shared). */
struct plan_range {
    uint64_t gpa, len;
    bool shared;
    uint32_t directive; /* number of the IGVM header */
    uint32_t directive_type;
};

struct plan {
    struct plan_run *runs;
    size_t n_runs, cap_runs;
    struct plan_file *files;
    size_t n_files;
    struct plan_vcpu *vcpus;
    size_t n_vcpus;

    enum plan_platform platform;
    uint64_t policy;        /* guest policy of SEV-SNP */
    uint64_t vmsa_features; /* SEV_FEATURES, SNP_ACTIVE included */
    uint8_t *id_block;      /* 96 bytes, NULL for none; owned by the plan */
    uint8_t *id_auth;       /* 4096 bytes, with id_block */
    bool author_key;        /* id_auth has one */
    struct plan_vmsa *vmsas;
    size_t n_vmsas;
    struct plan_parameter *parameters;
    size_t n_parameters;
    struct plan_range *ranges;
    size_t n_ranges;
};

#define PLAN_INIT ((struct plan){0})

/** plan_release() - close the files and free everything. */
void plan_release(struct plan *plan);

/** plan_add_file() - take @fd (owned by the plan from now on, also on failure). Returns its index or -errno. */
int plan_add_file(struct plan *plan, int fd, uint64_t size, const char *path, struct error *err);

/** plan_run_directive() - number of the IGVM header that asked for the byte at @offset of @run; 0 if none did. */
static inline uint32_t plan_run_directive(const struct plan_run *run, uint64_t offset)
{
    return run->directive + (run->header_bytes ? (uint32_t)(offset / run->header_bytes) : 0);
}

/** plan_take_runs() - move all runs of @from to the end of @plan, whose files they refer to. Returns 0 or -ENOMEM. */
int plan_take_runs(struct plan *plan, struct plan *from, struct error *err);

/** plan_run_take_bytes() - @run's contents are its length of @bytes from now on, which the plan frees. */
void plan_run_take_bytes(struct plan_run *run, uint8_t *bytes);

/** plan_add_bytes() - a run of @len bytes copied from @bytes; type PLAN_PAGE_NORMAL.
 * @gpa: page-aligned guest physical address.
 *
 * Return: 0; -EINVAL if @gpa is not page-aligned or the range wraps; -ENOMEM.
 */
int plan_add_bytes(struct plan *plan, uint64_t gpa, const void *bytes, uint64_t len,
                   const char *origin, struct error *err);

/** plan_add_file_range() - a run of @len bytes from @offset of file @file; the range must lie in the file. */
int plan_add_file_range(struct plan *plan, uint64_t gpa, unsigned file, uint64_t offset,
                        uint64_t len, const char *origin, struct error *err);

/** plan_add_pages() - a run of @len bytes, whole pages, without contents of its own.
 *
 * Return: the run, for callers to set what else it has; it may move when another is added. NULL with @err filled.
 */
struct plan_run *plan_add_pages(struct plan *plan, uint64_t gpa, uint64_t len,
                                enum plan_page_type type, const char *origin, struct error *err);

/** plan_add_vmsa() - a VMSA behind the runs so far. */
int plan_add_vmsa(struct plan *plan, const struct plan_vmsa *vmsa, struct error *err);

/** plan_add_parameter() - append @parameter. */
int plan_add_parameter(struct plan *plan, const struct plan_parameter *parameter,
                       struct error *err);

/** plan_add_range() - append @range. */
int plan_add_range(struct plan *plan, const struct plan_range *range, struct error *err);

/** plan_set_id_block() - copy both (96 and 4096 bytes) into the plan. */
int plan_set_id_block(struct plan *plan, const void *id_block, const void *id_auth, bool author_key,
                      struct error *err);

/** plan_vcpu_reset() - what a processor holds after reset (AMD APM volume 2, 14.1.3), for callers to change.
 * General registers, segments and control registers are 0 but for RFLAGS, XCR0, PAT, DR6, DR7, FCW and MXCSR.
 */
void plan_vcpu_reset(struct plan_vcpu *vcpu, uint32_t index);

/** plan_add_vcpu() - append @vcpu. */
int plan_add_vcpu(struct plan *plan, const struct plan_vcpu *vcpu, struct error *err);

/** plan_read() - the @len bytes at @gpa as the guest finds them when it starts; zero where nothing is loaded.
 * @gpa: @gpa + @len must not wrap.
 *
 * Return: 0, or -errno if a file cannot be read.
 */
int plan_read(const struct plan *plan, uint64_t gpa, void *to, uint64_t len, struct error *err);

/** plan_check() - no two runs may share a page, and every run must end at or below @limit.
 *
 * Return: 0, or -EINVAL naming both runs and the address.
 */
int plan_check(const struct plan *plan, uint64_t limit, struct error *err);

#endif
