#include "kvm/snp.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

enum command {
    INIT2 = 22,
    LAUNCH_START = 100,
    LAUNCH_UPDATE = 101,
    LAUNCH_FINISH = 102,
    ENABLE_REQ_CERTS = 103
};

#define NO_FIRMWARE_CALL UINT32_MAX /* SEV_RET_NO_FW_CALL of uapi/linux/psp-sev.h */
#define SEV_ATTRIBUTES 1            /* KVM_X86_GRP_SEV */

struct sev_command {
    uint32_t id;
    uint32_t pad;
    uint64_t data;
    uint32_t status;
    uint32_t sev_fd;
};

struct sev_init {
    uint64_t vmsa_features;
    uint32_t flags;
    uint16_t ghcb_version; /* 0: the newest that KVM knows */
    uint16_t pad1;
    uint32_t pad2[8];
};

struct launch_start {
    uint64_t policy;
    uint8_t gosvw[16];
    uint16_t flags;
    uint8_t pad0[6];
    uint64_t pad1[4];
};

struct launch_update {
    uint64_t gfn_start;
    uint64_t uaddr;
    uint64_t len;
    uint8_t type;
    uint8_t pad0;
    uint16_t flags;
    uint32_t pad1;
    uint64_t pad2[4];
};

struct launch_finish {
    uint64_t id_block_uaddr;
    uint64_t id_auth_uaddr;
    uint8_t id_block_en;
    uint8_t auth_key_en;
    uint8_t vcek_disabled;
    uint8_t host_data[32];
    uint8_t pad0[3];
    uint16_t flags;
    uint64_t pad1[4];
};

_Static_assert(sizeof(struct sev_command) == 24, "uapi/asm/kvm.h");
_Static_assert(sizeof(struct sev_init) == 48, "uapi/asm/kvm.h");
_Static_assert(sizeof(struct launch_start) == 64, "uapi/asm/kvm.h");
_Static_assert(sizeof(struct launch_update) == 64, "uapi/asm/kvm.h");
_Static_assert(sizeof(struct launch_finish) == 88, "uapi/asm/kvm.h");

int kvm_sev_attribute(int kvm_fd, enum kvm_sev_attribute which, uint64_t *bits)
{
    struct kvm_device_attr attribute = {
        .group = SEV_ATTRIBUTES,
        .attr = which,
        .addr = (uintptr_t)bits,
    };
    return ioctl(kvm_fd, KVM_GET_DEVICE_ATTR, &attribute) < 0 ? -ENXIO : 0;
}

static int command(struct kvm_snp *snp, enum command id, void *data)
{
    struct sev_command told = {
        .id = id,
        .data = (uintptr_t)data,
        .sev_fd = (uint32_t)snp->sev_fd,
    };
    int ret = ioctl(snp->vm_fd, KVM_MEMORY_ENCRYPT_OP, &told);
    int code = ret < 0 ? -errno : 0;
    snp->status = told.status == NO_FIRMWARE_CALL ? KVM_SNP_NO_STATUS : told.status;
    return code;
}

int kvm_snp_init(struct kvm_snp *snp, uint64_t vmsa_features)
{
    struct sev_init init = {.vmsa_features = vmsa_features};
    return command(snp, INIT2, &init);
}

int kvm_snp_enable_certs(struct kvm_snp *snp)
{
    return command(snp, ENABLE_REQ_CERTS, NULL);
}

int kvm_snp_start(struct kvm_snp *snp, uint64_t policy, const uint8_t *gosvw)
{
    struct launch_start start = {.policy = policy};
    memcpy(start.gosvw, gosvw, sizeof(start.gosvw));
    return command(snp, LAUNCH_START, &start);
}

int kvm_snp_update(struct kvm_snp *snp, struct kvm_snp_pages *pages)
{
    struct launch_update update = {
        .gfn_start = pages->gpa / PAGE_BYTES,
        .uaddr = (uintptr_t)pages->source,
        .len = pages->len,
        .type = pages->type,
    };
    int ret = command(snp, LAUNCH_UPDATE, &update);
    uint64_t done = pages->len - update.len;
    /* What KVM says of its progress is not believed where it cannot be true. */
    if (update.len > pages->len || done % PAGE_BYTES != 0)
        return ret < 0 ? ret : -EPROTO;
    pages->gpa += done;
    pages->source = (uint8_t *)pages->source + done;
    pages->len = update.len;
    return ret;
}

int kvm_snp_finish(struct kvm_snp *snp, const struct kvm_snp_finish *finish)
{
    struct launch_finish told = {
        .id_block_uaddr = (uintptr_t)finish->id_block,
        .id_auth_uaddr = (uintptr_t)finish->id_auth,
        .id_block_en = finish->id_block != NULL,
        .auth_key_en = finish->author_key,
        .vcek_disabled = finish->vcek_disabled,
    };
    memcpy(told.host_data, finish->host_data, sizeof(told.host_data));
    return command(snp, LAUNCH_FINISH, &told);
}
