/* NAME,key=value,... : what to break, when, and how. */
#include "sim/faults.h"

#include "base/bytes.h"
#include "sim/abi.h"

#include <errno.h>
#include <stdlib.h>

static const char *const call_names[SIM_CALL_COUNT] = {
    [SIM_CALL_OPEN_KVM] = "open-kvm",
    [SIM_CALL_OPEN_SEV] = "open-sev",
    [SIM_CALL_CREATE_VM] = "create-vm",
    [SIM_CALL_ENABLE_CAP] = "enable-cap",
    [SIM_CALL_CREATE_VCPU] = "create-vcpu",
    [SIM_CALL_CREATE_MEMFD] = "create-guest-memfd",
    [SIM_CALL_REGION] = "set-region",
    [SIM_CALL_ATTRIBUTES] = "set-attributes",
    [SIM_CALL_INIT2] = "init2",
    [SIM_CALL_START] = "launch-start",
    [SIM_CALL_UPDATE] = "launch-update",
    [SIM_CALL_FINISH] = "launch-finish",
    [SIM_CALL_ENABLE_CERTS] = "enable-req-certs",
    [SIM_CALL_VCPU_SET] = "set-registers",
    [SIM_CALL_PRE_FAULT] = "pre-fault",
    [SIM_CALL_RUN] = "run",
    [SIM_CALL_FALLOCATE] = "fallocate",
    [SIM_CALL_SEV_ISSUE] = "sev-command",
};

const char *sim_call_name(enum sim_call call)
{
    return call_names[call];
}

/* The values that an exit's keys can have. */
struct exit_values {
    uint64_t gpa;
    uint64_t npages;
    uint64_t attrs;
    uint64_t size;
    uint64_t flags;
    uint64_t data;
    uint64_t reason;
    uint64_t set;
    uint64_t cpu;
    int error;
};

static int parse_number(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno || end == text || *end || text[0] == '-' ? -EINVAL : 0;
}

static int parse_errno(const char *text, int *error)
{
    for (int e = 1; e < 134; e++) {
        const char *name = strerrorname_np(e);
        if (name && strcmp(name, text) == 0) {
            *error = e;
            return 0;
        }
    }
    return -EINVAL;
}

/** next_word() - cut the next part off *rest, up to a comma; NULL at the end. *value: behind its '=', or NULL. */
static const char *next_word(char **rest, const char **value)
{
    char *word = strsep(rest, ",");
    if (!word)
        return NULL;
    char *equals = strchr(word, '=');
    *value = NULL;
    if (equals) {
        *equals = '\0';
        *value = equals + 1;
    }
    return word;
}

static int bad_word(struct error *err, const char *option, const char *spec, const char *word)
{
    return error_set(err, -EINVAL, "%s %s: '%s' is not known there or has no such value", option,
                     spec, word);
}

static int parse_u32(const char *value, uint32_t *number)
{
    uint64_t wide;
    if (!value || parse_number(value, &wide) || wide > UINT32_MAX)
        return -EINVAL;
    *number = (uint32_t)wide;
    return 0;
}

static int fault_key(struct sim_fault *fault, const char *key, const char *value)
{
    if (strcmp(key, "at") == 0)
        return parse_u32(value, &fault->at) || !fault->at ? -EINVAL : 0;
    if (strcmp(key, "times") == 0)
        return parse_u32(value, &fault->times);
    if (strcmp(key, "vm") == 0)
        return parse_u32(value, &fault->vm);
    if (strcmp(key, "errno") == 0)
        return value ? parse_errno(value, &fault->error) : -EINVAL;
    if (strcmp(key, "fw") == 0) {
        fault->has_fw = true;
        return parse_u32(value, &fault->fw);
    }
    if (strcmp(key, "short") == 0) {
        fault->partial = true;
        return value ? parse_number(value, &fault->short_pages) : -EINVAL;
    }
    if (strcmp(key, "signal") == 0 && !value) {
        fault->error = EINTR;
        return 0;
    }
    return -EINVAL;
}

static int complete_fault(struct sim_fault *fault, const char *spec, struct error *err)
{
    if (fault->has_fw && !fault->error)
        fault->error = EIO;
    if (!fault->error && !fault->partial)
        return error_set(err, -EINVAL,
                         "--fault %s: say how it fails: errno=NAME, fw=N, short=PAGES or signal",
                         spec);
    if (fault->partial && fault->call != SIM_CALL_UPDATE)
        return error_set(err, -EINVAL, "--fault %s: only launch-update can get less done", spec);
    if (fault->has_fw && (fault->call < SIM_CALL_INIT2 || fault->call > SIM_CALL_ENABLE_CERTS) &&
        fault->call != SIM_CALL_SEV_ISSUE)
        return error_set(err, -EINVAL, "--fault %s: this call does not reach the firmware", spec);
    return 0;
}

int sim_faults_add(struct sim_faults *faults, const char *spec, struct error *err)
{
    char text[256];
    if (strlen(spec) >= sizeof(text) || faults->faults_len == SIM_SPECS_MAX)
        return error_set(err, -EINVAL, "--fault %.40s: too long, or too many of them", spec);
    memcpy(text, spec, strlen(spec) + 1);
    char *rest = text;
    const char *value = NULL;
    const char *word = next_word(&rest, &value);
    struct sim_fault fault = {.call = SIM_CALL_COUNT, .at = 1, .times = 1};
    for (size_t i = 0; i < SIM_CALL_COUNT; i++) {
        if (word && !value && strcmp(word, call_names[i]) == 0)
            fault.call = (enum sim_call)i;
    }
    if (fault.call == SIM_CALL_COUNT)
        return bad_word(err, "--fault", spec, word);
    while ((word = next_word(&rest, &value))) {
        if (fault_key(&fault, word, value))
            return bad_word(err, "--fault", spec, word);
    }
    int r = complete_fault(&fault, spec, err);
    if (r)
        return r;
    faults->faults[faults->faults_len++] = fault;
    return 0;
}

static int exit_key(struct sim_forged_exit *forged, struct exit_values *values, const char *key,
                    const char *value)
{
    const struct {
        const char *key;
        uint64_t *number;
    } numbers[] = {
        {"gpa", &values->gpa},   {"npages", &values->npages}, {"attrs", &values->attrs},
        {"size", &values->size}, {"flags", &values->flags},   {"data", &values->data},
        {"cpu", &values->cpu},   {"reason", &values->reason}, {"set", &values->set},
    };
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        if (strcmp(key, numbers[i].key) == 0)
            return value ? parse_number(value, numbers[i].number) : -EINVAL;
    }
    if (strcmp(key, "vcpu") == 0)
        return parse_u32(value, &forged->vcpu);
    if (strcmp(key, "vm") == 0)
        return parse_u32(value, &forged->vm);
    if (strcmp(key, "at") == 0)
        return parse_u32(value, &forged->at) || !forged->at ? -EINVAL : 0;
    if (strcmp(key, "errno") == 0)
        return value ? parse_errno(value, &values->error) : -EINVAL;
    return -EINVAL;
}

static void put64(struct sim_exit *exit, size_t index, uint64_t value)
{
    store_le64(exit->data + 8 * index, value);
}

/* Each of these fills the union of struct kvm_run (uapi linux/kvm.h) for its exit. */
static void make_map_gpa_range(struct sim_exit *exit, const struct exit_values *v)
{
    exit->exit_reason = ABI_EXIT_HYPERCALL;
    put64(exit, 0, ABI_HC_MAP_GPA_RANGE);
    put64(exit, 1, v->gpa);
    put64(exit, 2, v->npages);
    put64(exit, 3, v->attrs);
}

static void make_memory_fault(struct sim_exit *exit, const struct exit_values *v)
{
    exit->exit_reason = ABI_EXIT_MEMORY_FAULT;
    exit->result = -(v->error ? v->error : EFAULT);
    put64(exit, 0, v->flags);
    put64(exit, 1, v->gpa);
    put64(exit, 2, v->size ? v->size : SIM_PAGE);
}

static void make_sev_term(struct sim_exit *exit, const struct exit_values *v)
{
    /* GHCB specification, termination request: 0x100, reason set in bits 15:12, reason in 23:16. */
    exit->exit_reason = ABI_EXIT_SYSTEM_EVENT;
    store_le32(exit->data, ABI_SYSTEM_EVENT_SEV_TERM);
    store_le32(exit->data + 4, 1);
    put64(exit, 1, v->data ? v->data : 0x100 | (v->set & 0xf) << 12 | (v->reason & 0xff) << 16);
}

static void make_req_certs(struct sim_exit *exit, const struct exit_values *v)
{
    exit->exit_reason = ABI_EXIT_SNP_REQ_CERTS;
    put64(exit, 0, v->gpa);
    put64(exit, 1, v->npages);
}

static void make_fail_entry(struct sim_exit *exit, const struct exit_values *v)
{
    exit->exit_reason = ABI_EXIT_FAIL_ENTRY;
    put64(exit, 0, v->reason ? v->reason : UINT64_MAX); /* VMEXIT_INVALID */
    store_le32(exit->data + 8, (uint32_t)v->cpu);
}

static void make_internal_error(struct sim_exit *exit, const struct exit_values *v)
{
    exit->exit_reason = ABI_EXIT_INTERNAL_ERROR;
    store_le32(exit->data, (uint32_t)(v->reason ? v->reason : 1));
}

static void make_shutdown(struct sim_exit *exit, const struct exit_values *v)
{
    (void)v;
    exit->exit_reason = ABI_EXIT_SHUTDOWN;
}

static void make_errno(struct sim_exit *exit, const struct exit_values *v)
{
    exit->keep = 1;
    exit->result = -(v->error ? v->error : EINTR);
}

static const struct {
    const char *kind;
    void (*make)(struct sim_exit *exit, const struct exit_values *values);
} exit_kinds[] = {
    {"map-gpa-range", make_map_gpa_range},
    {"memory-fault", make_memory_fault},
    {"sev-term", make_sev_term},
    {"snp-req-certs", make_req_certs},
    {"fail-entry", make_fail_entry},
    {"shutdown", make_shutdown},
    {"internal-error", make_internal_error},
    {"errno", make_errno},
};

int sim_faults_add_exit(struct sim_faults *faults, const char *spec, struct error *err)
{
    char text[256];
    if (strlen(spec) >= sizeof(text) || faults->exits_len == SIM_SPECS_MAX)
        return error_set(err, -EINVAL, "--exit %.40s: too long, or too many of them", spec);
    memcpy(text, spec, strlen(spec) + 1);
    char *rest = text;
    const char *value = NULL;
    const char *word = next_word(&rest, &value);
    size_t kind = 0;
    while (kind < ARRAY_SIZE(exit_kinds) &&
           (!word || value || strcmp(word, exit_kinds[kind].kind) != 0))
        kind++;
    if (kind == ARRAY_SIZE(exit_kinds))
        return bad_word(err, "--exit", spec, word);
    struct sim_forged_exit forged = {.kind = exit_kinds[kind].kind, .at = 1};
    struct exit_values values = {0};
    while ((word = next_word(&rest, &value))) {
        if (exit_key(&forged, &values, word, value))
            return bad_word(err, "--exit", spec, word);
    }
    exit_kinds[kind].make(&forged.exit, &values);
    faults->exits[faults->exits_len++] = forged;
    return 0;
}

const struct sim_fault *sim_faults_match(struct sim_faults *faults, enum sim_call call, uint32_t vm)
{
    const struct sim_fault *due = NULL;
    for (size_t i = 0; i < faults->faults_len; i++) {
        struct sim_fault *fault = &faults->faults[i];
        if (fault->call != call || (fault->vm && fault->vm != vm))
            continue;
        if (fault->seen < UINT32_MAX)
            fault->seen++;
        bool now =
            fault->seen >= fault->at && (!fault->times || fault->seen - fault->at < fault->times);
        if (now && !due)
            due = fault;
    }
    return due;
}

struct sim_forged_exit *sim_faults_match_exit(struct sim_faults *faults, uint32_t vm, uint32_t vcpu,
                                              uint32_t run)
{
    for (size_t i = 0; i < faults->exits_len; i++) {
        struct sim_forged_exit *forged = &faults->exits[i];
        if (!forged->done && forged->vcpu == vcpu && forged->at == run &&
            (!forged->vm || forged->vm == vm))
            return forged;
    }
    return NULL;
}
