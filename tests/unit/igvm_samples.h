/* IGVM files for tests, written byte by byte with no code of libigvm. */
#ifndef HUSK_TESTS_IGVM_SAMPLES_H
#define HUSK_TESTS_IGVM_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#define SAMPLE_HEADERS_MAX 64

/* A file in the making. Data offsets in payloads are given from the start of the file data, as that is not fixed yet:
 * sample_finish() adds where it starts to each that was noted. */
struct sample {
    uint32_t version, architecture;
    uint8_t var[32768];
    size_t var_len;
    uint8_t data[65536];
    size_t data_len;
    size_t offset_fields[SAMPLE_HEADERS_MAX]; /* in var */
    size_t n_offset_fields;
    uint32_t types[SAMPLE_HEADERS_MAX];
    size_t starts[SAMPLE_HEADERS_MAX]; /* in var */
    size_t n;
};

/* Values of any width, put behind each other, little-endian. */
struct payload {
    uint8_t bytes[1024];
    size_t len;
};

void put(struct payload *p, unsigned width, uint64_t value);
void put_fill(struct payload *p, uint8_t value, size_t n);

/** sample_add() - a header; @data_at is where its file_offset stands, -1 for none. */
void sample_add(struct sample *s, uint32_t type, const struct payload *p, int data_at);

/** sample_data() - file data of @len bytes of @fill; returns its offset in the file data. */
uint32_t sample_data(struct sample *s, uint8_t fill, size_t len);

void sample_platform(struct sample *s, uint32_t mask, uint8_t platform);
void sample_policy(struct sample *s, uint64_t policy, uint32_t mask);
void sample_page(struct sample *s, uint64_t gpa, uint32_t mask, int fill, uint32_t flags,
                 uint16_t type);
void sample_area(struct sample *s, uint64_t bytes, uint32_t index);
void sample_parameter(struct sample *s, uint32_t type, uint32_t index, uint32_t offset);
void sample_insert(struct sample *s, uint64_t gpa, uint32_t mask, uint32_t index);
void sample_context(struct sample *s, uint64_t gpa, uint32_t mask, uint16_t index,
                    uint32_t data_offset);

/** sample_finish() - the file's bytes, to be freed. */
uint8_t *sample_finish(const struct sample *s, size_t *size);

/** sample_checksum() - put the right checksum into a file whose headers were changed. */
void sample_checksum(uint8_t *file, size_t size);

/** sample_small() - one SNP platform, a policy and a page. */
void sample_small(struct sample *s);

/** sample_all_x64() - every header type that exists on x64, format version 2. */
void sample_all_x64(struct sample *s);

/** sample_runnable() - every header that a guest with one processor can be given. */
void sample_runnable(struct sample *s);

/** sample_all_aarch64() - what exists on AArch64 only. */
void sample_all_aarch64(struct sample *s);

#endif
