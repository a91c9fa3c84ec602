#include "vmm/machine.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/options.h"
#include "devices/bus.h"
#include "memory/huge_pages.h"
#include "memory/load.h"
#include "memory/memory.h"
#include "vmm/devices.h"
#include "vmm/firmware_files.h"
#include "vmm/machine_layout.h"
#include "vmm/platform.h"
#include "vmm/protected.h"
#include "vmm/snp.h"
#include "x86/boot.h"
#include "x86/cpuid.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct machine {
    const struct machine_env *env;
    int vm_fd;
    struct guest_memory memory;
    struct private_memory *private; /* NULL: all memory is shared */
    struct huge_pages *huge_pages;  /* NULL if the kernel sees to them, or nobody */
    struct kvm_routes *routes;
    struct bus *ports;
    struct bus *mmio;
    struct platform *platform;
    struct devices *devices;
    struct vcpu_context context;
    struct vcpu *vcpus;
    uint32_t n_vcpus;
    pthread_mutex_t lock; /* guards @reason */
    struct stop_reason reason;
};

static void stop_from_vcpu(void *ctx, const struct stop_reason *reason)
{
    machine_stop(ctx, reason);
}

static void eoi_from_vcpu(void *ctx, uint8_t vector)
{
    struct machine *machine = ctx;
    platform_eoi(machine->platform, vector);
}

void machine_stop(struct machine *machine, const struct stop_reason *reason)
{
    pthread_mutex_lock(&machine->lock);
    bool first = machine->reason.kind == STOP_NONE;
    if (first)
        machine->reason = *reason;
    pthread_mutex_unlock(&machine->lock);
    if (first) {
        atomic_store_explicit(&machine->context.stopped, true, memory_order_release);
        loop_stop(machine->env->loop, 0);
    }
}

/** machine_is_private() - whether pages of its RAM can be private. */
static bool machine_is_private(const struct machine *machine)
{
    return machine->env->config->platform.sw_protected || machine->env->snp;
}

static int register_memory(struct machine *machine, const struct plan *plan, struct error *err)
{
    const struct kvm *kvm = machine->env->kvm;
    if (!machine_is_private(machine))
        return memory_register(&machine->memory, kvm, machine->vm_fd, err);
    machine->private =
        private_memory_create(&machine->memory, kvm, machine->vm_fd, (uint32_t)plan->n_vcpus, err);
    if (!machine->private)
        return err->code;
    return protected_share_plan(machine->private, plan,
                                machine->env->snp ? PLAN_SHARED : PLAN_WHOLE, err);
}

static int create_memory(struct machine *machine, const struct plan *plan, struct error *err)
{
    const struct memory_config *config = &machine->env->config->memory;
    struct memory_params params = {
        .size = config->size,
        .low_size = machine_low_ram(machine->env->config),
        .high_gpa = LAYOUT_HIGH_RAM_BASE,
        .hugepages = config->hugepages,
        .hugepage_size = config->hugepage_size,
        /* Of private memory, huge pages in the shared half would be held for nothing. */
        .thp = config->thp && !machine_is_private(machine),
        .prefault = config->prefault && !machine_is_private(machine),
        .reserve = config->reserve,
        .host = machine->env->memory_host,
    };
    struct memory_windows windows;
    int ret = machine_windows(&windows, plan, machine->env->config, err);
    if (ret < 0)
        return ret;
    params.windows = &windows;
    ret = memory_create(&machine->memory, &params, err);
    if (ret == 0)
        ret = register_memory(machine, plan, err);
    if (ret == 0)
        ret = memory_load_plan(&machine->memory, plan, err);
    return ret;
}

static int create_vm(struct machine *machine, const struct plan *plan, struct error *err)
{
    const struct kvm *kvm = machine->env->kvm;
    if (machine->env->snp)
        machine->vm_fd = snp_create_vm(machine->env->snp, kvm, plan, err);
    else if (machine->env->config->platform.sw_protected)
        machine->vm_fd = protected_create_vm(kvm, err);
    else
        machine->vm_fd = kvm_create_vm(kvm, 0, err);
    if (machine->vm_fd < 0)
        return machine->vm_fd;
    int ret = kvm_set_identity_map(machine->vm_fd, LAYOUT_KVM_IDENTITY_MAP, LAYOUT_KVM_TSS, err);
    if (ret == 0)
        ret = kvm_split_irqchip(machine->vm_fd, LAYOUT_IOAPIC_PINS, err);
    machine->routes = kvm_routes_new(machine->vm_fd, LAYOUT_IOAPIC_PINS);
    if (ret == 0 && !machine->routes)
        ret = error_set(err, -ENOMEM, "out of memory for interrupt routes");
    return ret;
}

/** check_measured() - that the files whose hashes an SEV-SNP guest's launch holds are as they were when husk opened them. */
static int check_measured(const struct machine_env *env, struct error *err)
{
    uint64_t gpa;
    if (!env->snp || config_kernel_hashes(&env->config->platform, &gpa) == SWITCH_OFF)
        return 0;
    return firmware_files_check(env->firmware_files, err);
}

static int create_platform(struct machine *machine, struct error *err)
{
    machine->ports = bus_new("port");
    machine->mmio = bus_new("MMIO");
    if (!machine->ports || !machine->mmio)
        return error_set(err, -ENOMEM, "out of memory for the buses");
    struct platform_in in = {
        .config = machine->env->config,
        .machine = machine,
        .events = machine->env->events,
        .consoles = machine->env->consoles,
        .firmware_files = machine->env->firmware_files,
        .memory = &machine->memory,
        .routes = machine->routes,
        .vm_fd = machine->vm_fd,
        .ports = machine->ports,
        .mmio = machine->mmio,
    };
    machine->platform = platform_create(&in, err);
    if (machine->platform)
        return 0;
    /* Whatever is wrong with a file that has changed, that it has is what the user needs to know. */
    struct error changed = ERROR_INIT;
    if (check_measured(machine->env, &changed) < 0)
        *err = changed;
    return err->code;
}

static int create_devices(struct machine *machine, struct error *err)
{
    struct devices_in in = {
        .config = machine->env->config,
        .broker = machine->env->broker,
        .events = machine->env->events,
        .memory = &machine->memory,
        .pci = platform_pci(machine->platform),
        .routes = machine->routes,
        .vm_fd = machine->vm_fd,
    };
    machine->devices = devices_create(&in, err);
    return machine->devices ? 0 : err->code;
}

static const struct cpu_affinity *affinity_of(const struct cpus_config *cpus, uint32_t vcpu)
{
    for (size_t i = 0; i < cpus->n_affinity; i++)
        if (cpus->affinity[i].vcpu == vcpu)
            return &cpus->affinity[i];
    return NULL;
}

static int create_vcpu(struct machine *machine, struct kvm_cpuid2 *cpuid,
                       const struct cpu_layout *layout, const struct plan_vcpu *state,
                       struct error *err)
{
    const struct cpus_config *cpus = &machine->env->config->cpus;
    uint32_t index = state->index;
    uint32_t apic_id = cpu_apic_id(layout, index);
    struct vcpu *vcpu = &machine->vcpus[index];
    *vcpu = (struct vcpu){
        .kvm.fd = -1,
        .index = index,
        .context = &machine->context,
        .affinity = affinity_of(cpus, index),
        .core_scheduling = cpus->core_scheduling,
        .filter = machine->env->vcpu_filter,
    };
    int ret = kvm_vcpu_create(machine->env->kvm, machine->vm_fd, apic_id, &vcpu->kvm, err);
    if (ret < 0)
        return ret;
    machine->n_vcpus++;
    cpuid_personalize(cpuid, layout, apic_id);
    ret = cpuid_set(&vcpu->kvm, cpuid, index, err);
    if (ret == 0)
        ret = msr_set_boot(&vcpu->kvm, index, err);
    /* A processor that waits for a SIPI is in reset: KVM has it so already. Of an SEV-SNP guest's it is measured. */
    if (ret == 0 && (!state->waits_for_sipi || machine->env->snp))
        ret = kvm_vcpu_set_state(&vcpu->kvm, state, err);
    return ret;
}

/** launch() - an SEV-SNP guest, all of whose vCPUs have their first state. Its registers are out of reach afterwards. */
static int launch(struct machine *machine, const struct plan *plan, const struct kvm_cpuid2 *cpuid,
                  struct error *err)
{
    const struct snp_launch_in in = {
        .config = machine->env->config,
        .plan = plan,
        .memory = &machine->memory,
        .private = machine->private,
        .cpuid = cpuid,
        .events = machine->env->events,
        .vm_fd = machine->vm_fd,
    };
    if (check_measured(machine->env, err) < 0)
        return err->code;
    machine->context.sealed = true;
    return snp_launch(machine->env->snp, &in, err);
}

static int create_vcpus(struct machine *machine, const struct plan *plan, struct error *err)
{
    const struct kvm *kvm = machine->env->kvm;
    if (plan->n_vcpus > kvm->max_vcpus)
        return error_set(err, -E2BIG, "--cpus boot=%zu: this KVM allows %u vCPUs in a VM",
                         plan->n_vcpus, kvm->max_vcpus);
    struct cpu_layout layout = machine_cpu_layout(&machine->env->config->cpus);
    machine->vcpus = calloc(plan->n_vcpus, sizeof(*machine->vcpus));
    _cleanup_free_ struct kvm_cpuid2 *supported = cpuid_supported(kvm, err);
    if (!supported)
        return err->code;
    _cleanup_free_ struct kvm_cpuid2 *cpuid = cpuid_common(supported, &layout, kvm->tsc_deadline);
    if (!machine->vcpus || !cpuid)
        return error_set(err, -ENOMEM, "out of memory for %zu vCPUs", plan->n_vcpus);
    if (machine->env->snp)
        cpuid_encrypt(cpuid);
    int ret = 0;
    for (size_t i = 0; i < plan->n_vcpus && ret == 0; i++)
        ret = create_vcpu(machine, cpuid, &layout, &plan->vcpus[i], err);
    if (ret < 0 || !machine->env->snp)
        return ret;
    cpuid_personalize(cpuid, &layout, cpu_apic_id(&layout, 0));
    return launch(machine, plan, cpuid, err);
}

struct machine *machine_create(const struct machine_env *env, const struct plan *plan,
                               struct error *err)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    if (!machine) {
        error_set(err, -ENOMEM, "out of memory for the machine");
        return NULL;
    }
    machine->env = env;
    machine->vm_fd = -1;
    machine->memory.fd = -1;
    machine->context.stop = stop_from_vcpu;
    machine->context.eoi = eoi_from_vcpu;
    machine->context.ctx = machine;
    pthread_mutex_init(&machine->lock, NULL);

    int ret = create_vm(machine, plan, err);
    if (ret == 0)
        ret = create_memory(machine, plan, err);
    if (ret == 0)
        ret = create_platform(machine, err);
    if (ret == 0)
        ret = create_devices(machine, err);
    if (ret == 0)
        ret = create_vcpus(machine, plan, err);
    if (ret == 0 && machine->private && env->config->memory.prefault)
        ret = memory_prefault_private(machine->private, &machine->vcpus[0].kvm, err);
    if (ret < 0) {
        machine_destroy(machine);
        return NULL;
    }
    machine->context.ports = machine->ports;
    machine->context.mmio = machine->mmio;
    machine->context.private = machine->private;
    machine->context.memory = &machine->memory;
    machine->context.certs_fd = env->snp ? env->snp->certs_fd : -1;
    return machine;
}

int machine_start(struct machine *machine, struct error *err)
{
    if (machine->memory.huge_by_hand) {
        machine->huge_pages = huge_pages_watch(&machine->memory, err);
        if (!machine->huge_pages)
            return err->code;
    }
    for (uint32_t i = 0; i < machine->n_vcpus; i++) {
        int ret = vcpu_thread_start(&machine->vcpus[i], err);
        if (ret < 0) {
            struct stop_reason reason = {.kind = STOP_HOST_ERROR, .vcpu = i};
            machine_stop(machine, &reason);
            return ret;
        }
    }
    return 0;
}

struct stop_reason machine_join(struct machine *machine)
{
    for (uint32_t i = 0; i < machine->n_vcpus; i++)
        vcpu_thread_kick(&machine->vcpus[i]);
    for (uint32_t i = 0; i < machine->n_vcpus; i++)
        vcpu_thread_join(&machine->vcpus[i]);
    if (machine->private)
        protected_report(machine->private, machine->env->events);
    return machine->reason;
}

void machine_power_button(struct machine *machine)
{
    platform_power_button(machine->platform);
}

void machine_destroy(struct machine *machine)
{
    if (!machine)
        return;
    for (uint32_t i = 0; i < machine->n_vcpus; i++)
        kvm_vcpu_destroy(&machine->vcpus[i].kvm);
    free(machine->vcpus);
    devices_destroy(machine->devices);
    platform_destroy(machine->platform);
    bus_free(machine->ports);
    bus_free(machine->mmio);
    kvm_routes_free(machine->routes);
    cleanup_close(&machine->vm_fd);
    huge_pages_free(machine->huge_pages);
    private_memory_free(machine->private);
    memory_destroy(&machine->memory);
    pthread_mutex_destroy(&machine->lock);
    free(machine);
}
