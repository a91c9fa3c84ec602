/*
 * What the user asked for: one struct, filled by the option table from the command line or from JSON, read by the
 * rest. Sizes are bytes. Strings and arrays are owned by the struct.
 */
#ifndef HUSK_CONFIG_CONFIG_H
#define HUSK_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct string_list {
    char **items;
    size_t n;
};

/* An on or off that may be left open. */
enum switch_state { SWITCH_UNSET, SWITCH_OFF, SWITCH_ON };

/* Inherited descriptors. */
#define FD_LIST_MAX 32
struct fd_list {
    int fds[FD_LIST_MAX];
    size_t n;
};

/* A named item of fw_cfg's: the contents of a file, or text. */
struct fw_cfg_item_config {
    char *name;
    char *file;   /* path; exactly one of this and */
    char *string; /* this is given */
};

/* What the guest is told by fw_cfg; a switch that is unset is on. */
struct fw_cfg_config {
    bool disable; /* no such device */
    enum switch_state e820, kernel, cmdline, initramfs, acpi_table;
    struct fw_cfg_item_config *items;
    size_t n_items;
};

struct payload_config {
    char *firmware;       /* path, NULL if not given */
    bool firmware_is_elf; /* as machine_settle() found; no option */
    char *igvm;           /* path, NULL if not given */
    char *kernel;         /* path, NULL if not given */
    char *initramfs;      /* path */
    char *cmdline;
    char *host_data; /* 32 bytes in hexadecimal, NULL if not given */
    struct fw_cfg_config fw_cfg;
};

/* vCPU @vcpu may run on the host CPUs listed. */
struct cpu_affinity {
    uint32_t vcpu;
    uint32_t *host_cpus;
    size_t n_host_cpus;
};

enum core_scheduling { CORE_SCHEDULING_VM, CORE_SCHEDULING_VCPU, CORE_SCHEDULING_OFF };

struct cpu_topology {
    uint32_t threads_per_core, cores_per_die, dies_per_package, packages; /* all 0: not given */
};

struct cpus_config {
    uint32_t boot; /* vCPUs at start, 1 to 254 */
    uint32_t max;  /* >= boot; 0 until validated, then boot if not given */
    struct cpu_topology topology;
    struct cpu_affinity *affinity;
    size_t n_affinity;
    enum core_scheduling core_scheduling;
};

struct memory_config {
    uint64_t size;
    bool shared; /* accepted for compatibility: RAM is always one shared memfd */
    bool hugepages;
    uint64_t hugepage_size; /* 0: the system's default */
    bool thp;
    bool prefault;
    bool reserve;
};

enum console_mode {
    CONSOLE_OFF,
    CONSOLE_NULL,
    CONSOLE_TTY,
    CONSOLE_PTY,
    CONSOLE_FILE,
    CONSOLE_SOCKET,
};

struct console_config {
    enum console_mode mode;
    char *path;      /* of the file or socket */
    uint16_t iobase; /* --debug-console only */
};

/* Which machine's host bridge, ports and memory layout the guest finds. */
enum chipset { CHIPSET_AUTO, CHIPSET_Q35, CHIPSET_CLOUD_HYPERVISOR };

struct platform_config {
    enum chipset chipset;
    enum switch_state sev_snp; /* off: what an IGVM file has for SEV-SNP, in an ordinary guest */
    bool sw_protected;         /* private memory without encryption, for development */
    /* Of an SEV-SNP guest; NULL: not given. Numbers in decimal or, with 0x, in hexadecimal. */
    char *policy, *vmsa_features;
    char *gosvw;              /* 16 bytes in hexadecimal: workarounds that the guest is told of */
    char *certs;              /* path of the table of certificates */
    char *id_block, *id_auth; /* paths */
    bool author_key;          /* @id_auth has one */
    bool vcek_disabled;
    char *kernel_hashes;       /* "on", "off" or an address */
    char *system_manufacturer; /* SMBIOS strings; NULL if not given */
    char *system_product_name;
    char *system_version;
    char *system_serial_number;
    char *system_uuid; /* 8-4-4-4-12 hexadecimal digits */
    char *system_sku_number;
    char *system_family;
    char *chassis_asset_tag;
    struct string_list oem_strings;
};

/* Which bytes of a disk's file are locked against a second user of it. */
enum lock_granularity { LOCK_BYTE_RANGE, LOCK_FULL };

enum image_type { IMAGE_RAW, IMAGE_QCOW2, IMAGE_FIXED_VHD, IMAGE_VHDX };

/* A token bucket: @size units every @refill_time, and @one_time_burst more once. All 0: no limit. */
struct rate_limit_config {
    uint64_t size;
    uint64_t one_time_burst;
    uint64_t refill_time; /* milliseconds */
};

/* Either a file that a back-end of husk's serves, or the socket of somebody else's back-end. */
struct disk_config {
    char *path;
    char *socket; /* with @vhost_user */
    char *id;     /* unique among the devices; never NULL once validated */
    char *serial; /* NULL if not given */
    bool readonly;
    bool direct; /* around the host's page cache */
    bool vhost_user;
    uint32_t num_queues;
    uint32_t queue_size;
    enum lock_granularity lock_granularity;
    enum image_type image_type;
    struct rate_limit_config bandwidth; /* bytes */
    struct rate_limit_config ops;       /* requests */
};

/* Either a tap interface that a back-end of husk's serves, or the socket of somebody else's back-end. */
struct net_config {
    char *tap;           /* its name; NULL: one that husk makes, or @fds */
    struct fd_list fds;  /* queues of one that is open already */
    char *ip, *mask;     /* IPv4, of a tap that husk makes; NULL: none */
    char *mac;           /* the guest's; never NULL once validated */
    uint32_t mtu;        /* 0: not given */
    uint32_t num_queues; /* two for each pair */
    uint32_t queue_size;
    bool offload_tso, offload_ufo, offload_csum; /* what the guest is offered */
    bool vhost_user;
    char *socket;                       /* with @vhost_user */
    char *id;                           /* unique among the devices; never NULL once validated */
    struct rate_limit_config bandwidth; /* bytes, each way */
    struct rate_limit_config ops;       /* frames, each way */
};

/* A directory of the host's that another program serves, as virtiofsd. */
struct fs_config {
    char *tag;           /* what the guest mounts it by */
    char *socket;        /* on which that program listens */
    char *id;            /* unique among the devices; never NULL once validated */
    uint32_t num_queues; /* for requests, beside the one of high priority */
    uint32_t queue_size;
};

struct rng_config {
    char *src; /* where randomness is read; NULL: no such device */
};

struct vsock_config {
    uint32_t cid; /* the guest's address; 0: no such device */
    char *socket; /* that host programs connect to */
};

struct event_monitor_config {
    char *path; /* at most one of path and fd is given */
    int fd;     /* -1 if not given */
};

struct logging_config {
    char *file;
    int format;         /* enum log_format */
    uint32_t verbosity; /* number of -v */
};

enum landlock_rule_access { LANDLOCK_ACCESS_R, LANDLOCK_ACCESS_W, LANDLOCK_ACCESS_RW };

struct landlock_rule {
    char *path;
    int access; /* enum landlock_rule_access */
};

struct vm_config {
    struct payload_config payload;
    struct cpus_config cpus;
    struct memory_config memory;
    struct console_config serial;
    struct console_config console;
    struct console_config debug_console;
    struct platform_config platform;
    struct disk_config *disks;
    size_t n_disks;
    struct net_config *nets;
    size_t n_nets;
    struct fs_config *filesystems;
    size_t n_filesystems;
    struct rng_config rng;
    struct vsock_config vsock;
    struct event_monitor_config event_monitor;
    struct logging_config logging;
    int seccomp; /* enum seccomp_mode */
    bool landlock;
    struct landlock_rule *landlock_rules;
    size_t n_landlock_rules;
    bool pvpanic;
    bool no_shutdown;
    bool no_reboot;
};

#endif
