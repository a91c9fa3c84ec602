/* Writes the seeds of fuzz_kernel: make_kernel_corpus FOLDER. */
#include "../unit/kernel_files.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <stdio.h>

static int write_seed(const char *folder, const char *name, const struct buf *file)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    _cleanup_fclose_ FILE *f = fopen(path, "wb");
    return f && fwrite(file->data, 1, file->len, f) == file->len ? 0 : -1;
}

static int write_bzimages(const char *folder)
{
    struct bzimage_spec spec = bzimage_default;
    spec.payload_len = 0x210;
    spec.setup_sects = 1;
    _cleanup_buf_ struct buf relocatable = BUF_INIT, fixed = BUF_INIT;
    make_bzimage(&relocatable, &spec);
    spec.setup_sects = 0;
    spec.not_relocatable = true;
    make_bzimage(&fixed, &spec);
    int ret = write_seed(folder, "bzimage", &relocatable);
    return ret < 0 ? ret : write_seed(folder, "bzimage-fixed", &fixed);
}

static int write_elf_files(const char *folder)
{
    static const struct segment_spec segments[] = {
        {PVH_ENTRY, 0x20, 0x20}, {PVH_ENTRY + 0x800, 0x840, 0x2000}, {MIB(2), 0x1001, 0x1001}};
    _cleanup_buf_ struct buf one = BUF_INIT, three = BUF_INIT, elf32 = BUF_INIT;
    make_pvh(&one, segments, 1);
    make_pvh(&three, segments, ARRAY_SIZE(segments));
    make_pvh32(&elf32, 0x20);
    int ret = write_seed(folder, "pvh", &one);
    if (ret == 0)
        ret = write_seed(folder, "pvh-three-segments", &three);
    return ret < 0 ? ret : write_seed(folder, "pvh-32", &elf32);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_kernel_corpus FOLDER\n");
        return 2;
    }
    return write_bzimages(argv[1]) < 0 || write_elf_files(argv[1]) < 0;
}
