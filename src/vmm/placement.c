#include "vmm/placement.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_CREATE 1
#endif
/* enum pid_type of the kernel, as prctl(2) takes it. */
#define SCOPE_THREAD 0
#define SCOPE_THREAD_GROUP 1

static int create_cookie(unsigned long scope, struct error *err)
{
    if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, scope, 0) == 0)
        return 0;
    int code = -errno;
    /* EINVAL: built without it. ENODEV: no SMT, so no sibling to be kept away. */
    if (code == -EINVAL || code == -ENODEV) {
        log_debug("core scheduling is not there: %s", strerror(-code));
        return 0;
    }
    return error_set_errno(err, code, "--cpus core_scheduling: the kernel gave no cookie");
}

static int set_affinity(uint32_t vcpu, const struct cpu_affinity *affinity, struct error *err)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (size_t i = 0; i < affinity->n_host_cpus; i++) {
        if (affinity->host_cpus[i] >= CPU_SETSIZE)
            return error_set(err, -EINVAL, "--cpus affinity: there is no host CPU %" PRIu32,
                             affinity->host_cpus[i]);
        CPU_SET(affinity->host_cpus[i], &set);
    }
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        error_set_errno(err, -errno, "--cpus affinity: vCPU %" PRIu32 " cannot be bound", vcpu);
        return error_hint(err, "none of the host CPUs listed for it is online and allowed to husk");
    }
    return 0;
}

int placement_apply(uint32_t vcpu, const struct cpu_affinity *affinity,
                    enum core_scheduling scheduling, struct error *err)
{
    int ret = affinity ? set_affinity(vcpu, affinity, err) : 0;
    if (ret == 0 && scheduling == CORE_SCHEDULING_VCPU)
        ret = create_cookie(SCOPE_THREAD, err);
    return ret;
}

int placement_apply_process(enum core_scheduling scheduling, struct error *err)
{
    return scheduling == CORE_SCHEDULING_VM ? create_cookie(SCOPE_THREAD_GROUP, err) : 0;
}
