/*
 * The Independent Guest Virtual Machine (IGVM) file format, versions 1 and 2: numbers and structures as the published
 * definitions have them (github.com/microsoft/igvm, igvm_defs). All values are little-endian.
 *
 * A file is a fixed header, variable headers (type, length, value, each padded to 8 bytes), and file data that some
 * headers point into.
 */
#ifndef IGVM_DEFS_H
#define IGVM_DEFS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IGVM_MAGIC_VALUE 0x4D564749 /* "IGVM" */
#define IGVM_FORMAT_VERSION_1 1
#define IGVM_FORMAT_VERSION_2 2
#define IGVM_PAGE_SIZE_4K 4096

#define IGVM_NATIVE_PLATFORM_VERSION 1
#define IGVM_VSM_ISOLATION_PLATFORM_VERSION 1
#define IGVM_SEV_SNP_PLATFORM_VERSION 1
#define IGVM_TDX_PLATFORM_VERSION 1
#define IGVM_SEV_PLATFORM_VERSION 1
#define IGVM_SEV_ES_PLATFORM_VERSION 1
#define IGVM_CCA_PLATFORM_VERSION 1

/* Ranges of header types, first and last. */
#define IGVM_VHT_RANGE_PLATFORM_START 0x1
#define IGVM_VHT_RANGE_PLATFORM_END 0x100
#define IGVM_VHT_RANGE_INIT_START 0x101
#define IGVM_VHT_RANGE_INIT_END 0x200
#define IGVM_VHT_RANGE_DIRECTIVE_START 0x301
#define IGVM_VHT_RANGE_DIRECTIVE_END 0x400
/* A header with this bit in its type may be ignored by a loader that does not know it. */
#define IGVM_VHT_OPTIONAL 0x80000000u

/* Flags of IGVM_VHS_RELOCATABLE_REGION. */
#define IGVM_VHF_RELOCATABLE_REGION_IS_VTL2 1
#define IGVM_VHF_RELOCATABLE_REGION_APPLY_PC 2
#define IGVM_VHF_RELOCATABLE_REGION_APPLY_RIP IGVM_VHF_RELOCATABLE_REGION_APPLY_PC
#define IGVM_VHF_RELOCATABLE_REGION_APPLY_GDTR 4

enum IgvmArchitecture {
    IGVM_ARCHITECTURE_X64 = 0,
    IGVM_ARCHITECTURE_AARCH64 = 1,
};
typedef uint32_t IgvmArchitecture;

enum IgvmVariableHeaderType {
    IGVM_INVALID = 0,
    IGVM_VHT_SUPPORTED_PLATFORM = 0x1,
    IGVM_VHT_GUEST_POLICY = 0x101,
    IGVM_VHT_RELOCATABLE_REGION = 0x102,
    IGVM_VHT_PAGE_TABLE_RELOCATION_REGION = 0x103,
    IGVM_VHT_CORIM_DOCUMENT = 0x104,
    IGVM_VHT_CORIM_SIGNATURE = 0x105,
    IGVM_VHT_CCA_POLICY = 0x106,
    IGVM_VHT_PARAMETER_AREA = 0x301,
    IGVM_VHT_PAGE_DATA = 0x302,
    IGVM_VHT_PARAMETER_INSERT = 0x303,
    IGVM_VHT_VP_CONTEXT = 0x304,
    IGVM_VHT_REQUIRED_MEMORY = 0x305,
    IGVM_RESERVED_DO_NOT_USE = 0x306,
    IGVM_VHT_VP_COUNT_PARAMETER = 0x307,
    IGVM_VHT_SRAT = 0x308,
    IGVM_VHT_MADT = 0x309,
    IGVM_VHT_MMIO_RANGES = 0x30A,
    IGVM_VHT_SNP_ID_BLOCK = 0x30B,
    IGVM_VHT_MEMORY_MAP = 0x30C,
    IGVM_VHT_ERROR_RANGE = 0x30D,
    IGVM_VHT_COMMAND_LINE = 0x30E,
    IGVM_VHT_SLIT = 0x30F,
    IGVM_VHT_PPTT = 0x310,
    IGVM_VHT_VBS_MEASUREMENT = 0x311,
    IGVM_VHT_DEVICE_TREE = 0x312,
    IGVM_VHT_ENVIRONMENT_INFO_PARAMETER = 0x313,
};
typedef uint32_t IgvmVariableHeaderType;

enum IgvmPlatformType {
    IGVM_PLATFORM_TYPE_NATIVE = 0,
    IGVM_PLATFORM_TYPE_VSM_ISOLATION = 1,
    IGVM_PLATFORM_TYPE_SEV_SNP = 2,
    IGVM_PLATFORM_TYPE_TDX = 3,
    IGVM_PLATFORM_TYPE_SEV = 4,
    IGVM_PLATFORM_TYPE_SEV_ES = 5,
    IGVM_PLATFORM_TYPE_CCA = 6,
};
typedef uint8_t IgvmPlatformType;

enum IgvmPageDataType {
    IGVM_PAGE_DATA_TYPE_NORMAL = 0,
    IGVM_PAGE_DATA_TYPE_SECRETS = 1,
    IGVM_PAGE_DATA_TYPE_CPUID_DATA = 2,
    IGVM_PAGE_DATA_TYPE_CPUID_XF = 3,
};
typedef uint16_t IgvmPageDataType;

enum IgvmMemoryMapEntryType {
    IGVM_MEMORY_MAP_ENTRY_TYPE_MEMORY = 0,
    IGVM_MEMORY_MAP_ENTRY_TYPE_PLATFORM_RESERVED = 1,
    IGVM_MEMORY_MAP_ENTRY_TYPE_PERSISTENT = 2,
    IGVM_MEMORY_MAP_ENTRY_TYPE_VTL2_PROTECTABLE = 3,
    IGVM_MEMORY_MAP_ENTRY_TYPE_SPECIFIC_PURPOSE = 4,
    IGVM_MEMORY_MAP_ENTRY_TYPE_HIDDEN = 5,
};
typedef uint16_t IgvmMemoryMapEntryType;

typedef uint64_t IGVM_U64_LE;
typedef uint32_t IGVM_U32_LE;

/* A struct of flags as the number it is in the file. */
#define IGVM_UINT32_FLAGS_VALUE(x) (*((uint32_t *)&(x)))

typedef struct IGVM_FIXED_HEADER {
    uint32_t magic;
    uint32_t format_version;
    uint32_t variable_header_offset; /* a multiple of 8 */
    uint32_t variable_header_size;
    uint32_t total_file_size;
    uint32_t checksum; /* CRC-32 of the fixed header, this field 0, and the variable headers */
} IGVM_FIXED_HEADER;

typedef struct IGVM_FIXED_HEADER_V2 {
    uint32_t magic;
    uint32_t format_version;
    uint32_t variable_header_offset;
    uint32_t variable_header_size;
    uint32_t total_file_size;
    uint32_t checksum;
    IgvmArchitecture architecture;
    uint32_t page_size;
} IGVM_FIXED_HEADER_V2;

typedef struct IGVM_VHS_VARIABLE_HEADER {
    IgvmVariableHeaderType typ;
    uint32_t length; /* of what follows, without the padding */
} IGVM_VHS_VARIABLE_HEADER;

typedef struct IGVM_VHS_SUPPORTED_PLATFORM {
    uint32_t compatibility_mask; /* one bit */
    uint8_t highest_vtl;
    IgvmPlatformType platform_type;
    uint16_t platform_version;
    uint64_t shared_gpa_boundary;
} IGVM_VHS_SUPPORTED_PLATFORM;

typedef struct IGVM_VHS_GUEST_POLICY {
    uint64_t policy;
    uint32_t compatibility_mask;
    uint32_t reserved;
} IGVM_VHS_GUEST_POLICY;

typedef struct IgvmSnpPolicy {
    uint64_t abi_minor : 8;
    uint64_t abi_major : 8;
    uint64_t smt : 1;
    uint64_t reserved_must_be_one : 1;
    uint64_t migrate_ma : 1;
    uint64_t debug : 1;
    uint64_t single_socket : 1;
    uint64_t reserved : 43;
} IgvmSnpPolicy;

typedef struct IgvmTdxPolicy {
    uint64_t debug_allowed : 1;
    uint64_t sept_ve_disable : 1;
    uint64_t migratable : 1;
    uint64_t reserved : 61;
} IgvmTdxPolicy;

typedef struct IGVM_VHS_RELOCATABLE_REGION {
    uint32_t compatibility_mask;
    uint16_t vp_index;
    uint8_t vtl;
    uint8_t flags;
    uint64_t relocation_alignment;
    uint64_t relocation_region_gpa;
    uint64_t relocation_region_size;
    uint64_t minimum_relocation_gpa;
    uint64_t maximum_relocation_gpa;
} IGVM_VHS_RELOCATABLE_REGION;

typedef struct IGVM_VHS_PAGE_TABLE_RELOCATION {
    uint32_t compatibility_mask;
    uint16_t vp_index;
    uint8_t vtl;
    uint8_t reserved;
    uint64_t gpa;
    uint64_t size;
    uint64_t used_size;
} IGVM_VHS_PAGE_TABLE_RELOCATION;

/* A CoRIM document, or the COSE_Sign1 structure over it: bytes in the file data. */
typedef struct IGVM_VHS_CORIM_DATA {
    uint32_t compatibility_mask;
    uint32_t file_offset;
    uint32_t size_bytes;
    uint32_t reserved;
} IGVM_VHS_CORIM_DATA;
typedef IGVM_VHS_CORIM_DATA IGVM_VHS_CORIM_DOCUMENT;
typedef IGVM_VHS_CORIM_DATA IGVM_VHS_CORIM_SIGNATURE;

typedef struct IGVM_VHS_CCA_POLICY {
    uint32_t compatibility_mask;
    uint32_t reserved;
    uint64_t attributes_required_zeroes;
    uint64_t attributes_required_ones;
    uint8_t hash_algorithm;
    uint8_t lfa_policy;
    uint8_t reserved2[6];
} IGVM_VHS_CCA_POLICY;

typedef struct IGVM_VHS_PARAMETER_AREA {
    uint64_t number_of_bytes;
    uint32_t parameter_area_index;
    uint32_t file_offset; /* of its initial contents; 0: zeros */
} IGVM_VHS_PARAMETER_AREA;

typedef struct IgvmEnvironmentInfo {
    uint32_t memory_is_shared : 1;
    uint32_t reserved : 31;
} IgvmEnvironmentInfo;

typedef struct IgvmPageDataFlags {
    uint32_t is_2mb_page : 1;
    uint32_t unmeasured : 1;
    uint32_t shared : 1;
    uint32_t reserved : 29;
} IgvmPageDataFlags;

typedef struct IGVM_VHS_PAGE_DATA {
    uint64_t gpa;
    uint32_t compatibility_mask;
    uint32_t file_offset; /* from the start of the file; 0: a page of zeros */
    IgvmPageDataFlags flags;
    IgvmPageDataType data_type;
    uint16_t reserved;
} IGVM_VHS_PAGE_DATA;

typedef struct IGVM_VHS_PARAMETER_INSERT {
    uint64_t gpa;
    uint32_t compatibility_mask;
    uint32_t parameter_area_index;
} IGVM_VHS_PARAMETER_INSERT;

/* What VP count, SRAT, MADT, SLIT, PPTT, MMIO ranges, memory map, command line, device tree and environment have. */
typedef struct IGVM_VHS_PARAMETER {
    uint32_t parameter_area_index;
    uint32_t byte_offset;
} IGVM_VHS_PARAMETER;

/* 20 bytes in the file, which then pads them to 24: what this struct has behind reserved is the padding. */
#define IGVM_VHS_VP_CONTEXT_LENGTH 20
typedef struct IGVM_VHS_VP_CONTEXT {
    IGVM_U64_LE gpa;
    uint32_t compatibility_mask;
    uint32_t file_offset;
    uint16_t vp_index;
    uint16_t reserved;
} IGVM_VHS_VP_CONTEXT;

typedef struct IGVM_VHS_ERROR_RANGE {
    uint64_t gpa;
    uint32_t compatibility_mask;
    uint32_t size_bytes;
} IGVM_VHS_ERROR_RANGE;

/* Start of the 4 KiB of file data of a VP context for the native and SEV platforms; the rest is zero. */
typedef struct IgvmNativeVpContextX64 {
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip;
    uint64_t rflags;
    uint64_t idtr_base;
    uint16_t idtr_limit;
    uint16_t reserved[2];
    uint16_t gdtr_limit;
    uint64_t gdtr_base;
    uint16_t code_selector;
    uint16_t code_attributes; /* bits 11:8 zero */
    uint32_t code_base;
    uint32_t code_limit;
    uint16_t data_selector;
    uint16_t data_attributes; /* bits 11:8 zero */
    uint32_t data_base;
    uint32_t data_limit;
    uint64_t gs_base;
    uint64_t cr0, cr3, cr4;
    uint64_t efer;
} IgvmNativeVpContextX64;

/* File data of a VP context for VBS: this, then register_count registers. */
typedef struct IgvmVbsVpContextHeader {
    uint32_t register_count;
} IgvmVbsVpContextHeader;

typedef struct __attribute__((packed)) IgvmVbsVpContextRegister {
    uint8_t vtl;
    uint32_t register_name;
    uint8_t mbz[11];
    uint8_t register_value[16];
} IgvmVbsVpContextRegister;

typedef struct IgvmRequiredMemoryFlags {
    uint32_t vtl2_protectable : 1;
    uint32_t reserved : 31;
} IgvmRequiredMemoryFlags;

typedef struct IGVM_VHS_REQUIRED_MEMORY {
    uint64_t gpa;
    uint32_t compatibility_mask;
    uint32_t number_of_bytes;
    IgvmRequiredMemoryFlags flags;
    uint32_t reserved;
} IGVM_VHS_REQUIRED_MEMORY;

typedef struct IGVM_VHS_MEMORY_RANGE {
    uint64_t starting_gpa_page_number;
    uint64_t number_of_pages;
} IGVM_VHS_MEMORY_RANGE;

/* What a loader writes for IGVM_VHT_MMIO_RANGES. */
typedef struct IGVM_VHS_MMIO_RANGES {
    IGVM_VHS_MEMORY_RANGE mmio_ranges[2];
} IGVM_VHS_MMIO_RANGES;

typedef struct IGVM_VHS_SNP_ID_BLOCK_SIGNATURE {
    uint8_t r_comp[72]; /* little-endian */
    uint8_t s_comp[72];
} IGVM_VHS_SNP_ID_BLOCK_SIGNATURE;

typedef struct IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY {
    uint32_t curve;
    uint32_t reserved;
    uint8_t qx[72];
    uint8_t qy[72];
} IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY;

typedef struct IGVM_VHS_SNP_ID_BLOCK {
    uint32_t compatibility_mask;
    uint8_t author_key_enabled;
    uint8_t reserved[3];
    uint8_t ld[48];
    uint8_t family_id[16];
    uint8_t image_id[16];
    uint32_t version;
    uint32_t guest_svn;
    uint32_t id_key_algorithm;
    uint32_t author_key_algorithm;
    IGVM_VHS_SNP_ID_BLOCK_SIGNATURE id_key_signature;
    IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY id_public_key;
    IGVM_VHS_SNP_ID_BLOCK_SIGNATURE author_key_signature;
    IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY author_public_key;
} IGVM_VHS_SNP_ID_BLOCK;

typedef struct IGVM_VHS_VBS_MEASUREMENT {
    uint32_t compatibility_mask;
    uint32_t version;
    uint32_t product_id;
    uint32_t module_id;
    uint32_t security_version;
    uint32_t policy_flags;
    uint32_t boot_digest_algo;
    uint32_t signing_algo;
    uint8_t boot_measurement_digest[64];
    uint8_t signature[256];
    uint8_t public_key[512];
} IGVM_VHS_VBS_MEASUREMENT;

typedef struct IgvmMemoryMapEntryFlags {
    uint16_t is_shared : 1;
    uint16_t reserved : 15;
} IgvmMemoryMapEntryFlags;

/* What a loader writes for IGVM_VHT_MEMORY_MAP: an array, sorted, that ends with number_of_pages 0. */
typedef struct IGVM_VHS_MEMORY_MAP_ENTRY {
    uint64_t starting_gpa_page_number;
    uint64_t number_of_pages;
    IgvmMemoryMapEntryType entry_type;
    uint16_t flags;
    uint32_t reserved;
} IGVM_VHS_MEMORY_MAP_ENTRY;

#ifdef __cplusplus
}
#endif

#endif
