/* A guest that converts its memory between private and shared and looks at what it finds. */
#ifndef HUSK_TESTS_PAYLOAD_CONVERT_H
#define HUSK_TESTS_PAYLOAD_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE 4096ull

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* main.c */

/** say() - text on the serial port, then a number and a line break. */
void say(const char *text, uint64_t number);

/** fail() - say what is wrong and where, and switch off. */
void fail(const char *what, uint64_t where) __attribute__((noreturn));

/* disk.c */

/** disk_start() - the first virtio block device, by its ring; false if there is none. */
bool disk_start(void);

/** disk_move() - write to (@write) or read from sector @sector the 4096 bytes at @page. */
void disk_move(bool write, uint64_t sector, volatile void *page);

#endif
