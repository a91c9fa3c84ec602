#include "sandbox/capabilities.h"

#include "base/bytes.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORDS _LINUX_CAPABILITY_U32S_3

/** get() - the process's. Returns 0 or -errno. */
static int get(struct __user_cap_data_struct data[WORDS])
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &head, data) < 0 ? -errno : 0;
}

void capabilities_bound(uint64_t kept)
{
    /* Without the right to say so (CAP_SETPCAP) exec gives no more than the process has, since it gains no privileges. */
    for (unsigned i = 0; i < 64 && prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        if (!(kept & CAPABILITY(i)))
            (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
}

int capabilities_keep(uint64_t kept, struct error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[WORDS];
    int ret = get(data);
    if (ret < 0)
        return error_set_errno(err, ret, "could not read the process's capabilities");
    for (unsigned i = 0; i < WORDS; i++) {
        uint32_t mask = (uint32_t)(kept >> (32 * i));
        data[i].permitted &= mask;
        data[i].effective = data[i].permitted;
        data[i].inheritable &= mask;
    }
    if (syscall(SYS_capset, &head, data) < 0)
        return error_set_errno(err, -errno, "could not give up the process's capabilities");
    return 0;
}

bool capabilities_any(void)
{
    struct __user_cap_data_struct data[WORDS];
    return get(data) == 0 && (data[0].effective || data[1].effective);
}
