#include "sandbox/limits.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>

#ifdef HUSK_SANITIZED /* shadow memory counts */
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/** lower() - to @most; what is lower already stays. @all: whether as much as may be had is taken now. */
static int lower(__rlimit_resource_t which, rlim_t most, bool all)
{
    struct rlimit limit;
    if (getrlimit(which, &limit) < 0)
        return -errno;
    limit.rlim_max = MIN(limit.rlim_max, most);
    limit.rlim_cur = all ? limit.rlim_max : MIN(limit.rlim_cur, limit.rlim_max);
    /* RLIM_INFINITY is the largest number. */
    return setrlimit(which, &limit) < 0 ? -errno : 0;
}

static int limit(rlim_t files, bool all_files, rlim_t bytes, struct error *err)
{
    int ret = lower(RLIMIT_CORE, 0, false);
    if (ret == 0)
        ret = lower(RLIMIT_NOFILE, files, all_files);
    if (ret == 0 && !sanitized)
        ret = lower(RLIMIT_DATA, bytes, false);
    return ret < 0 ? error_set_errno(err, ret, "could not limit memory and descriptors") : 0;
}

int limits_vmm(struct error *err)
{
    return limit(LIMIT_VMM_FILES, true, LIMIT_VMM_BYTES, err);
}

int limits_broker(struct error *err)
{
    return limit(LIMIT_BACK_END_FILES, false, LIMIT_BACK_END_BYTES, err);
}

int limits_back_end(struct error *err)
{
    /* What a program starts with, 1024 mostly, is for those that call select(2). */
    return limit(LIMIT_BACK_END_FILES, true, LIMIT_BACK_END_BYTES, err);
}
