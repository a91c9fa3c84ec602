/* Plans from any IGVM file or firmware image, and their launch digests. The first byte says which, and whose launch. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "launch/digest_sink.h"
#include "launch/producers.h"

#include "igvm/igvm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* More memory than this is not worth its time here. */
#define PAGES_MAX 20000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t pages(const struct plan *plan)
{
    uint64_t n = 0;
    for (size_t i = 0; i < plan->n_runs; i++)
        n += plan->runs[i].len / PAGE_BYTES;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 32)
        return 0;
    uint8_t kind = data[0];
    uint8_t *copy = malloc(size - 1);
    memcpy(copy, data + 1, size - 1);
    bool igvm = kind & 1;
    if (igvm)
        store_le32(copy + 20, igvm_checksum(copy, size - 1));
    _cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || fd_write_full(fd, copy, size - 1) < 0)
        abort();
    free(copy);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    static const uint8_t hashes[KERNEL_HASHES_BYTES];
    struct launch_options launch = {.vmm = (enum launch_vmm)((kind >> 1 & 7) % 6),
                                    .platform = (enum plan_platform)(kind >> 4 & 3),
                                    .any_platform = kind & 64,
                                    .vcpus = 2,
                                    .hashes = kind & 128 ? hashes : NULL};
    struct digest_options options = {.vmm = launch.vmm, .zero_as_normal = kind & 32, .threads = 1};
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    uint8_t digest[SHA384_BYTES];
    int r = igvm ? plan_from_igvm(&plan, path, &launch, &err)
                 : plan_from_firmware(&plan, path, &launch, &err);
    if (r == 0 && pages(&plan) <= PAGES_MAX)
        r = plan_launch_digest(&plan, &options, digest, &err);
    if (r < 0 && !err.message[0])
        abort();
    plan_release(&plan);
    return 0;
}
