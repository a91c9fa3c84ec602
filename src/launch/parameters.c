#include "launch/parameters.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "igvm/igvm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/** own_bytes() - make @run's contents bytes of the plan's, to be written into. */
static int own_bytes(const struct plan *plan, struct plan_run *run, struct error *err)
{
    if (run->source == PLAN_SOURCE_BYTES)
        return 0;
    _cleanup_free_ uint8_t *bytes = calloc(1, run->len);
    if (!bytes)
        return error_set(err, -ENOMEM, "out of memory for a parameter area of %" PRIu64 " bytes",
                         run->len);
    if (run->source == PLAN_SOURCE_FILE) {
        const struct plan_file *file = &plan->files[run->range.file];
        int ret = fd_pread_full(file->fd, bytes, run->len, run->range.offset);
        if (ret < 0)
            return error_set_errno(err, ret, "could not read '%s'", file->path);
    }
    plan_run_take_bytes(run, bytes);
    bytes = NULL;
    return 0;
}

/** write_at() - @len bytes, and @zeros behind them, as far into @run as @parameter says. */
static int write_at(struct plan_run *run, const struct plan_parameter *parameter, const void *bytes,
                    size_t len, size_t zeros, struct error *err)
{
    uint64_t room = parameter->offset < run->len ? run->len - parameter->offset : 0;
    if (len + zeros > room)
        return error_set(err, -E2BIG,
                         "%zu bytes are to be written, but its area has %" PRIu64
                         " from byte %" PRIu32 " on",
                         len + zeros, room, parameter->offset);
    uint8_t *to = run->bytes + parameter->offset;
    if (len)
        memcpy(to, bytes, len);
    memset(to + len, 0, zeros);
    return 0;
}

static int write_buf(struct plan_run *run, const struct plan_parameter *parameter,
                     const struct buf *bytes, size_t zeros, struct error *err)
{
    return write_at(run, parameter, bytes->data, bytes->len, zeros, err);
}

static int write_u32(struct plan_run *run, const struct plan_parameter *parameter, uint32_t value,
                     struct error *err)
{
    uint8_t bytes[4];
    store_le32(bytes, value);
    return write_at(run, parameter, bytes, sizeof(bytes), 0, err);
}

static int fill(struct plan_run *run, const struct plan_parameter *parameter,
                const struct parameters_in *in, struct error *err)
{
    switch (parameter->type) {
    case IGVM_VHT_VP_COUNT_PARAMETER:
        return write_u32(run, parameter, in->vcpus, err);
    case IGVM_VHT_ENVIRONMENT_INFO_PARAMETER:
        return write_u32(run, parameter, in->memory_is_shared, err);
    case IGVM_VHT_MEMORY_MAP:
        return write_buf(run, parameter, in->memory_map, sizeof(IGVM_VHS_MEMORY_MAP_ENTRY), err);
    case IGVM_VHT_MMIO_RANGES:
        return write_at(run, parameter, &in->mmio, sizeof(in->mmio), 0, err);
    case IGVM_VHT_COMMAND_LINE:
        return write_at(run, parameter, in->cmdline, strlen(in->cmdline), 1, err);
    case IGVM_VHT_MADT:
        return write_buf(run, parameter, in->madt, 0, err);
    case IGVM_VHT_SRAT:
        return write_buf(run, parameter, in->srat, 0, err);
    case IGVM_VHT_SLIT:
        return write_buf(run, parameter, in->slit, 0, err);
    case IGVM_VHT_PPTT:
        return write_buf(run, parameter, in->pptt, 0, err);
    default:
        return error_set(err, -ENOTSUP, "husk cannot fill this parameter");
    }
}

int plan_fill_parameters(struct plan *plan, const struct parameters_in *in, struct error *err)
{
    for (size_t i = 0; i < plan->n_parameters; i++) {
        const struct plan_parameter *parameter = &plan->parameters[i];
        struct plan_run *run = &plan->runs[parameter->run];
        int ret = own_bytes(plan, run, err);
        if (ret == 0)
            ret = fill(run, parameter, in, err);
        if (ret < 0)
            return error_context(err, "header %" PRIu32 " (%s)", parameter->directive,
                                 igvm_type_name(parameter->type));
    }
    return 0;
}
