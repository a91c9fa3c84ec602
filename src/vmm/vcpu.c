/*
 * A vCPU thread enters the guest, hands each exit to the device that answers, and enters again. It is stopped by a
 * signal whose handler does nothing: immediate_exit, set before, makes KVM_RUN return even if the signal came too early
 * to interrupt it.
 */
#include "vmm/vcpu.h"

#include "base/bytes.h"
#include "base/log.h"
#include "kvm/snp.h"
#include "memory/private.h"
#include "sandbox/seccomp.h"
#include "snp/termination.h"
#include "vmm/certs.h"
#include "vmm/placement.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define KICK_SIGNAL SIGRTMIN
#define WHERE_TEXT 32

static void on_kick(int signal)
{
    (void)signal;
}

int vcpu_threads_init(struct error *err)
{
    struct sigaction action = {.sa_handler = on_kick};
    if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
        return error_set_errno(err, -errno, "could not set up the signal that stops vCPUs");
    return 0;
}

static void stop_with(struct vcpu *vcpu, enum stop_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void stop_with(struct vcpu *vcpu, enum stop_kind kind, const char *fmt, ...)
{
    struct stop_reason reason = {.kind = kind, .vcpu = vcpu->index};
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason.detail, sizeof(reason.detail), fmt, args);
    va_end(args);
    vcpu->context->stop(vcpu->context->ctx, &reason);
}

/** handle_port() - a port access; string instructions hand over @count of them at once. */
static void handle_port(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->kvm.run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(vcpu->context->ports, run->io.port, data, size);
        else
            bus_read(vcpu->context->ports, run->io.port, data, size);
    }
}

static void handle_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->kvm.run;
    unsigned len = MIN(run->mmio.len, (uint32_t)sizeof(run->mmio.data));
    if (run->mmio.is_write)
        bus_write(vcpu->context->mmio, run->mmio.phys_addr, run->mmio.data, len);
    else
        bus_read(vcpu->context->mmio, run->mmio.phys_addr, run->mmio.data, len);
}

/** where() - " at 0x1000": where the vCPU stands, if that can be known. */
static const char *where(const struct vcpu *vcpu, char text[WHERE_TEXT])
{
    text[0] = '\0';
    if (!vcpu->context->sealed)
        snprintf(text, WHERE_TEXT, " at 0x%" PRIx64, kvm_vcpu_rip(&vcpu->kvm));
    return text;
}

/** handle_internal_error() - KVM cannot go on: say where, and which instruction it could not emulate. */
static void handle_internal_error(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->kvm.run;
    char code[3 * 15 + 32] = "", at[WHERE_TEXT];
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 2 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        unsigned n = MIN(run->emulation_failure.insn_size,
                         (unsigned)sizeof(run->emulation_failure.insn_bytes));
        size_t used = (size_t)snprintf(code, sizeof(code), ", instruction");
        for (unsigned i = 0; i < n; i++)
            used += (size_t)snprintf(code + used, sizeof(code) - used, " %02x",
                                     run->emulation_failure.insn_bytes[i]);
    }
    static const char *const names[] = {"", "emulation", "simultaneous exceptions",
                                        "event delivery", "unexpected exit reason"};
    uint32_t suberror = run->internal.suberror;
    stop_with(vcpu, STOP_INTERNAL_ERROR, "KVM internal error %u (%s) on vCPU %u%s%s", suberror,
              suberror < ARRAY_SIZE(names) ? names[suberror] : "unknown", vcpu->index,
              where(vcpu, at), code);
}

/** handle_termination() - an SEV-SNP guest asked for its own end, with a reason (GHCB specification, 2.3.1). */
static void handle_termination(struct vcpu *vcpu)
{
    char text[SNP_TERMINATION_TEXT];
    const struct kvm_run *run = vcpu->kvm.run;
    uint64_t ghcb = run->system_event.ndata ? run->system_event.data[0] : 0;
    stop_with(vcpu, STOP_TERMINATED, "the guest ended itself on vCPU %u: %s", vcpu->index,
              snp_termination_describe(ghcb, text));
}

static void handle_system_event(struct vcpu *vcpu)
{
    uint32_t type = vcpu->kvm.run->system_event.type;
    if (type == KVM_SYSTEM_EVENT_SHUTDOWN)
        stop_with(vcpu, STOP_POWER_OFF, "the guest switched itself off");
    else if (type == KVM_SYSTEM_EVENT_RESET)
        stop_with(vcpu, STOP_RESET, "the guest asked for a reset");
    else if (type == KVM_SYSTEM_EVENT_SEV_TERM)
        handle_termination(vcpu);
    else
        stop_with(vcpu, STOP_INTERNAL_ERROR, "KVM reported system event %u on vCPU %u", type,
                  vcpu->index);
}

/** convert() - pages that the guest wants as @to_private says. Returns 0, or -EINVAL if they are no pages at all. */
static int convert(struct vcpu *vcpu, uint64_t gpa, uint64_t len, bool to_private,
                   enum memory_cause cause)
{
    struct error err = ERROR_INIT;
    int ret =
        memory_convert(vcpu->context->private, gpa, len, to_private, cause, vcpu->index, &err);
    if (ret == 0 || (ret == -EINVAL && cause == MEMORY_BY_HYPERCALL))
        return ret;
    bool guest = ret == -EINVAL || ret == -ENXIO || ret == -ELOOP;
    stop_with(vcpu, guest ? STOP_MEMORY_FAULT : STOP_HOST_ERROR,
              "the guest %s 0x%" PRIx64 " bytes at 0x%" PRIx64 " as %s memory on vCPU %u: %s",
              cause == MEMORY_BY_FAULT ? "used" : "asked for", len, gpa,
              to_private ? "private" : "shared", vcpu->index, err.message);
    return 0;
}

/** handle_hypercall() - KVM_HC_MAP_GPA_RANGE is the only one that KVM was told to hand over. */
static void handle_hypercall(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->kvm.run;
    uint64_t gpa = run->hypercall.args[0], pages = run->hypercall.args[1], len;
    bool to_private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;
    int ret = -EINVAL;
    if (run->hypercall.nr != KVM_HC_MAP_GPA_RANGE || !vcpu->context->private)
        ret = -ENOSYS;
    else if (!__builtin_mul_overflow(pages, (uint64_t)PAGE_BYTES, &len))
        ret = convert(vcpu, gpa, len, to_private, MEMORY_BY_HYPERCALL);
    run->hypercall.ret = (__u64)ret;
}

/** handle_memory_fault() - the guest touched a page as what it is not; @code: what KVM_RUN failed with. */
static void handle_memory_fault(struct vcpu *vcpu, int code)
{
    struct kvm_memory_fault fault = kvm_vcpu_memory_fault(&vcpu->kvm);
    /* Not every failure of KVM_RUN writes a reason: the next one must not be taken for this one again. */
    vcpu->kvm.run->exit_reason = KVM_EXIT_UNKNOWN;
    if (code == EHWPOISON)
        stop_with(vcpu, STOP_HOST_ERROR,
                  "the host's memory behind 0x%" PRIx64 " is damaged (vCPU %u used it)", fault.gpa,
                  vcpu->index);
    else if (fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE)
        stop_with(vcpu, STOP_MEMORY_FAULT,
                  "KVM reported a memory fault at 0x%" PRIx64 " on vCPU %u with flags 0x%" PRIx64
                  ", which husk does not know",
                  fault.gpa, vcpu->index, fault.flags);
    else
        convert(vcpu, fault.gpa, fault.size, fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE,
                MEMORY_BY_FAULT);
}

static void run_once(struct vcpu *vcpu);

/** handle_certs() - the guest asked for an attestation report with certificates. */
static void handle_certs(struct vcpu *vcpu)
{
    struct kvm_snp_req_certs *request = kvm_snp_req_certs(&vcpu->kvm);
    int fd = vcpu->context->certs_fd;
    int code =
        fd < 0 ? EIO : certs_serve(fd, vcpu->context->memory, request->gpa, &request->npages);
    request->ret = (uint64_t)code;
    if (code)
        return;
    /* The report is fetched when KVM_RUN is called again; certificates that changed before would not belong to it. */
    __atomic_store_n(&vcpu->kvm.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    run_once(vcpu);
    __atomic_store_n(&vcpu->kvm.run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    certs_served(fd);
}

/** handle_exit() - answer one exit of the guest. */
static void handle_exit(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->kvm.run;
    char at[WHERE_TEXT];
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        handle_port(vcpu);
        break;
    case KVM_EXIT_MMIO:
        handle_mmio(vcpu);
        break;
    case KVM_EXIT_IOAPIC_EOI:
        vcpu->context->eoi(vcpu->context->ctx, run->eoi.vector);
        break;
    case KVM_EXIT_INTR:
        break;
    case KVM_EXIT_HYPERCALL:
        handle_hypercall(vcpu);
        break;
    case KVM_EXIT_SNP_REQ_CERTS:
        handle_certs(vcpu);
        break;
    case KVM_EXIT_SHUTDOWN:
        stop_with(
            vcpu, STOP_TRIPLE_FAULT, "the guest took a triple fault on vCPU %u%s", vcpu->index,
            vcpu->context->sealed
                ? "; nothing outside can see where: an SEV-SNP guest's registers are encrypted"
                : "");
        break;
    case KVM_EXIT_FAIL_ENTRY:
        stop_with(vcpu, STOP_FAIL_ENTRY,
                  "the processor refused to enter the guest on vCPU %u (hardware reason 0x%llx)%s",
                  vcpu->index, (unsigned long long)run->fail_entry.hardware_entry_failure_reason,
                  vcpu->context->sealed ? ": its encrypted state is not valid, or was withdrawn"
                                        : "");
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        handle_internal_error(vcpu);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        handle_system_event(vcpu);
        break;
    default:
        stop_with(vcpu, STOP_INTERNAL_ERROR,
                  "KVM stopped vCPU %u%s for reason %u, which husk does not know", vcpu->index,
                  where(vcpu, at), run->exit_reason);
        break;
    }
}

/** run_once() - enter the guest, and answer the exit. */
static void run_once(struct vcpu *vcpu)
{
    if (ioctl(vcpu->kvm.fd, KVM_RUN, 0) == 0) {
        handle_exit(vcpu);
    } else if ((errno == EFAULT || errno == EHWPOISON) && vcpu->context->private &&
               vcpu->kvm.run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
        handle_memory_fault(vcpu, errno);
    } else if (errno != EINTR && errno != EAGAIN) {
        int code = errno;
        char at[WHERE_TEXT];
        stop_with(vcpu, STOP_HOST_ERROR, "KVM_RUN of vCPU %u failed%s: %s%s", vcpu->index,
                  where(vcpu, at), strerror(code),
                  code == EFAULT ? "; the host may have no memory left for the guest's RAM" : "");
    }
}

static void run_guest(struct vcpu *vcpu)
{
    while (!atomic_load_explicit(&vcpu->context->stopped, memory_order_acquire))
        run_once(vcpu);
}

/* What a thread that has to be placed tells the one that starts it. */
struct start {
    struct vcpu *vcpu;
    sem_t placed;
    struct error err;
};

static void *vcpu_main(void *arg)
{
    struct vcpu *vcpu = arg;
    char name[16];
    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    pthread_setname_np(pthread_self(), name);
    struct error err = ERROR_INIT;
    if (vcpu->filter->len && seccomp_install(vcpu->filter, &err) < 0)
        stop_with(vcpu, STOP_HOST_ERROR, "vCPU %u: %s", vcpu->index, err.message);
    run_guest(vcpu);
    return NULL;
}

static void *vcpu_main_placed(void *arg)
{
    struct start *start = arg;
    struct vcpu *vcpu = start->vcpu;
    int ret = placement_apply(vcpu->index, vcpu->affinity, vcpu->core_scheduling, &start->err);
    sem_post(&start->placed); /* @start is gone from here on */
    return ret == 0 ? vcpu_main(vcpu) : NULL;
}

static int make_thread(struct vcpu *vcpu, void *(*entry)(void *), void *arg, struct error *err)
{
    int code = pthread_create(&vcpu->thread, NULL, entry, arg);
    if (code != 0)
        return error_set_errno(err, -code, "could not make the thread of vCPU %u", vcpu->index);
    vcpu->started = true;
    return 0;
}

int vcpu_thread_start(struct vcpu *vcpu, struct error *err)
{
    /* Waiting for the thread costs two context switches: only a placement that may fail is worth them. */
    if (!vcpu->affinity && vcpu->core_scheduling != CORE_SCHEDULING_VCPU)
        return make_thread(vcpu, vcpu_main, vcpu, err);

    struct start start = {.vcpu = vcpu};
    sem_init(&start.placed, 0, 0);
    int ret = make_thread(vcpu, vcpu_main_placed, &start, err);
    if (ret == 0) {
        while (sem_wait(&start.placed) < 0 && errno == EINTR)
            ;
        if (start.err.code != 0) {
            *err = start.err;
            ret = err->code;
        }
    }
    sem_destroy(&start.placed);
    return ret;
}

void vcpu_thread_kick(struct vcpu *vcpu)
{
    if (!vcpu->started)
        return;
    __atomic_store_n(&vcpu->kvm.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_thread_join(struct vcpu *vcpu)
{
    if (!vcpu->started)
        return;
    pthread_join(vcpu->thread, NULL);
    vcpu->started = false;
}
