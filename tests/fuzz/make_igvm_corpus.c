/* usage: make-igvm-corpus FOLDER: writes the seeds of corpus/igvm-parse, igvm-run, igvm-show and measure below FOLDER. */
#include "../unit/igvm_samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void store(const char *folder, const char *corpus, const char *name, const char *before,
                  size_t n_before, const void *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s/%s", folder, corpus, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(before, 1, n_before, f) != n_before || fwrite(data, 1, size, f) != size ||
        fclose(f) != 0) {
        fprintf(stderr, "make-igvm-corpus: could not write %s\n", path);
        exit(1);
    }
}

static void store_sample(const char *folder, const char *name, const struct sample *s)
{
    size_t size;
    uint8_t *file = sample_finish(s, &size);
    store(folder, "igvm-parse", name, "", 0, file, size);
    store(folder, "igvm-show", name, "", 0, file, size);
    store(folder, "measure", name, "\x41", 1, file, size);  /* an IGVM file, as husk launches it */
    store(folder, "igvm-run", name, "\x11", 1, file, size); /* its platform SEV_SNP, not isolated */
    free(file);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    struct sample *s = malloc(sizeof(*s));
    sample_small(s);
    store_sample(argv[1], "small", s);
    sample_all_x64(s);
    store_sample(argv[1], "all-x64", s);
    sample_all_aarch64(s);
    store_sample(argv[1], "all-aarch64", s);
    sample_runnable(s);
    store_sample(argv[1], "runnable", s);
    free(s);
    /* Two pages of firmware with a table: GUIDs as firmware stores them. */
    static const uint8_t metadata_guid[] = {0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47,
                                            0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc};
    static const uint8_t footer_guid[] = {0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45,
                                          0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d};
    static uint8_t image[8192];
    struct payload table = {0}, list = {0};
    put(&table, 4, 0x100);
    put(&table, 2, 22);
    memcpy(table.bytes + table.len, metadata_guid, 16);
    table.len += 16;
    put(&table, 2, 40);
    memcpy(table.bytes + table.len, footer_guid, 16);
    table.len += 16;
    memcpy(image + sizeof(image) - 32 - table.len, table.bytes, table.len);
    put(&list, 4, 0x56455341);
    put(&list, 4, 16 + 2 * 12);
    put(&list, 4, 1);
    put(&list, 4, 2);
    static const uint32_t sections[] = {0x800000, 0x2000, 1, 0x80d000, 0x1000, 2};
    for (unsigned i = 0; i < 6; i++)
        put(&list, 4, sections[i]);
    memcpy(image + sizeof(image) - 0x100, list.bytes, list.len);
    store(argv[1], "measure", "firmware", "\x40", 1, image, sizeof(image));
    return 0;
}
