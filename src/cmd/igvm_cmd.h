/* What the parts of "husk igvm" share. */
#ifndef HUSK_CMD_IGVM_CMD_H
#define HUSK_CMD_IGVM_CMD_H

#include "base/buf.h"
#include "base/error.h"
#include "launch/igvm_source.h"

/* Each takes the words behind its name and returns the exit status, or -errno with @err filled. */
int igvm_cmd_build(int argc, char **argv, struct error *err);
int igvm_cmd_show(int argc, char **argv, struct error *err);
int igvm_cmd_extract(int argc, char **argv, struct error *err);
int igvm_cmd_set_policy(int argc, char **argv, struct error *err);
int igvm_cmd_sign(int argc, char **argv, struct error *err);

/** igvm_digest_of_bytes() - the launch digest KVM will report for the SEV-SNP platform of a file in memory.
 * @vcpus: how many the guest has; 0: as many as the file has contexts, at least one.
 * @policy: the file's.
 *
 * Return: 0 or -errno.
 */
int igvm_digest_of_bytes(const uint8_t *data, size_t size, uint32_t vcpus, uint8_t digest[48],
                         uint64_t *policy, struct error *err);

/** igvm_rebuild() - a file from what `show --json` and `extract` gave: see docs/igvm.md. 0 or -errno. */
int igvm_rebuild(const char *json, const char *data, uint8_t **out, size_t *size,
                 struct error *err);

/** igvm_show_text(), _json(), _svg() - the file as text, JSON or picture. What does not stay in @out has been written
 * to standard output. 0 or -errno. */
int igvm_show_text(const struct igvm_source *source, const char *path, struct buf *out);
int igvm_show_json(const struct igvm_source *source, struct buf *out);
int igvm_show_svg(const struct igvm_source *source, const char *path, struct buf *out);

#endif
