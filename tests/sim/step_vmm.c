/*
 * The smallest VMM that can be told what to do: each argument is one step, "name key=value ...", and each step is one call
 * on KVM. It prints one JSON object a line with what came out, and goes on whatever that was. It knows no rule: the tests
 * write launches with it, right ones and wrong ones.
 *
 * Keys common to many steps: vm, vcpu, memfd: index of a descriptor in the order in which they were made.
 */
#include "steps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct vmm vmm = {.kvm = -1, .sev = -1};

uint64_t number(const struct step *step, const char *key, uint64_t otherwise)
{
    const char *value = word(step, key);
    return value ? strtoull(value, NULL, 0) : otherwise;
}

const char *word(const struct step *step, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < step->keys_len; i++) {
        if (strncmp(step->keys[i], key, len) == 0 && step->keys[i][len] == '=')
            return step->keys[i] + len + 1;
    }
    return NULL;
}

static int parse(struct step *step, const char *text)
{
    if (strlen(text) >= sizeof(step->text))
        return -1;
    memcpy(step->text, text, strlen(text) + 1);
    step->keys_len = 0;
    char *rest = step->text;
    step->name = strsep(&rest, " ");
    char *key;
    while ((key = strsep(&rest, " ")) && step->keys_len < STEP_KEYS)
        step->keys[step->keys_len++] = key;
    return 0;
}

long run_step(const char *text, char *detail, size_t detail_len)
{
    struct step step;
    detail[0] = '\0';
    if (parse(&step, text)) {
        fprintf(stderr, "step_vmm: a step is too long\n");
        exit(2);
    }
    for (size_t i = 0; i < step_kinds_len; i++) {
        if (strcmp(step_kinds[i].name, step.name) == 0) {
            errno = 0;
            return step_kinds[i].run(&step, detail, detail_len);
        }
    }
    fprintf(stderr, "step_vmm: there is no step %s\n", step.name);
    exit(2);
}

void print_result(const char *text, long result, int error, const char *detail)
{
    printf("{\"step\": \"%.*s\", \"result\": %ld, \"errno\": \"%s\"%s}\n", (int)strcspn(text, " "),
           text, result, result < 0 ? strerrorname_np(error) : "", detail);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    vmm.argc = argc;
    vmm.argv = argv;
    vmm.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (vmm.ram == MAP_FAILED) {
        perror("step_vmm: mmap");
        return 2;
    }
    const char *inherited = getenv("STEP_VMM_FDS");
    if (inherited)
        sscanf(inherited, "%d,%d,%d,%d", &vmm.kvm, &vmm.sev, &vmm.vms[0], &vmm.memfds[0]);
    char detail[4096];
    for (vmm.at = 1; vmm.at < argc; vmm.at++) {
        const char *text = argv[vmm.at];
        long result = run_step(text, detail, sizeof(detail));
        print_result(text, result, errno, detail);
    }
    return 0;
}
