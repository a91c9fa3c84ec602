#include "vmm/snp_options.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/units.h"
#include "snp/id_block.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Of base64, with line breaks after any number of characters. */
#define FILE_MAX (2 * sizeof(struct snp_id_auth) + 4096)

/** read_exactly() - the @len bytes that the file at @path has, as they are or in base64. */
static int read_exactly(const char *path, void *bytes, size_t len, struct error *err)
{
    uint64_t size;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    _cleanup_free_ char *text = malloc(FILE_MAX);
    if (!text)
        return error_set(err, -ENOMEM, "out of memory for '%s'", path);
    int ret = size <= FILE_MAX ? fd_pread_full(fd, text, (size_t)size, 0) : 0;
    if (ret < 0)
        return error_set_errno(err, ret, "could not read '%s'", path);
    if (size == len)
        memcpy(bytes, text, len);
    else if (size > FILE_MAX || base64_decode(text, (size_t)size, bytes, len) != (ssize_t)len)
        return error_set(err, -EINVAL, "'%s' is not %zu bytes, and no base64 of so many either",
                         path, len);
    return 0;
}

static int read_id_block(struct plan *plan, const struct platform_config *platform,
                         struct error *err)
{
    struct snp_id_block block;
    _cleanup_free_ struct snp_id_auth *auth = malloc(sizeof(*auth));
    if (!auth)
        return error_set(err, -ENOMEM, "out of memory for the ID block");
    if (read_exactly(platform->id_block, &block, sizeof(block), err) < 0)
        return error_context(err, "--platform id_block");
    if (read_exactly(platform->id_auth, auth, sizeof(*auth), err) < 0)
        return error_context(err, "--platform id_auth");
    return plan_set_id_block(plan, &block, auth, platform->author_key, err);
}

/** check_id_policy() - the firmware refuses an ID block with another policy, only at the end of the launch. */
static int check_id_policy(const struct plan *plan, struct error *err)
{
    const struct snp_id_block *block = (const struct snp_id_block *)plan->id_block;
    if (!block || le64toh(block->policy) == plan->policy)
        return 0;
    error_set(err, -EINVAL,
              "the ID block is for policy 0x%" PRIx64 ", and the guest has 0x%" PRIx64,
              (uint64_t)le64toh(block->policy), plan->policy);
    return error_hint(err, "give --platform policy=0x%" PRIx64 ", or an ID block for this policy",
                      (uint64_t)le64toh(block->policy));
}

int snp_apply_options(struct plan *plan, const struct vm_config *config, struct error *err)
{
    const struct platform_config *platform = &config->platform;
    bool from_file = plan->id_block && !platform->id_block;
    int ret = 0;
    if (platform->policy)
        ret = units_parse_bits(platform->policy, &plan->policy);
    if (ret == 0 && platform->id_block)
        ret = read_id_block(plan, platform, err);
    if (ret < 0)
        return ret;
    ret = check_id_policy(plan, err);
    return ret < 0 && from_file ? error_context(err, "%s", config->payload.igvm) : ret;
}
