/*
 * KVM_SEV_SNP_LAUNCH_UPDATE: what stands against a page, how far a call gets, and the digest.
 *
 * One call of the VMM is several messages: the first says how many pages are wanted, then their contents come through the
 * window, the last one gives the result. None of them takes long, whatever a client asks for.
 */
#include "sim/model.h"

#include "base/bytes.h"

#include <errno.h>
#include <time.h>

/** first_part() - how many of @pages this call takes when calls are cut into parts (--parts). */
static uint64_t first_part(const struct model *model, struct vm *vm, uint64_t gfn, uint64_t pages)
{
    if (!model->parts || pages < 2)
        return pages;
    if (vm->parts_next != gfn || vm->parts_left < 2)
        vm->parts_left = model->parts;
    else
        vm->parts_left--;
    uint64_t now = pages / vm->parts_left;
    vm->parts_next = gfn + MAX(now, 1);
    return MAX(now, 1);
}

/** check_params() - snp_launch_update()'s own demands. Returns 0 or -errno. */
static int check_params(struct call *call, struct vm *vm, const struct abi_snp_update *p)
{
    enum sim_kernel kernel = call->model->kernel;
    if ((!p->len && kernel >= SIM_KERNEL_7_0) || !is_aligned(p->len, PAGE_BYTES))
        return model_broken(call, RULE_UPDATE_LENGTH, vm, -EINVAL, "length 0x%llx",
                            (unsigned long long)p->len);
    if (p->flags)
        return model_broken(call, RULE_UPDATE_FLAGS, vm, -EINVAL, "flags 0x%x", p->flags);
    if (p->type != ABI_PAGE_NORMAL && p->type != ABI_PAGE_ZERO && p->type != ABI_PAGE_UNMEASURED &&
        p->type != ABI_PAGE_SECRETS && p->type != ABI_PAGE_CPUID)
        return model_broken(call, RULE_UPDATE_TYPE, vm, -EINVAL, "type %u", p->type);
    if (p->type == ABI_PAGE_ZERO || is_aligned(p->uaddr, PAGE_BYTES))
        return 0;
    if (kernel >= SIM_KERNEL_7_0)
        return model_broken(call, RULE_UPDATE_ALIGNED, vm, -EINVAL, "source 0x%llx",
                            (unsigned long long)p->uaddr);
    return model_broken(call, RULE_UPDATE_UNALIGNED, vm, 0, "the source is 0x%llx into a page",
                        (unsigned long long)(p->uaddr % PAGE_BYTES));
}

/** good_pages() - how many pages from gfn_start on are private and not imported yet; *rule: what is wrong with the next. */
static uint64_t good_pages(const struct vm *vm, const struct slot *slot, uint64_t gfn,
                           uint64_t pages, enum rule_id *rule)
{
    uint64_t good = 0;
    *rule = RULE_COUNT;
    while (good < pages) {
        uint64_t index = gfn + good - slot->gpa / PAGE_BYTES + slot->memfd_offset / PAGE_BYTES;
        uint64_t imported_end;
        uint64_t private_end;
        bool imported = rangemap_get(&slot->memfd->imported, index, &imported_end);
        bool private = rangemap_get(&vm->attributes, gfn + good, &private_end);
        if (imported || !private) {
            *rule = imported ? RULE_UPDATE_TWICE : RULE_UPDATE_PRIVATE;
            break;
        }
        good += MIN(imported_end - index, private_end - (gfn + good));
    }
    return MIN(good, pages);
}

static const char *type_name(uint8_t type)
{
    static const char *const names[] = {"", "NORMAL", "", "ZERO", "UNMEASURED", "SECRETS", "CPUID"};
    return names[type];
}

/** import_page() - the firmware's part: one more page in the digest. @page: its contents, NULL for a ZERO page. */
static int import_page(struct call *call, struct vm *vm, const struct slot *slot, uint64_t gfn,
                       uint8_t *page)
{
    struct update *update = &vm->update;
    uint8_t type = update->params.type;
    uint8_t contents[CRYPTO_DIGEST];
    if (type == ABI_PAGE_CPUID && !model_check_cpuid(call, vm, page)) {
        update->write_back = true;
        update->fw = ABI_FW_INVALID_PARAM;
        return -EIO;
    }
    if (type == ABI_PAGE_NORMAL && sim_crypto_sha384(page, PAGE_BYTES, contents))
        return -ENOMEM;
    if (sim_crypto_launch_extend(vm->digest, type == ABI_PAGE_NORMAL ? contents : NULL, type,
                                 gfn * PAGE_BYTES))
        return -ENOMEM;
    if (type == ABI_PAGE_SECRETS && vm->pages[type] == 1)
        model_broken(call, RULE_SECRETS_ONCE, vm, 0, "a second one at gfn 0x%llx",
                     (unsigned long long)gfn);
    if (type == ABI_PAGE_CPUID && vm->pages[type] == 1)
        model_broken(call, RULE_CPUID_ONCE, vm, 0, "a second one at gfn 0x%llx",
                     (unsigned long long)gfn);
    vm->pages[type]++;
    uint64_t index = gfn - slot->gpa / PAGE_BYTES + slot->memfd_offset / PAGE_BYTES;
    int r = rangemap_set(&slot->memfd->imported, index, index + 1, 1);
    if (!r)
        r = rangemap_set(&vm->left, gfn, gfn + 1, 0);
    return r;
}

/** make_secrets() - what the firmware puts into a SECRETS page; the keys are plainly not real ones. */
static void make_secrets(uint8_t *page)
{
    static const char key[] = "HUSK SIM: NOT A SECRET KEY......";
    memset(page, 0, PAGE_BYTES);
    store_le32(page, 3); /* version of the layout, SNP ABI 8.17.2.5 */
    for (size_t i = 0; i < 4; i++) {
        memcpy(page + 0x20 + 32 * i, key, 32);
        page[0x20 + 32 * i + 31] = (uint8_t)('0' + i);
    }
}

/** apply_fault() - how a fault changes a call that would have taken *pages. Returns 0 or -errno. */
static int apply_fault(struct call *call, struct vm *vm, uint64_t *pages, uint32_t *fw)
{
    const struct sim_fault *fault =
        sim_faults_match(&call->model->faults, SIM_CALL_UPDATE, vm->number);
    if (!fault)
        return 0;
    call->model->report.faults++;
    report_line(&call->model->report, "injected vm=%u launch-update", vm->number);
    if (fault->partial && fault->short_pages) {
        *pages = MIN(*pages, fault->short_pages);
        return 0;
    }
    if (fault->has_fw)
        *fw = fault->fw;
    /* kvm_gmem_populate() knows a pending signal, snp_launch_update() makes EIO of every failure. */
    return fault->error == EINTR || !fault->error ? -EIO : -fault->error;
}

/** begin() - the checks of a call; sets up vm->update. Returns 0 or -errno, *fw the firmware's status. */
static int begin(struct call *call, struct vm *vm, uint32_t *fw)
{
    struct abi_snp_update p;
    if (!vm->initialised)
        return model_broken(call, RULE_INIT2_MISSING, vm, -EINVAL, "LAUNCH_UPDATE");
    if (!vm->started)
        return model_broken(call, RULE_UPDATE_CONTEXT, vm, -EINVAL, "LAUNCH_UPDATE");
    if (call->payload_len < sizeof(p))
        return -EFAULT;
    memcpy(&p, call->in->payload, sizeof(p));
    report_line(&call->model->report, "vm=%u LAUNCH_UPDATE type %u gfn 0x%llx length 0x%llx",
                vm->number, p.type, (unsigned long long)p.gfn_start, (unsigned long long)p.len);
    int r = check_params(call, vm, &p);
    if (r)
        return r;
    struct slot *slot =
        p.gfn_start < UINT64_MAX / PAGE_BYTES ? model_slot_at(vm, p.gfn_start * PAGE_BYTES) : NULL;
    if (!slot || !(slot->flags & ABI_MEM_GUEST_MEMFD))
        return model_broken(call, RULE_UPDATE_SLOT, vm, -EINVAL, "gfn 0x%llx",
                            (unsigned long long)p.gfn_start);
    *fw = 0;
    if (!slot->memfd)
        return model_broken(call, RULE_UPDATE_MEMFD_OPEN, vm, -EIO, "gfn 0x%llx",
                            (unsigned long long)p.gfn_start);
    uint64_t pages = p.len / PAGE_BYTES;
    uint64_t in_slot = (slot->gpa + slot->size) / PAGE_BYTES - p.gfn_start;
    if (pages > in_slot)
        model_broken(call, RULE_UPDATE_CROSSES, vm, 0,
                     "gfn 0x%llx, %llu pages, the slot has %llu more",
                     (unsigned long long)p.gfn_start, (unsigned long long)pages,
                     (unsigned long long)in_slot);
    pages = first_part(call->model, vm, p.gfn_start, MIN(pages, in_slot));
    r = apply_fault(call, vm, &pages, fw);
    if (r)
        return r;
    enum rule_id rule;
    uint64_t good = good_pages(vm, slot, p.gfn_start, pages, &rule);
    if (!good && pages)
        return model_broken(call, rule, vm, -EIO, "gfn 0x%llx, type %s",
                            (unsigned long long)p.gfn_start, type_name(p.type));
    if (!model_object(call->model, (uint32_t)call->in->head.arg[1], SIM_KIND_SEV))
        return model_broken(call, RULE_SEV_FD, vm, -EIO, "LAUNCH_UPDATE");
    if (vm->measured && pages) {
        *fw = ABI_FW_INVALID_GUEST_STATE;
        return model_broken(call, RULE_UPDATE_FINISHED, vm, -EIO, "gfn 0x%llx",
                            (unsigned long long)p.gfn_start);
    }
    vm->update = (struct update){.active = true, .params = p, .wanted = good};
    call->out->head.value[2] = good;
    return 0;
}

int model_update_begin(struct call *call)
{
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    vm->update = (struct update){0};
    uint32_t fw = UINT32_MAX;
    r = begin(call, vm, &fw);
    if (r)
        vm->update.active = false;
    const struct slot *slot =
        vm->update.active ? model_slot_at(vm, vm->update.params.gfn_start * PAGE_BYTES) : NULL;
    if (slot && slot->memfd_hva)
        call->out->head.value[3] = slot->memfd_hva + slot->memfd_offset +
                                   (vm->update.params.gfn_start * PAGE_BYTES - slot->gpa);
    call->out->head.value[0] = fw == UINT32_MAX ? 0 : fw;
    call->out->head.value[1] = fw != UINT32_MAX;
    return r;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int model_pages(struct call *call)
{
    const uint64_t *arg = call->in->head.arg;
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    struct update *update = &vm->update;
    const struct slot *slot =
        update->active ? model_slot_at(vm, update->params.gfn_start * PAGE_BYTES) : NULL;
    bool zero = update->params.type == ABI_PAGE_ZERO;
    if (!slot || !slot->memfd || !call->client->window || arg[0] >= SIM_WINDOW_HALVES ||
        arg[1] > (zero ? SIM_ZERO_PAGES : SIM_WINDOW_HALF_PAGES) ||
        arg[1] > update->wanted - update->done)
        return -EINVAL;
    uint8_t *half = call->client->window + arg[0] * SIM_WINDOW_HALF;
    uint64_t before = update->done;
    uint64_t began = now_ns();
    for (uint64_t i = 0; i < arg[1] && !update->fw; i++) {
        uint8_t *page = zero ? NULL : half + i * PAGE_BYTES;
        r = import_page(call, vm, slot, update->params.gfn_start + update->done, page);
        if (r) {
            update->corrected = arg[0] * SIM_WINDOW_HALF_PAGES + i;
            break;
        }
        if (update->params.type == ABI_PAGE_SECRETS)
            make_secrets(page);
        update->done++;
    }
    vm->hashing_ns += now_ns() - began;
    if (arg[2])
        update->source_failed = true;
    return r && r != -EIO ? r : (int)(update->done - before);
}

int model_update_end(struct call *call)
{
    int r;
    struct vm *vm = model_vm(call, &r);
    if (!vm)
        return r;
    struct update *update = &vm->update;
    if (!update->active)
        return -EINVAL;
    update->active = false;
    struct abi_snp_update *p = &update->params;
    call->out->head.value[0] = update->done ? 0 : update->fw;
    call->out->head.value[1] = !update->done;
    call->out->head.value[2] = update->write_back;
    call->out->head.value[3] = update->corrected;
    call->out->head.value[4] = p->uaddr + update->done * PAGE_BYTES;
    if (!update->done && update->wanted)
        return update->source_failed ? model_broken(call, RULE_UPDATE_SOURCE, vm, -EIO,
                                                    "source 0x%llx", (unsigned long long)p->uaddr)
                                     : -EIO;
    uint64_t pages = p->len / PAGE_BYTES;
    if (update->done < pages)
        rangemap_set(&vm->left, p->gfn_start + update->done, p->gfn_start + pages, 1);
    struct sim_update_end end = {
        .gfn_start = p->gfn_start + update->done,
        .uaddr = p->uaddr + (p->type == ABI_PAGE_ZERO ? 0 : update->done * PAGE_BYTES),
        .len = p->len - update->done * PAGE_BYTES};
    memcpy(call->out->payload, &end, sizeof(end));
    call->out_len = sizeof(end);
    return 0;
}
