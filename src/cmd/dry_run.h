/* husk run --dry-run: the launch plan, told instead of carried out. */
#ifndef HUSK_CMD_DRY_RUN_H
#define HUSK_CMD_DRY_RUN_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>

/** dry_run() - make the plan of @config and write it to standard output, as JSON or for people.
 *
 * Of SEV-SNP with the launch digest. Opens no KVM. Return: 0, or -errno as for a guest that cannot be started.
 */
int dry_run(const struct vm_config *config, bool json, struct error *err);

#endif
