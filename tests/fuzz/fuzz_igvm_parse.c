/* libigvm on any bytes: both interfaces, and what is read must be written back byte for byte. */
#include "igvm/igvm.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_finding(const struct igvm_finding *finding, void *opaque)
{
    *(size_t *)opaque += strlen(finding->message);
}

static void walk(const struct igvm_file *file)
{
    struct igvm_header h = {0};
    size_t sum = 0;
    while (igvm_next(file, ~0u, &h)) {
        uint64_t len;
        const uint8_t *bytes = igvm_file_data(file, &h, &len);
        if (len)
            sum += bytes[0] + bytes[len - 1];
        sum += h.length ? h.payload[h.length - 1] : 0;
    }
    __asm__ volatile("" : : "r"(sum));
}

static void check_identity(const struct igvm_file *file, const uint8_t *data, size_t size)
{
    struct igvm_builder *builder = igvm_builder_from(file);
    uint8_t *written;
    size_t written_size;
    if (!builder || igvm_builder_write(builder, &written, &written_size) != IGVMAPI_OK)
        abort();
    if (written_size != size || memcmp(written, data, size) != 0)
        abort();
    free(written);
    igvm_builder_free(builder);
}

static void use_handles(const uint8_t *data, size_t size)
{
    IgvmHandle handle = igvm_new_from_binary(data, (uint32_t)size);
    for (uint32_t section = 0; section < 3; section++) {
        int32_t n = igvm_header_count(handle, section);
        for (int32_t i = 0; i < n; i++) {
            IgvmHandle header = igvm_get_header(handle, section, (uint32_t)i);
            IgvmHandle contents = igvm_get_header_data(handle, section, (uint32_t)i);
            if (!igvm_get_buffer(handle, header) || igvm_get_buffer_size(handle, header) < 8)
                abort();
            igvm_free_buffer(handle, contents);
        }
    }
    igvm_free(handle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    /* A right checksum, most of the time, lets the fuzzer reach what is behind it. */
    uint32_t checksum = igvm_checksum(copy, size);
    if (size >= 24 && copy[20] != 0xff)
        memcpy(copy + 20, &checksum, sizeof(checksum));
    struct igvm_file *file;
    size_t findings = 0;
    if (igvm_file_open(copy, size, count_finding, &findings, &file) == IGVMAPI_OK) {
        walk(file);
        check_identity(file, copy, size);
        igvm_file_close(file);
    }
    use_handles(copy, size);
    free(copy);
    return 0;
}
