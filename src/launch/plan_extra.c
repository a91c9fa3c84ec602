/* The parts of a plan that only isolated guests and IGVM files have. */
#include "launch/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct error *err)
{
    return error_set(err, -ENOMEM, "out of memory while making the launch plan");
}

/** grow() - room for one element more in an array of @n of them; it doubles at each power of two. */
static bool grow(void **array, size_t n, size_t size)
{
    if (n & (n - 1))
        return true;
    void *grown = reallocarray(*array, n ? 2 * n : 1, size);
    if (!grown)
        return false;
    *array = grown;
    return true;
}

int plan_add_vmsa(struct plan *plan, const struct plan_vmsa *vmsa, struct error *err)
{
    if (!grow((void **)&plan->vmsas, plan->n_vmsas, sizeof(*vmsa)))
        return out_of_memory(err);
    plan->vmsas[plan->n_vmsas] = *vmsa;
    plan->vmsas[plan->n_vmsas++].position = plan->n_runs;
    return 0;
}

int plan_add_parameter(struct plan *plan, const struct plan_parameter *parameter, struct error *err)
{
    if (!grow((void **)&plan->parameters, plan->n_parameters, sizeof(*parameter)))
        return out_of_memory(err);
    plan->parameters[plan->n_parameters++] = *parameter;
    return 0;
}

int plan_add_range(struct plan *plan, const struct plan_range *range, struct error *err)
{
    if (!grow((void **)&plan->ranges, plan->n_ranges, sizeof(*range)))
        return out_of_memory(err);
    plan->ranges[plan->n_ranges++] = *range;
    return 0;
}

int plan_set_id_block(struct plan *plan, const void *id_block, const void *id_auth, bool author_key,
                      struct error *err)
{
    uint8_t *block = malloc(96), *auth = malloc(4096);
    if (!block || !auth) {
        free(block);
        free(auth);
        return out_of_memory(err);
    }
    memcpy(block, id_block, 96);
    memcpy(auth, id_auth, 4096);
    free(plan->id_block);
    free(plan->id_auth);
    plan->id_block = block;
    plan->id_auth = auth;
    plan->author_key = author_key;
    return 0;
}
