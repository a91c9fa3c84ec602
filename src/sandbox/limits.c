#include "sandbox/limits.h"

#include "base/bytes.h"

#include <errno.h>
#include <sys/resource.h>

/** lower() - to @most; what is lower already stays. */
static int lower(__rlimit_resource_t which, rlim_t most)
{
    struct rlimit limit;
    if (getrlimit(which, &limit) < 0)
        return -errno;
    limit.rlim_max = MIN(limit.rlim_max, most);
    limit.rlim_cur = MIN(limit.rlim_cur, limit.rlim_max);
    /* RLIM_INFINITY is the largest number. */
    return setrlimit(which, &limit) < 0 ? -errno : 0;
}

int limits_back_end(struct error *err)
{
    int ret = lower(RLIMIT_CORE, 0);
    if (ret == 0)
        ret = lower(RLIMIT_NOFILE, LIMIT_BACK_END_FILES);
#ifndef HUSK_SANITIZED /* whose shadow memory counts */
    if (ret == 0)
        ret = lower(RLIMIT_DATA, LIMIT_BACK_END_BYTES);
#endif
    return ret < 0 ? error_set_errno(err, ret, "could not limit memory and descriptors") : 0;
}
