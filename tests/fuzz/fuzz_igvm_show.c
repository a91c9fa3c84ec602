/* husk igvm show on any valid file: text, JSON and picture. */
#include "base/bytes.h"
#include "cmd/igvm_cmd.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return freopen("/dev/null", "w", stdout) ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    if (size >= 24)
        store_le32(copy + 20, igvm_checksum(copy, size));
    struct igvm_source source = {.fd = -1, .size = size, .bytes = copy};
    if (igvm_file_open(copy, size, NULL, NULL, &source.file) == IGVMAPI_OK) {
        struct buf out = BUF_INIT;
        if (igvm_show_text(&source, "a/<b>.igvm", &out) < 0 || igvm_show_json(&source, &out) < 0 ||
            igvm_show_svg(&source, "a/<b>.igvm", &out) < 0)
            abort();
        buf_release(&out);
        igvm_file_close(source.file);
    }
    free(copy);
    return 0;
}
