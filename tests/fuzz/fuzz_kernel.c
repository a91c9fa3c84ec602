/*
 * A kernel file from anywhere: boot_plan_kernel() must take it or refuse it with a sentence, in little memory and time.
 * What it takes is checked: every run lies in low RAM and in its file, and vCPU 0 starts where something is loaded.
 */
#include "base/bytes.h"
#include "x86/boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static int make_file(const void *bytes, size_t len, char path[64])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0);
    require(write(fd, bytes, len) == (ssize_t)len);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void check_plan(const struct plan *plan, uint64_t low_ram)
{
    uint64_t rip = plan->vcpus[0].rip;
    bool entry_is_loaded = false;
    for (size_t i = 0; i < plan->n_runs; i++) {
        const struct plan_run *run = &plan->runs[i];
        require(range_within(run->gpa, run->len, low_ram));
        if (run->source == PLAN_SOURCE_FILE)
            require(range_within(run->range.offset, run->len, plan->files[run->range.file].size));
        if (rip >= run->gpa && rip < run->gpa + run->len && strcmp(run->origin, "kernel") == 0)
            entry_is_loaded = true;
    }
    require(entry_is_loaded);
}

static void plan_once(const char *kernel, const char *initramfs, uint64_t ram_bytes)
{
    const struct boot_params_in in = {
        .kernel = kernel,
        .initramfs = initramfs,
        .cmdline = "console=ttyS0 root=/dev/vda",
        .vcpus = 2,
        .ram_bytes = ram_bytes,
    };
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    int ret = boot_plan_kernel(&plan, &in, &err);
    require(ret <= 0 && ret == err.code);
    if (ret == 0)
        check_plan(&plan, layout_low_ram(ram_bytes));
    else
        require(err.message[0] != '\0');
    plan_release(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char kernel_path[64], initramfs_path[64];
    int kernel = make_file(data, size, kernel_path);
    int initramfs = make_file("0707", 4, initramfs_path);
    plan_once(kernel_path, initramfs_path, MIB(64));
    plan_once(kernel_path, NULL, MIB(3));
    plan_once(kernel_path, initramfs_path, GIB(5));
    close(kernel);
    close(initramfs);
    return 0;
}
