/*
 * AML: what ACPI's definition blocks are made of (ACPI 6.5, chapter 20), and the resource descriptors in them (6.4).
 * Objects are appended in the order of their calls; what aml_scope(), aml_device(), aml_method(), aml_if() and
 * aml_package() open, aml_end() closes. Memory that runs out is remembered in the buffer.
 */
#ifndef HUSK_X86_ACPI_AML_H
#define HUSK_X86_ACPI_AML_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define AML_DEPTH_MAX 8

struct aml {
    struct buf *out;
    size_t open[AML_DEPTH_MAX]; /* where the length of each open object belongs */
    unsigned depth;
};

/* Names are paths of four-letter segments as ASL writes them: "_HID", "\\_SB_.PWRB". */
void aml_scope(struct aml *aml, const char *path);
void aml_device(struct aml *aml, const char *name);
void aml_method(struct aml *aml, const char *name, unsigned args, bool serialized);
void aml_if(struct aml *aml); /* its predicate follows */
void aml_package(struct aml *aml, uint8_t elements);
void aml_end(struct aml *aml);

/** aml_name() - Name(@name, ...): the value is appended next. */
void aml_name(struct aml *aml, const char *name);

/** aml_path() - a reference to a named object. */
void aml_path(struct aml *aml, const char *path);

void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);

/** aml_eisa_id() - a compressed id: three upper-case letters and four hexadecimal digits, "PNP0501". */
void aml_eisa_id(struct aml *aml, const char *id);

/** aml_region_io() - OperationRegion(@name, SystemIO, @port, @len). */
void aml_region_io(struct aml *aml, const char *name, uint16_t port, uint8_t len);

/** aml_field_byte() - Field(@region, ByteAcc, NoLock, Preserve) with one element of 8 bits. */
void aml_field_byte(struct aml *aml, const char *region, const char *element);

/** aml_and_local0() - And(Local0, @mask) as an expression. */
void aml_and_local0(struct aml *aml, uint64_t mask);

/** aml_store_local0() - Store(@path, Local0). */
void aml_store_local0(struct aml *aml, const char *path);

/** aml_notify() - Notify(@path, @value). */
void aml_notify(struct aml *aml, const char *path, uint8_t value);

/** aml_resources() - Name(_CRS, ResourceTemplate), made of @descriptors and an end tag. */
void aml_resources(struct aml *aml, const struct buf *descriptors);

/* Resource descriptors, appended to a buffer of their own. Ranges are [@min, @max], both ends within. */
enum aml_window { AML_WINDOW_MEMORY = 0, AML_WINDOW_IO = 1, AML_WINDOW_BUS = 2 };

/** res_window16(), res_window32(), res_window64() - what a bridge passes on: word, dword and qword address spaces. */
void res_window16(struct buf *b, enum aml_window kind, uint16_t min, uint16_t max);
void res_window32(struct buf *b, enum aml_window kind, uint32_t min, uint32_t max);
void res_window64(struct buf *b, enum aml_window kind, uint64_t min, uint64_t max);

/** res_io() - ports that a device decodes. */
void res_io(struct buf *b, uint16_t port, uint8_t len);

/** res_memory32() - memory that a device decodes. */
void res_memory32(struct buf *b, uint32_t base, uint32_t len);

/** res_interrupt_edge() - an edge-triggered, active-high GSI that is not shared. */
void res_interrupt_edge(struct buf *b, uint32_t gsi);

#endif
