/* The plan of firmware that says itself what it needs: its image, then what its SEV metadata lists. */
#include "launch/igvm_hashes.h"
#include "launch/producers.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "snp/cpu_model.h"
#include "snp/firmware.h"
#include "snp/policy.h"

#include <errno.h>
#include <inttypes.h>

const char *launch_vmm_name(enum launch_vmm vmm)
{
    static const char *const names[] = {
        [LAUNCH_HUSK] = "husk",
        [LAUNCH_QEMU] = "qemu",
        [LAUNCH_CLOUD_HYPERVISOR] = "cloud-hypervisor",
        [LAUNCH_EC2] = "ec2",
        [LAUNCH_GCE] = "gce",
        [LAUNCH_FILE] = "file",
    };
    return names[vmm];
}

/** hash_page() - the page (or pages, where it crosses a border) that the table lies in. */
static int add_hashes(struct plan *plan, const struct firmware *fw, const uint8_t *hashes,
                      uint64_t gpa, uint64_t len, struct error *err)
{
    if (fw->hashes_gpa < gpa || !range_within(fw->hashes_gpa - gpa, KERNEL_HASHES_BYTES, len))
        return error_set(err, -EINVAL,
                         "the firmware's kernel-hash table at 0x%" PRIx32
                         " does not lie in its pages at 0x%" PRIx64,
                         fw->hashes_gpa, gpa);
    _cleanup_free_ uint8_t *pages = calloc(1, len);
    if (!pages)
        return error_set(err, -ENOMEM, "out of memory for the kernel-hash page");
    memcpy(pages + (fw->hashes_gpa - gpa), hashes, KERNEL_HASHES_BYTES);
    return plan_add_bytes(plan, gpa, pages, len, "kernel hashes", err);
}

static enum plan_page_type section_page_type(uint32_t type)
{
    if (type == FIRMWARE_SECRETS)
        return PLAN_PAGE_SECRETS;
    return type == FIRMWARE_CPUID ? PLAN_PAGE_CPUID : PLAN_PAGE_ZERO;
}

static int add_section(struct plan *plan, const struct firmware *fw,
                       const struct firmware_section *section, const uint8_t *hashes,
                       struct error *err)
{
    if (section->type == FIRMWARE_KERNEL_HASHES && hashes)
        return add_hashes(plan, fw, hashes, section->gpa, section->len, err);
    const struct plan_run *run =
        plan_add_pages(plan, section->gpa, section->len, section_page_type(section->type),
                       firmware_section_name(section->type), err);
    return run ? 0 : -EINVAL;
}

static int add_snp_sections(struct plan *plan, const struct firmware *fw,
                            const struct launch_options *o, struct error *err)
{
    if (!fw->has_metadata) {
        error_set(err, -EINVAL, "the firmware has no SEV metadata, which SEV-SNP needs");
        return error_hint(err, "use a build for SEV-SNP, as OVMF.amdsev.fd or stage0");
    }
    /* At an address of its own, when all pages are there. */
    const uint8_t *hashes = o->hashes_gpa ? NULL : o->hashes;
    bool placed = o->hashes_gpa;
    for (size_t i = 0; i < fw->n_sections; i++) {
        if (o->vmm == LAUNCH_EC2 && fw->sections[i].type == FIRMWARE_CPUID)
            continue;
        int r = add_section(plan, fw, &fw->sections[i], hashes, err);
        if (r < 0)
            return r;
        placed |= fw->sections[i].type == FIRMWARE_KERNEL_HASHES;
    }
    for (size_t i = 0; o->vmm == LAUNCH_EC2 && i < fw->n_sections; i++)
        if (fw->sections[i].type == FIRMWARE_CPUID) {
            int r = add_section(plan, fw, &fw->sections[i], hashes, err);
            if (r < 0)
                return r;
        }
    if (o->hashes && !placed) {
        error_set(err, -EINVAL,
                  "the firmware has no page for kernel hashes, so it could not tell "
                  "the kernel it is given from another");
        return error_hint(err, "use a build with a SNP_KERNEL_HASHES section, as OVMF.amdsev.fd");
    }
    return 0;
}

/** add_hash_table() - for SEV and SEV-ES the table alone, as they measure that and not its page. */
static int add_hash_table(struct plan *plan, const struct firmware *fw, const uint8_t *hashes,
                          struct error *err)
{
    if (fw->hashes_len == 0)
        return error_set(err, -EINVAL, "the firmware names no place for kernel hashes");
    if (fw->hashes_len < KERNEL_HASHES_BYTES)
        return error_set(err, -EINVAL,
                         "the firmware has %" PRIu32 " bytes for kernel hashes, %d are "
                         "needed",
                         fw->hashes_len, KERNEL_HASHES_BYTES);
    uint64_t page = align_down(fw->hashes_gpa, PAGE_BYTES);
    if (plan->platform == PLAN_NATIVE)
        return add_hashes(
            plan, fw, hashes, page,
            align_up((uint64_t)fw->hashes_gpa + KERNEL_HASHES_BYTES, PAGE_BYTES) - page, err);
    struct plan_run *run =
        plan_add_pages(plan, page, KERNEL_HASHES_BYTES, PLAN_PAGE_NORMAL, "kernel hashes", err);
    if (!run)
        return -EINVAL;
    run->bytes = malloc(KERNEL_HASHES_BYTES);
    if (!run->bytes)
        return error_set(err, -ENOMEM, "out of memory for the kernel-hash table");
    run->source = PLAN_SOURCE_BYTES;
    memcpy(run->bytes, hashes, KERNEL_HASHES_BYTES);
    return 0;
}

static int add_vcpus(struct plan *plan, const struct firmware *fw, const struct launch_options *o,
                     struct error *err)
{
    uint64_t rdx = o->has_signature ? o->cpu_signature : CPU_SIGNATURE_KVM_RESET;
    if (o->vmm == LAUNCH_EC2 || o->vmm == LAUNCH_GCE)
        rdx = CPU_SIGNATURE_KVM_RESET;
    if (o->vcpus > 1 && fw->ap_address == 0 &&
        (plan->platform == PLAN_SEV_SNP || plan->platform == PLAN_SEV_ES))
        return error_set(err, -EINVAL,
                         "the firmware does not say where its other processors start, "
                         "so it can have only one");
    for (uint32_t i = 0; i < o->vcpus; i++) {
        struct plan_vcpu vcpu;
        vcpu_firmware_reset(&vcpu, i, i ? fw->ap_address : FIRMWARE_RESET_VECTOR, rdx, o->vmm);
        vcpu.waits_for_sipi = i > 0 && plan->platform != PLAN_SEV_SNP;
        int r = plan_add_vcpu(plan, &vcpu, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/** read_tables() - what the firmware says of itself. Its tables are near its end: the rest is read only if they are not.
 * @image: where the part that was read lies; to be freed.
 */
static int read_tables(int fd, uint64_t size, uint8_t **image, struct firmware *fw,
                       struct error *err)
{
    if (size == 0 || size > FIRMWARE_BYTES_MAX)
        return firmware_read(fw, NULL, size, err);
    *image = calloc(1, size);
    if (!*image)
        return error_set(err, -ENOMEM, "out of memory for %" PRIu64 " bytes of firmware", size);
    uint64_t start = size > FIRMWARE_TABLES_WITHIN ? size - FIRMWARE_TABLES_WITHIN : 0;
    int r = fd_pread_full(fd, *image + start, size - start, start);
    if (r == 0 && firmware_read(fw, *image, size, err) == 0)
        return 0;
    if (r == 0)
        r = fd_pread_full(fd, *image, start, 0);
    return r < 0 ? error_set_errno(err, r, "could not be read")
                 : firmware_read(fw, *image, size, err);
}

int firmware_takes_hashes(const char *path, struct error *err)
{
    uint64_t size;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    struct firmware fw = {0};
    _cleanup_free_ uint8_t *image = NULL;
    int r = read_tables(fd, size, &image, &fw, err);
    return r < 0 ? error_context(err, "%s", path) : fw.hashes_len > 0;
}

int plan_from_firmware(struct plan *plan, const char *path, const struct launch_options *o,
                       struct error *err)
{
    if (o->vmm == LAUNCH_CLOUD_HYPERVISOR || o->vmm == LAUNCH_FILE)
        return error_set(err, -EINVAL, "--vmm %s starts guests from IGVM files, not from firmware",
                         launch_vmm_name(o->vmm));
    uint64_t size;
    int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    int file = plan_add_file(plan, fd, size, path, err);
    if (file < 0)
        return file;
    struct firmware fw = {0};
    _cleanup_free_ uint8_t *image = NULL;
    int r = read_tables(fd, size, &image, &fw, err);
    if (r < 0)
        return error_context(err, "%s", path);

    plan->platform = o->any_platform ? PLAN_SEV_SNP : o->platform;
    plan->policy = SNP_POLICY_DEFAULT;
    plan->vmsa_features = o->vmsa_features;
    if (plan->platform == PLAN_SEV_SNP)
        plan->vmsa_features |= SEV_FEATURE_SNP_ACTIVE;
    r = plan_add_file_range(plan, fw.gpa, (unsigned)file, 0, size, "firmware", err);
    if (r == 0 && plan->platform == PLAN_SEV_SNP)
        r = add_snp_sections(plan, &fw, o, err);
    else if (r == 0 && o->hashes && !o->hashes_gpa)
        r = add_hash_table(plan, &fw, o->hashes, err);
    uint64_t gpa = o->hashes_gpa;
    if (r == 0 && gpa >= fw.gpa && gpa < FIRMWARE_END)
        r = error_set(err, -EINVAL,
                      "its own image is at 0x%" PRIx64 ", where the kernel hashes were to go", gpa);
    if (r == 0 && o->hashes && gpa)
        r = MIN(plan_place_hashes(plan, o->hashes, &gpa, true, err), 0);
    if (r == 0)
        r = plan_check(plan, FIRMWARE_END, err);
    if (r == 0)
        r = add_vcpus(plan, &fw, o, err);
    return r < 0 ? error_context(err, "%s", path) : 0;
}
