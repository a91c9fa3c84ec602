#include "sandbox/capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

int capabilities_drop(bool reaches_sockets, struct error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &head, data) < 0)
        return error_set_errno(err, -errno, "could not read the process's capabilities");
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t kept = reaches_sockets && i == 0 ? data[i].permitted & 1u << CAP_DAC_OVERRIDE : 0;
        data[i] = (struct __user_cap_data_struct){.effective = kept, .permitted = kept};
    }
    if (syscall(SYS_capset, &head, data) < 0)
        return error_set_errno(err, -errno, "could not give up the process's capabilities");
    return 0;
}
