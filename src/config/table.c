/* Every option, once. Names, grammar and defaults are Cloud Hypervisor's where docs/options.md does not say otherwise. */
#include "config/table.h"
#include "base/log.h"
#include "config/options.h"
#include "sandbox/seccomp.h"

#include <limits.h>
#include <net/if.h>

#define AT(member) offsetof(struct vm_config, member)
#define REQUEST_AT(member) offsetof(struct config_request, member)
#define KEYS(array) .keys = (array), .n_keys = sizeof(array) / sizeof((array)[0])

/* Linux's PATH_MAX counts the NUL. */
#define PATH_BYTES .min = 1, .max = PATH_MAX - 1
/* Guest memory that still has room for a payload beside the first MiB. */
#define MEMORY_MIN (2ULL << 20)
/* 46 bits of guest-physical addresses, as many as 4-level paging maps. */
#define MEMORY_MAX (1ULL << 46)
/* One less than the 255 local APIC ids that can be used without x2APIC. */
#define VCPUS_MAX 254
#define SMBIOS_STRING .type = OPTION_STRING, .min = 1, .max = 255, .value = "<text>"

const char *const option_topic_titles[OPTION_TOPICS] = {
    [OPTION_TOPIC_BOOT] = "Boot",
    [OPTION_TOPIC_MACHINE] = "Machine",
    [OPTION_TOPIC_CONSOLES] = "Consoles",
    [OPTION_TOPIC_BEHAVIOUR] = "Life of the machine",
    [OPTION_TOPIC_MONITORING] = "Log and events",
    [OPTION_TOPIC_SANDBOX] = "Sandbox",
    [OPTION_TOPIC_CONFIG] = "Configuration and information",
};

static const struct option_key firmware_keys[] = {
    {.json = "firmware", .type = OPTION_STRING, .offset = AT(payload.firmware), PATH_BYTES},
};

static const struct option_key igvm_keys[] = {
    {.json = "igvm", .type = OPTION_STRING, .offset = AT(payload.igvm), PATH_BYTES},
};

static const struct option_key kernel_keys[] = {
    {.json = "kernel", .type = OPTION_STRING, .offset = AT(payload.kernel), PATH_BYTES},
};

static const struct option_key initramfs_keys[] = {
    {.json = "initramfs", .type = OPTION_STRING, .offset = AT(payload.initramfs), PATH_BYTES},
};

static const struct option_key host_data_keys[] = {
    {.json = "host_data",
     .type = OPTION_STRING,
     .offset = AT(payload.host_data),
     .min = 1,
     .max = 64},
};

static const struct option_key cmdline_keys[] = {
    {.json = "cmdline", .type = OPTION_STRING, .offset = AT(payload.cmdline), .max = 65535},
};

#define ITEM_AT(member) offsetof(struct fw_cfg_item_config, member)
/* fw_cfg's directory has room for names of 55 bytes, and husk's for 1,024 of them, of which it needs some itself. */
#define FW_CFG_NAME_MAX_BYTES 55
#define FW_CFG_ITEMS_MAX 1000

static const struct option_key fw_cfg_item_keys[] = {
    {.name = "name",
     .type = OPTION_STRING,
     .offset = ITEM_AT(name),
     .min = 1,
     .max = FW_CFG_NAME_MAX_BYTES},
    {.name = "file", .type = OPTION_STRING, .offset = ITEM_AT(file), PATH_BYTES},
    {.name = "string", .type = OPTION_STRING, .offset = ITEM_AT(string), .max = 65535},
};

static const struct option fw_cfg_items = {
    .name = "fw-cfg-config",
    .list = true,
    .list_offset = AT(payload.fw_cfg.items),
    .length_offset = AT(payload.fw_cfg.n_items),
    .item_size = sizeof(struct fw_cfg_item_config),
    .list_max = FW_CFG_ITEMS_MAX,
    KEYS(fw_cfg_item_keys),
};

#define TOLD(word, json_name, member, text)                                        \
    {                                                                              \
        .name = (word), .json = "fw_cfg_config." json_name, .type = OPTION_SWITCH, \
        .offset = AT(payload.fw_cfg.member), .shown_default = "on",                \
        .help = "the guest is told " text                                          \
    }

static const struct option_key fw_cfg_keys[] = {
    TOLD("e820", "e820", e820, "where its RAM is"),
    TOLD("kernel", "kernel", kernel, "the kernel"),
    TOLD("cmdline", "cmdline", cmdline, "the kernel's command line"),
    TOLD("initramfs", "initramfs", initramfs, "the initramfs"),
    TOLD("acpi_table", "acpi_tables", acpi_table, "the ACPI tables"),
    {.name = "items",
     .json = "fw_cfg_config.items.item_list",
     .type = OPTION_ITEMS,
     .items = &fw_cfg_items,
     .value = "[name=<name>,file=<file>:name=<name>,string=<text>:...]",
     .help = "and these items, as opt/org.example/a; at most 1000"},
    {.name = "disable",
     .json = "fw_cfg_config.disable",
     .type = OPTION_FLAG,
     .offset = AT(payload.fw_cfg.disable),
     .max = 1,
     .help = "no fw_cfg device at all"},
};

/* What the back-end's rings and the transport take. */
#define DISK_QUEUES_MAX 64
#define DISK_QUEUE_SIZE_MAX 1024
/* sockaddr_un.sun_path holds 108 bytes with the NUL. */
#define UNIX_PATH_MAX_BYTES 107
/* VIRTIO_BLK_ID_BYTES (virtio 1.2, 5.2.6) */
#define DISK_SERIAL_MAX 20

static const struct option_name core_scheduling_names[] = {
    [CORE_SCHEDULING_VM] = {"vm", "Vm"},
    [CORE_SCHEDULING_VCPU] = {"vcpu", "Vcpu"},
    [CORE_SCHEDULING_OFF] = {"off", "Off"},
    {NULL, NULL},
};

static const struct option_key cpus_keys[] = {
    {.name = "boot",
     .json = "boot_vcpus",
     .type = OPTION_U32,
     .offset = AT(cpus.boot),
     .initial = 1,
     .min = 1,
     .max = VCPUS_MAX,
     .value = "<number>",
     .help = "vCPUs the guest starts with, 1 to 254"},
    {.name = "max",
     .json = "max_vcpus",
     .type = OPTION_U32,
     .offset = AT(cpus.max),
     .min = 1,
     .max = VCPUS_MAX,
     .value = "<number>",
     .shown_default = "as boot",
     .help = "vCPUs the guest may have, boot to 254"},
    {.name = "topology",
     .type = OPTION_TOPOLOGY,
     .offset = AT(cpus.topology),
     .min = 1,
     .max = VCPUS_MAX,
     .value = "<threads>:<cores>:<dies>:<packages>",
     .help = "threads a core, cores a die, dies a package, packages; their product is max"},
    {.name = "affinity",
     .type = OPTION_AFFINITY,
     .offset = AT(cpus),
     .value = "[<vcpu>@[<host CPUs>],...]",
     .help = "host CPUs each vCPU may run on, as [0@[0-3,5],1@[2]]"},
    {.name = "core_scheduling",
     .type = OPTION_ENUM,
     .offset = AT(cpus.core_scheduling),
     .initial = CORE_SCHEDULING_VM,
     .names = core_scheduling_names,
     .help =
         "what may share a host core with a vCPU: vCPUs of this guest (vm), nothing else (vcpu), "
         "anything (off)"},
};

static const struct option_key memory_keys[] = {
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(memory.size),
     .initial = 512ULL << 20,
     .min = MEMORY_MIN,
     .max = MEMORY_MAX,
     .value = "<size>",
     .help = "guest RAM, 2M to 64T, a multiple of 4K"},
    {.name = "shared",
     .type = OPTION_BOOL,
     .offset = AT(memory.shared),
     .help = "accepted for compatibility: guest RAM is always one shared memory file"},
    {.name = "hugepages",
     .type = OPTION_BOOL,
     .offset = AT(memory.hugepages),
     .help = "take guest RAM from the host's huge page pool"},
    {.name = "hugepage_size",
     .type = OPTION_SIZE,
     .offset = AT(memory.hugepage_size),
     .min = 2ULL << 20,
     .max = 16ULL << 30,
     .value = "<size>",
     .shown_default = "the host's",
     .help = "which huge pages, as 2M or 1G; only with hugepages=on"},
    {.name = "thp",
     .type = OPTION_BOOL,
     .offset = AT(memory.thp),
     .initial = true,
     .help = "let the host use transparent huge pages"},
    {.name = "prefault",
     .type = OPTION_BOOL,
     .offset = AT(memory.prefault),
     .help = "touch all guest RAM before the guest starts"},
    {.name = "reserve",
     .type = OPTION_BOOL,
     .offset = AT(memory.reserve),
     .help = "reserve the memory when it is mapped, so that a shortage shows at start"},
};

static const struct option_name chipset_names[] = {
    [CHIPSET_AUTO] = {"auto", "Auto"},
    [CHIPSET_Q35] = {"q35", "Q35"},
    [CHIPSET_CLOUD_HYPERVISOR] = {"cloud-hypervisor", "CloudHypervisor"},
    {NULL, NULL},
};

#define SNP_TEXT(member) .type = OPTION_STRING, .offset = AT(platform.member), .min = 1, .max = 64

static const struct option_key platform_keys[] = {
    {.name = "chipset",
     .type = OPTION_ENUM,
     .offset = AT(platform.chipset),
     .initial = CHIPSET_AUTO,
     .names = chipset_names,
     .help =
         "which machine the guest finds: QEMU's q35, for firmware, or Cloud Hypervisor's, for a "
         "kernel that is started without firmware"},
    {.name = "sev_snp",
     .type = OPTION_SWITCH,
     .offset = AT(platform.sev_snp),
     .help = "isolate the guest with AMD SEV-SNP; off starts what an IGVM file has for SEV-SNP as "
             "an ordinary guest"},
    {.name = "sw_protected",
     .type = OPTION_BOOL,
     .offset = AT(platform.sw_protected),
     .help = "private memory by KVM alone, without encryption: for development; what is loaded at "
             "start is shared, the rest of RAM private"},
    {.name = "policy",
     SNP_TEXT(policy),
     .value = "<bits>",
     .shown_default = "the IGVM file's, else 0x30000",
     .help = "guest policy of SEV-SNP"},
    {.name = "vmsa_features",
     SNP_TEXT(vmsa_features),
     .value = "<bits>",
     .shown_default = "0x1",
     .help = "SEV_FEATURES of a guest that starts from firmware; an IGVM file says its own"},
    {.name = "kernel_hashes",
     SNP_TEXT(kernel_hashes),
     .value = "on|off|<address>",
     .shown_default = "on, where there is a kernel",
     .help = "put hashes of kernel, initramfs and cmdline into a measured page, where the firmware "
             "looks for them or "
             "at an address; on and an address replace those that an IGVM file has there"},
    {.name = "id_block",
     .type = OPTION_STRING,
     .offset = AT(platform.id_block),
     PATH_BYTES,
     .value = "<file>",
     .help =
         "ID block of 96 bytes, or in base64: which launch digest and policy the guest must have"},
    {.name = "id_auth",
     .type = OPTION_STRING,
     .offset = AT(platform.id_auth),
     PATH_BYTES,
     .value = "<file>",
     .help = "signatures and keys of the ID block, 4096 bytes, or in base64"},
    {.name = "author_key",
     .type = OPTION_BOOL,
     .offset = AT(platform.author_key),
     .help = "the ID key is signed by an author key"},
    {.name = "vcek_disabled",
     .type = OPTION_BOOL,
     .offset = AT(platform.vcek_disabled),
     .help = "no attestation report of the guest is signed with the processor's own key"},
    {.name = "certs",
     .type = OPTION_STRING,
     .offset = AT(platform.certs),
     PATH_BYTES,
     .value = "<file>",
     .help = "table of certificates, as snphost export makes it, for guests that ask for them with "
             "an attestation report"},
    {.name = "gosvw",
     SNP_TEXT(gosvw),
     .value = "<hex>",
     .shown_default = "none",
     .help = "workarounds that the guest's kernel is told of: 16 bytes of the OSVW registers"},
    {.name = "system_manufacturer",
     .offset = AT(platform.system_manufacturer),
     SMBIOS_STRING,
     .help = "SMBIOS system manufacturer"},
    {.name = "system_product_name",
     .offset = AT(platform.system_product_name),
     SMBIOS_STRING,
     .help = "SMBIOS product name"},
    {.name = "system_version",
     .offset = AT(platform.system_version),
     SMBIOS_STRING,
     .help = "SMBIOS system version"},
    {.name = "system_serial_number",
     .offset = AT(platform.system_serial_number),
     SMBIOS_STRING,
     .help = "SMBIOS system serial number"},
    {.name = "serial_number",
     .alias = true,
     .offset = AT(platform.system_serial_number),
     SMBIOS_STRING,
     .help = "older name of system_serial_number"},
    {.name = "system_uuid",
     .offset = AT(platform.system_uuid),
     SMBIOS_STRING,
     .help = "SMBIOS system UUID, as 123e4567-e89b-12d3-a456-426614174000"},
    {.name = "uuid",
     .alias = true,
     .offset = AT(platform.system_uuid),
     SMBIOS_STRING,
     .help = "older name of system_uuid"},
    {.name = "system_sku_number",
     .offset = AT(platform.system_sku_number),
     SMBIOS_STRING,
     .help = "SMBIOS SKU number"},
    {.name = "system_family",
     .offset = AT(platform.system_family),
     SMBIOS_STRING,
     .help = "SMBIOS system family"},
    {.name = "chassis_asset_tag",
     .offset = AT(platform.chassis_asset_tag),
     SMBIOS_STRING,
     .help = "SMBIOS chassis asset tag"},
    {.name = "oem_strings",
     .type = OPTION_STRINGS,
     .offset = AT(platform.oem_strings),
     .min = 1,
     .max = 32767,
     .value = "[<text>,...]",
     .help = "SMBIOS OEM strings, at most 255"},
};

#define MODE(word, json_name, mode, console, text)                                       \
    {                                                                                    \
        .name = (word), .json = (json_name), .type = OPTION_MODE, .offset = AT(console), \
        .initial = (mode), .help = (text)                                                \
    }
#define MODE_PATH(word, json_name, mode, console, text)                                       \
    {                                                                                         \
        .name = (word), .json = (json_name), .type = OPTION_MODE_PATH, .offset = AT(console), \
        .initial = (mode), .value = "<path>", PATH_BYTES, .help = (text)                      \
    }
/* The first one is the default. */
#define MODE_OFF(console) MODE("off", "Off", CONSOLE_OFF, console, "no such device")
#define MODE_NULL(console) \
    MODE("null", "Null", CONSOLE_NULL, console, "the device is there, its output is dropped")
#define MODES_TO_SOMEWHERE(console)                                                               \
    MODE("tty", "Tty", CONSOLE_TTY, console, "the terminal husk was started from"),               \
        MODE("pty", "Pty", CONSOLE_PTY, console, "a new pseudo-terminal; the log says which"),    \
        MODE_PATH("file", "File", CONSOLE_FILE, console, "write to this file, emptied at start"), \
        MODE_PATH("socket", "Socket", CONSOLE_SOCKET, console,                                    \
                  "listen on this UNIX socket; one client at a time")

static const struct option_key serial_keys[] = {
    MODE_NULL(serial),
    MODE_OFF(serial),
    MODES_TO_SOMEWHERE(serial),
};

static const struct option_key console_keys[] = {
    MODE_OFF(console),
    MODE_NULL(console),
    MODES_TO_SOMEWHERE(console),
};

static const struct option_key debug_console_keys[] = {
    MODE_OFF(debug_console),
    MODE_NULL(debug_console),
    MODES_TO_SOMEWHERE(debug_console),
    {.name = "iobase",
     .type = OPTION_PORT,
     .offset = AT(debug_console.iobase),
     .initial = 0xe9,
     .max = UINT16_MAX,
     .value = "<port>",
     .help = "the I/O port, in hexadecimal"},
};

static const struct option_key no_shutdown_keys[] = {
    {.json = "no_shutdown", .type = OPTION_FLAG, .offset = AT(no_shutdown), .max = 1},
};

static const struct option_key no_reboot_keys[] = {
    {.json = "no_reboot", .type = OPTION_FLAG, .offset = AT(no_reboot), .max = 1},
};

#define DISK_AT(member) offsetof(struct disk_config, member)

static const struct option_name lock_granularity_names[] = {
    [LOCK_BYTE_RANGE] = {"byte-range", "ByteRange"},
    [LOCK_FULL] = {"full", "Full"},
    {NULL, NULL},
};

static const struct option_name image_type_names[] = {
    [IMAGE_RAW] = {"raw", "Raw"},
    [IMAGE_QCOW2] = {"qcow2", "Qcow2"},
    [IMAGE_FIXED_VHD] = {"fixedvhd", "FixedVhd"},
    [IMAGE_VHDX] = {"vhdx", "Vhdx"},
    {NULL, NULL},
};

static const struct option_key disk_keys[] = {
    {.name = "path",
     .type = OPTION_STRING,
     .offset = DISK_AT(path),
     PATH_BYTES,
     .value = "<file>",
     .help = "the raw image or block device that holds the disk"},
    {.name = "readonly",
     .type = OPTION_BOOL,
     .offset = DISK_AT(readonly),
     .help = "the guest may not write to it"},
    {.name = "direct",
     .type = OPTION_BOOL,
     .offset = DISK_AT(direct),
     .help = "read and write around the host's page cache (O_DIRECT)"},
    {.name = "num_queues",
     .type = OPTION_U32,
     .offset = DISK_AT(num_queues),
     .initial = 1,
     .min = 1,
     .max = DISK_QUEUES_MAX,
     .value = "<number>",
     .help = "virtqueues, each served by a thread of its own, 1 to 64"},
    {.name = "queue_size",
     .type = OPTION_U32,
     .offset = DISK_AT(queue_size),
     .initial = 128,
     .min = 4,
     .max = DISK_QUEUE_SIZE_MAX,
     .value = "<number>",
     .help = "descriptors of a queue, a power of two, 4 to 1024"},
    {.name = "serial",
     .type = OPTION_STRING,
     .offset = DISK_AT(serial),
     .min = 1,
     .max = DISK_SERIAL_MAX,
     .value = "<text>",
     .help = "the disk's serial number, at most 20 bytes"},
    {.name = "id",
     .type = OPTION_STRING,
     .offset = DISK_AT(id),
     .min = 1,
     .max = 63,
     .value = "<name>",
     .shown_default = "_disk0, _disk1, ...",
     .help = "what messages and events call the disk"},
    {.name = "lock_granularity",
     .type = OPTION_ENUM,
     .offset = DISK_AT(lock_granularity),
     .initial = LOCK_BYTE_RANGE,
     .names = lock_granularity_names,
     .help = "which bytes of the file are locked against a second user: those it has now, or all "
             "there can ever be"},
    {.name = "image_type",
     .type = OPTION_ENUM,
     .offset = DISK_AT(image_type),
     .initial = IMAGE_RAW,
     .names = image_type_names,
     .help = "only raw is served by husk itself; for the others see vhost_user"},
    {.name = "bw_size",
     .json = "rate_limiter_config.bandwidth.size",
     .type = OPTION_SIZE,
     .offset = DISK_AT(bandwidth.size),
     .min = 1,
     .max = INT64_MAX,
     .value = "<size>",
     .shown_default = "no limit",
     .help = "bytes that may be moved in each bw_refill_time"},
    {.name = "bw_one_time_burst",
     .json = "rate_limiter_config.bandwidth.one_time_burst",
     .type = OPTION_SIZE,
     .offset = DISK_AT(bandwidth.one_time_burst),
     .min = 1,
     .max = INT64_MAX,
     .value = "<size>",
     .shown_default = "none",
     .help = "bytes that may be moved beyond the limit once, at the start"},
    {.name = "bw_refill_time",
     .json = "rate_limiter_config.bandwidth.refill_time",
     .type = OPTION_NUMBER,
     .offset = DISK_AT(bandwidth.refill_time),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<milliseconds>",
     .shown_default = "no limit",
     .help = "how long bw_size has to last"},
    {.name = "ops_size",
     .json = "rate_limiter_config.ops.size",
     .type = OPTION_NUMBER,
     .offset = DISK_AT(ops.size),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<number>",
     .shown_default = "no limit",
     .help = "requests that may be made in each ops_refill_time"},
    {.name = "ops_one_time_burst",
     .json = "rate_limiter_config.ops.one_time_burst",
     .type = OPTION_NUMBER,
     .offset = DISK_AT(ops.one_time_burst),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<number>",
     .shown_default = "none",
     .help = "requests that may be made beyond the limit once, at the start"},
    {.name = "ops_refill_time",
     .json = "rate_limiter_config.ops.refill_time",
     .type = OPTION_NUMBER,
     .offset = DISK_AT(ops.refill_time),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<milliseconds>",
     .shown_default = "no limit",
     .help = "how long ops_size has to last"},
    {.name = "vhost_user",
     .type = OPTION_BOOL,
     .offset = DISK_AT(vhost_user),
     .help = "another program's vhost-user back-end serves the disk, as qemu-storage-daemon; needs "
             "socket"},
    {.name = "socket",
     .json = "vhost_socket",
     .type = OPTION_STRING,
     .offset = DISK_AT(socket),
     .min = 1,
     .max = UNIX_PATH_MAX_BYTES,
     .value = "<socket>",
     .help = "the UNIX socket on which that program listens"},
};

static const char *const disk_keys_not_built[] = {
    "_disable_aio", "_disable_io_uring", "backing_files",    "iommu",  "pci_device_id",
    "pci_segment",  "queue_affinity",    "rate_limit_group", "sparse", NULL,
};

#define NET_AT(member) offsetof(struct net_config, member)

static const struct option_key net_keys[] = {
    {.name = "tap",
     .type = OPTION_STRING,
     .offset = NET_AT(tap),
     .min = 1,
     .max = IFNAMSIZ - 1,
     .value = "<name>",
     .shown_default = "the kernel's choice",
     .help = "the tap interface on the host; made, and gone with husk, if there is none of that "
             "name"},
    {.name = "ip",
     .type = OPTION_STRING,
     .offset = NET_AT(ip),
     .min = 7,
     .max = 15,
     .value = "<address>",
     .shown_default = "none",
     .help = "IPv4 address of a tap interface that husk makes: the host's end"},
    {.name = "mask",
     .type = OPTION_STRING,
     .offset = NET_AT(mask),
     .min = 7,
     .max = 15,
     .value = "<netmask>",
     .shown_default = "255.255.255.0",
     .help = "goes with ip"},
    {.name = "mac",
     .type = OPTION_STRING,
     .offset = NET_AT(mac),
     .min = 17,
     .max = 17,
     .value = "<address>",
     .shown_default = "a random one",
     .help = "MAC address of the guest's interface"},
    {.name = "mtu",
     .type = OPTION_U32,
     .offset = NET_AT(mtu),
     .min = 1280,
     .max = 65535,
     .value = "<bytes>",
     .shown_default = "the guest's choice",
     .help =
         "the largest packet: the guest is told, and a tap interface that husk opens is set so"},
    {.name = "num_queues",
     .type = OPTION_U32,
     .offset = NET_AT(num_queues),
     .initial = 2,
     .min = 2,
     .max = 2 * FD_LIST_MAX,
     .value = "<number>",
     .help = "virtqueues, two for each pair, each served by a thread of its own, 2 to 64"},
    {.name = "queue_size",
     .type = OPTION_U32,
     .offset = NET_AT(queue_size),
     .initial = 256,
     .min = 16,
     .max = 4096,
     .value = "<number>",
     .help = "descriptors of a queue, a power of two, 16 to 4096"},
    {.name = "id",
     .type = OPTION_STRING,
     .offset = NET_AT(id),
     .min = 1,
     .max = 63,
     .value = "<name>",
     .shown_default = "_net0, _net1, ...",
     .help = "what messages and events call the interface"},
    {.name = "fd",
     .json = "fds",
     .type = OPTION_FDS,
     .offset = NET_AT(fds),
     .min = 3,
     .max = INT_MAX,
     .value = "<number or [numbers]>",
     .shown_default = "none",
     .help = "inherited descriptors of a tap interface that is open already, one for each pair of "
             "queues"},
    {.name = "offload_tso",
     .type = OPTION_BOOL,
     .offset = NET_AT(offload_tso),
     .initial = 1,
     .help = "offer the guest segmentation of TCP"},
    {.name = "offload_ufo",
     .type = OPTION_BOOL,
     .offset = NET_AT(offload_ufo),
     .initial = 1,
     .help = "offer the guest fragmentation and segmentation of UDP"},
    {.name = "offload_csum",
     .type = OPTION_BOOL,
     .offset = NET_AT(offload_csum),
     .initial = 1,
     .help = "offer the guest checksums; off takes the other offloads with it"},
    {.name = "bw_size",
     .json = "rate_limiter_config.bandwidth.size",
     .type = OPTION_SIZE,
     .offset = NET_AT(bandwidth.size),
     .min = 1,
     .max = INT64_MAX,
     .value = "<size>",
     .shown_default = "no limit",
     .help = "bytes that may pass each way in each bw_refill_time"},
    {.name = "bw_one_time_burst",
     .json = "rate_limiter_config.bandwidth.one_time_burst",
     .type = OPTION_SIZE,
     .offset = NET_AT(bandwidth.one_time_burst),
     .min = 1,
     .max = INT64_MAX,
     .value = "<size>",
     .shown_default = "none",
     .help = "bytes that may pass beyond the limit once, at the start"},
    {.name = "bw_refill_time",
     .json = "rate_limiter_config.bandwidth.refill_time",
     .type = OPTION_NUMBER,
     .offset = NET_AT(bandwidth.refill_time),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<milliseconds>",
     .shown_default = "no limit",
     .help = "how long bw_size has to last"},
    {.name = "ops_size",
     .json = "rate_limiter_config.ops.size",
     .type = OPTION_NUMBER,
     .offset = NET_AT(ops.size),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<number>",
     .shown_default = "no limit",
     .help = "frames that may pass each way in each ops_refill_time"},
    {.name = "ops_one_time_burst",
     .json = "rate_limiter_config.ops.one_time_burst",
     .type = OPTION_NUMBER,
     .offset = NET_AT(ops.one_time_burst),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<number>",
     .shown_default = "none",
     .help = "frames that may pass beyond the limit once, at the start"},
    {.name = "ops_refill_time",
     .json = "rate_limiter_config.ops.refill_time",
     .type = OPTION_NUMBER,
     .offset = NET_AT(ops.refill_time),
     .min = 1,
     .max = UINT32_MAX,
     .value = "<milliseconds>",
     .shown_default = "no limit",
     .help = "how long ops_size has to last"},
    {.name = "vhost_user",
     .type = OPTION_BOOL,
     .offset = NET_AT(vhost_user),
     .help = "another program's vhost-user back-end moves the frames, as passt; needs socket"},
    {.name = "socket",
     .json = "vhost_socket",
     .type = OPTION_STRING,
     .offset = NET_AT(socket),
     .min = 1,
     .max = UNIX_PATH_MAX_BYTES,
     .value = "<socket>",
     .help = "the UNIX socket on which that program listens"},
};

static const char *const net_keys_not_built[] = {
    "host_mac", "iommu", "pci_device_id", "pci_segment", "vhost_mode", NULL,
};

/* virtio 1.2, 5.11.4: the tag's field, which need not end with a NUL. */
#define FS_TAG_BYTES 36
#define FS_QUEUES_MAX 63

#define FS_AT(member) offsetof(struct fs_config, member)

static const struct option_key fs_keys[] = {
    {.name = "tag",
     .type = OPTION_STRING,
     .offset = FS_AT(tag),
     .min = 1,
     .max = FS_TAG_BYTES,
     .value = "<name>",
     .help = "what the guest mounts it by: mount -t virtiofs <name> <directory>"},
    {.name = "socket",
     .type = OPTION_STRING,
     .offset = FS_AT(socket),
     .min = 1,
     .max = UNIX_PATH_MAX_BYTES,
     .value = "<socket>",
     .help = "the UNIX socket on which the program that serves it listens, as virtiofsd"},
    {.name = "num_queues",
     .type = OPTION_U32,
     .offset = FS_AT(num_queues),
     .initial = 1,
     .min = 1,
     .max = FS_QUEUES_MAX,
     .value = "<number>",
     .help = "virtqueues for requests; there is one of high priority besides"},
    {.name = "queue_size",
     .type = OPTION_U32,
     .offset = FS_AT(queue_size),
     .initial = 1024,
     .min = 4,
     .max = 1024,
     .value = "<number>",
     .help = "length of each virtqueue, a power of two"},
    {.name = "id",
     .type = OPTION_STRING,
     .offset = FS_AT(id),
     .min = 1,
     .max = 63,
     .value = "<name>",
     .shown_default = "_fs0, _fs1, ...",
     .help = "what messages and events call the device"},
};

static const char *const fs_keys_not_built[] = {"pci_device_id", "pci_segment", NULL};

static const struct option_key rng_keys[] = {
    {.name = "src",
     .type = OPTION_STRING,
     .offset = AT(rng.src),
     PATH_BYTES,
     .value = "<path>",
     .help = "a character device or pipe that gives random bytes, as /dev/urandom"},
};

static const char *const rng_keys_not_built[] = {
    "id", "iommu", "pci_device_id", "pci_segment", NULL,
};

static const struct option_key vsock_keys[] = {
    {.name = "cid",
     .type = OPTION_U32,
     .offset = AT(vsock.cid),
     .min = 3,
     .max = UINT32_MAX - 1,
     .value = "<number>",
     .shown_default = "no such device",
     .help = "the guest's address, from 3; host programs do not need it"},
    {.name = "socket",
     .type = OPTION_STRING,
     .offset = AT(vsock.socket),
     .min = 1,
     .max = UNIX_PATH_MAX_BYTES,
     .value = "<path>",
     .help =
         "the UNIX socket, made by husk, on which host programs say `CONNECT <port>`; the guest's "
         "own connections go to <path>_<port>"},
};

static const char *const vsock_keys_not_built[] = {
    "id", "iommu", "pci_device_id", "pci_segment", NULL,
};

static const struct option_key pvpanic_keys[] = {
    {.json = "pvpanic", .type = OPTION_FLAG, .offset = AT(pvpanic), .max = 1},
};

static const struct option_key event_monitor_keys[] = {
    {.name = "path",
     .type = OPTION_STRING,
     .offset = AT(event_monitor.path),
     PATH_BYTES,
     .value = "<path>",
     .help = "append the events to this file"},
    {.name = "fd",
     .type = OPTION_FD,
     .offset = AT(event_monitor.fd),
     .initial = (uint64_t)-1,
     .max = INT_MAX,
     .value = "<number>",
     .help = "write the events to this inherited descriptor"},
};

static const struct option_key log_file_keys[] = {
    {.json = "file", .type = OPTION_STRING, .offset = AT(logging.file), PATH_BYTES},
};

static const struct option_name log_format_names[] = {
    [LOG_FORMAT_TEXT] = {"text", "text"},
    [LOG_FORMAT_JSON] = {"json", "json"},
    {NULL, NULL},
};

static const struct option_key log_format_keys[] = {
    {.json = "format",
     .type = OPTION_ENUM,
     .offset = AT(logging.format),
     .initial = LOG_FORMAT_TEXT,
     .names = log_format_names},
};

static const struct option_key verbosity_keys[] = {
    {.json = "verbosity", .type = OPTION_COUNT, .offset = AT(logging.verbosity), .max = 100},
};

static const struct option_name seccomp_names[] = {
    [SECCOMP_OFF] = {"false", "False"},
    [SECCOMP_ON] = {"true", "True"},
    [SECCOMP_LOG] = {"log", "Log"},
    [SECCOMP_ERRNO] = {"errno", "Errno"},
    {NULL, NULL},
};

static const struct option_key seccomp_keys[] = {
    {.json = "seccomp",
     .type = OPTION_ENUM,
     .offset = AT(seccomp),
     .initial = SECCOMP_ON,
     .names = seccomp_names},
};

static const struct option_key landlock_keys[] = {
    {.json = "landlock_enable", .type = OPTION_FLAG, .offset = AT(landlock), .max = 1},
};

#define LANDLOCK_AT(member) offsetof(struct landlock_rule, member)

static const struct option_name landlock_access_names[] = {
    [LANDLOCK_ACCESS_R] = {"r", "r"},
    [LANDLOCK_ACCESS_W] = {"w", "w"},
    [LANDLOCK_ACCESS_RW] = {"rw", "rw"},
    {NULL, NULL},
};

static const struct option_key landlock_rules_keys[] = {
    {.name = "path",
     .type = OPTION_STRING,
     .offset = LANDLOCK_AT(path),
     PATH_BYTES,
     .value = "<path>",
     .help = "a file, or a folder with all that is below it"},
    {.name = "access",
     .type = OPTION_ENUM,
     .offset = LANDLOCK_AT(access),
     .initial = LANDLOCK_ACCESS_RW,
     .names = landlock_access_names,
     .help = "read, write, or both"},
};

static const struct option_key config_keys[] = {
    {.type = OPTION_STRING, .offset = REQUEST_AT(config_file), PATH_BYTES},
};

static const struct option_key print_config_keys[] = {
    {.type = OPTION_FLAG, .offset = REQUEST_AT(print_config), .max = 1},
};

static const struct option_key dry_run_keys[] = {
    {.type = OPTION_FLAG, .offset = REQUEST_AT(dry_run), .max = 1},
};

static const struct option_key json_keys[] = {
    {.type = OPTION_FLAG, .offset = REQUEST_AT(json), .max = 1},
};

static const struct option_key help_keys[] = {
    {.type = OPTION_FLAG, .offset = REQUEST_AT(help), .max = 1},
};

static const struct option_key version_keys[] = {
    {.type = OPTION_FLAG, .offset = REQUEST_AT(version), .max = 1},
};

const struct option option_table[] = {
    {.name = "firmware",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(firmware_keys),
     .value = "<file>",
     .help = "firmware to start in: an image that ends at 4 GiB, as OVMF, or a PVH ELF file; it is "
             "handed the kernel, if one is given"},
    {.name = "igvm",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(igvm_keys),
     .value = "<file>",
     .help = "IGVM file to start from, instead of firmware: it says what is loaded where and how "
             "the first processor starts"},
    {.name = "kernel",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(kernel_keys),
     .value = "<file>",
     .help = "kernel to boot: a bzImage, or an ELF file with a PVH entry point (vmlinux)"},
    {.name = "initramfs",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(initramfs_keys),
     .value = "<file>",
     .help = "initial RAM disk for the kernel"},
    {.name = "cmdline",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(cmdline_keys),
     .value = "<text>",
     .shown_default = "empty",
     .help = "the kernel's command line"},
    {.name = "host-data",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(host_data_keys),
     .value = "<hex>",
     .help = "32 bytes that an SEV-SNP guest's attestation reports show, unmeasured, as 64 digits"},
    {.name = "fw-cfg-config",
     .topic = OPTION_TOPIC_BOOT,
     .json = "payload",
     KEYS(fw_cfg_keys),
     .needs_key = true,
     .help = "what firmware, or a kernel with qemu_fw_cfg, is told by the fw_cfg device; without "
             "firmware, there is one only with this option"},
    {.name = "cpus",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "cpus",
     KEYS(cpus_keys),
     .help = "the guest's processors"},
    {.name = "memory",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "memory",
     KEYS(memory_keys),
     .help = "the guest's RAM"},
    {.name = "platform",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "platform",
     KEYS(platform_keys),
     .help = "what isolates the guest, and what it finds in its SMBIOS tables"},
    {.name = "disk",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "disks",
     .list = true,
     .list_offset = AT(disks),
     .length_offset = AT(n_disks),
     .item_size = sizeof(struct disk_config),
     KEYS(disk_keys),
     .keys_not_built = disk_keys_not_built,
     .help = "a virtio disk; given once for each disk, or once with several values"},
    {.name = "net",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "net",
     .list = true,
     .list_offset = AT(nets),
     .length_offset = AT(n_nets),
     .item_size = sizeof(struct net_config),
     KEYS(net_keys),
     .keys_not_built = net_keys_not_built,
     .help = "a virtio network interface; given once for each, or once with several values"},
    {.name = "fs",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "fs",
     .list = true,
     .list_offset = AT(filesystems),
     .length_offset = AT(n_filesystems),
     .item_size = sizeof(struct fs_config),
     KEYS(fs_keys),
     .keys_not_built = fs_keys_not_built,
     .help = "a directory of the host's that another program serves, as virtiofsd; given once for "
             "each, or once with several values"},
    {.name = "rng",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "rng",
     KEYS(rng_keys),
     .keys_not_built = rng_keys_not_built,
     .needs_key = true,
     .help = "a virtio random number generator (/dev/hwrng)"},
    {.name = "vsock",
     .topic = OPTION_TOPIC_MACHINE,
     .json = "vsock",
     KEYS(vsock_keys),
     .keys_not_built = vsock_keys_not_built,
     .needs_key = true,
     .help = "virtio sockets: streams between programs of the guest and of the host"},
    {.name = "pvpanic",
     .topic = OPTION_TOPIC_MACHINE,
     KEYS(pvpanic_keys),
     .help = "give the guest a pvpanic device, by which it reports a kernel panic"},
    {.name = "serial",
     .topic = OPTION_TOPIC_CONSOLES,
     .json = "serial",
     KEYS(serial_keys),
     .needs_key = true,
     .help = "the serial port, a 16550 at I/O port 0x3f8 (ttyS0)"},
    {.name = "console",
     .topic = OPTION_TOPIC_CONSOLES,
     .json = "console",
     KEYS(console_keys),
     .needs_key = true,
     .help = "the virtio console (hvc0)"},
    {.name = "debug-console",
     .topic = OPTION_TOPIC_CONSOLES,
     .json = "debug_console",
     KEYS(debug_console_keys),
     .needs_key = true,
     .help = "an I/O port whose bytes are output as they are written, for firmware"},
    {.name = "no-shutdown",
     .topic = OPTION_TOPIC_BEHAVIOUR,
     KEYS(no_shutdown_keys),
     .help = "stay when the guest has switched itself off"},
    {.name = "no-reboot",
     .topic = OPTION_TOPIC_BEHAVIOUR,
     KEYS(no_reboot_keys),
     .help = "end when the guest asks for a reset, with exit status 3, instead of restarting it"},
    {.name = "event-monitor",
     .topic = OPTION_TOPIC_MONITORING,
     .json = "event_monitor",
     KEYS(event_monitor_keys),
     .needs_key = true,
     .help = "report what happens to the machine, as JSON; path or fd"},
    {.name = "log-file",
     .topic = OPTION_TOPIC_MONITORING,
     .json = "logging",
     KEYS(log_file_keys),
     .value = "<file>",
     .shown_default = "standard error",
     .help = "append the log to this file"},
    {.name = "log-format",
     .topic = OPTION_TOPIC_MONITORING,
     .json = "logging",
     KEYS(log_format_keys),
     .help = "lines for people, or one JSON object a line"},
    {.letter = 'v',
     .topic = OPTION_TOPIC_MONITORING,
     .json = "logging",
     KEYS(verbosity_keys),
     .help = "log more: -v what happens, -vv everything"},
    {.name = "seccomp",
     .topic = OPTION_TOPIC_SANDBOX,
     KEYS(seccomp_keys),
     .help = "what a system call that a process of husk's has no use for does: end that process "
             "(true), "
             "be carried out (false), the same and be logged by the kernel (log), or fail (errno)"},
    {.name = "landlock",
     .topic = OPTION_TOPIC_SANDBOX,
     KEYS(landlock_keys),
     .help =
         "let the kernel refuse every path to husk itself too, but those that the options name"},
    {.name = "landlock-rules",
     .topic = OPTION_TOPIC_SANDBOX,
     .json = "landlock_rules",
     .list = true,
     .list_offset = AT(landlock_rules),
     .length_offset = AT(n_landlock_rules),
     .item_size = sizeof(struct landlock_rule),
     KEYS(landlock_rules_keys),
     .needs_key = true,
     .help = "one more path for --landlock; may be given several times"},
    {.name = "config",
     .topic = OPTION_TOPIC_CONFIG,
     .request = true,
     KEYS(config_keys),
     .value = "<file>",
     .help = "read a configuration in JSON first; an option given beside it replaces what the "
             "file says for that option"},
    {.name = "print-config",
     .topic = OPTION_TOPIC_CONFIG,
     .request = true,
     KEYS(print_config_keys),
     .help = "check the configuration, write it as JSON on standard output, and end"},
    {.name = "dry-run",
     .topic = OPTION_TOPIC_CONFIG,
     .request = true,
     KEYS(dry_run_keys),
     .help = "write the launch plan on standard output, which is all that the guest would start "
             "with, and end; needs no KVM"},
    {.name = "json",
     .topic = OPTION_TOPIC_CONFIG,
     .request = true,
     KEYS(json_keys),
     .help = "with --dry-run: the plan as JSON"},
    {.name = "help",
     .letter = 'h',
     .topic = OPTION_TOPIC_CONFIG,
     .request = true,
     KEYS(help_keys),
     .help = "this text"},
    {.name = "version",
     .letter = 'V',
     .topic = OPTION_TOPIC_CONFIG,
     .request = true,
     KEYS(version_keys),
     .help = "the version of husk"},
};

const size_t option_table_len = sizeof(option_table) / sizeof(option_table[0]);

const char *const options_not_built[] = {
    "api-socket",
    "balloon",
    "dbus-object-path",
    "dbus-service-name",
    "dbus-system-bus",
    "device",
    "gdb",
    "generic-vhost-user",
    "ivshmem",
    "memory-zone",
    "numa",
    "pci-segment",
    "pmem",
    "pvmemcontrol",
    "rate-limit-group",
    "restore",
    "tpm",
    "user-device",
    "vdpa",
    "watchdog",
    NULL,
};
