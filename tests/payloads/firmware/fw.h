/* What the files of the test firmware share: ports, the debug port, fw_cfg. */
#ifndef FW_H
#define FW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void insb(uint16_t port, void *to, uint32_t len)
{
    __asm__ volatile("rep insb" : "+D"(to), "+c"(len) : "d"(port) : "memory");
}

static inline uint32_t be32(uint32_t value)
{
    return __builtin_bswap32(value);
}

/* report.c */
void say(const char *text);
void say_hex(const char *name, uint64_t value);
void end_line(void);
/** fail() - one line that begins with FAIL; the machine is switched off at the end all the same. */
void fail(const char *what, uint64_t value);
bool has_failed(void);
bool same(const void *a, const void *b, uint32_t len);
bool same_text(const char *a, const char *b);
uint32_t crc32(const void *bytes, uint32_t len);

/* fw_cfg.c */
#define KEY_SIGNATURE 0x00
#define KEY_ID 0x01
#define KEY_RAM_SIZE 0x03
#define KEY_NB_CPUS 0x05
#define KEY_KERNEL_SIZE 0x08
#define KEY_INITRD_SIZE 0x0b
#define KEY_MAX_CPUS 0x0f
#define KEY_KERNEL_DATA 0x11
#define KEY_INITRD_DATA 0x12
#define KEY_CMDLINE_SIZE 0x14
#define KEY_CMDLINE_DATA 0x15
#define KEY_SETUP_SIZE 0x17
#define KEY_SETUP_DATA 0x18
#define KEY_DIRECTORY 0x19

#define DMA_ERROR 1u
#define DMA_READ 2u
#define DMA_SKIP 4u
#define DMA_SELECT 8u
#define DMA_WRITE 16u

struct file {
    uint32_t size; /* big-endian in the directory, turned here */
    uint16_t key;
    char name[56];
};

/** dma() - one command; returns the control word that is left of it. */
uint32_t dma(uint32_t control, uint32_t len, uint32_t address);
void select_key(uint16_t key);
void read_ports(void *to, uint32_t len);
/** fetch() - @len bytes of @key to @to by DMA, compared with the same by the ports. */
bool fetch(uint16_t key, void *to, uint32_t len, const char *name);
uint32_t read_number(uint16_t key, uint32_t len);
uint32_t n_files(void);
bool file_at(uint32_t index, struct file *file);
bool find_file(const char *name, struct file *file);

/* walk.c, acpi.c */
void walk_items(void);
void try_bad_dma(void);
/** run_loader() - etc/table-loader; returns where the RSDP went, 0 if that failed. */
uint32_t run_loader(void);
/** check_tables() - all from the RSDP on; returns the sleep control port, 0 if there is none. */
uint32_t check_tables(uint32_t rsdp, uint32_t ecam);

/* Memory that is put to use. */
#define COPY_AT 0x01000000u  /* what is fetched */
#define OTHER_AT 0x02000000u /* the same by ports */
#define HEAP_AT 0x00200000u  /* the table loader's, upwards */
#define FSEG_AT 0x70000u     /* for what is to be below 1 MiB */

#endif
