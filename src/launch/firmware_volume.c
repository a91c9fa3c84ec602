#include "launch/firmware_volume.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <string.h>

/* EFI_FIRMWARE_VOLUME_HEADER: the signature stands behind a zero vector and the file system's GUID and length. */
#define SIGNATURE "_FVH"
#define SIGNATURE_OFFSET 40

/** has_signature() - whether a volume begins at @offset of @run. */
static bool has_signature(const struct plan *plan, const struct plan_run *run, uint64_t offset)
{
    char found[4] = {0};
    uint64_t at = offset + SIGNATURE_OFFSET;
    if (at + sizeof(found) > run->len)
        return false;
    if (run->source == PLAN_SOURCE_BYTES)
        memcpy(found, run->bytes + at, sizeof(found));
    else if (run->source == PLAN_SOURCE_FILE)
        (void)fd_pread_full(plan->files[run->range.file].fd, found, sizeof(found),
                            run->range.offset + at);
    return memcmp(found, SIGNATURE, sizeof(found)) == 0;
}

bool plan_has_firmware_volume(const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_runs; i++)
        for (uint64_t offset = 0; offset < plan->runs[i].len; offset += PAGE_BYTES)
            if (has_signature(plan, &plan->runs[i], offset))
                return true;
    return false;
}
