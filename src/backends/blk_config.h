/* What a block device tells its driver: features and configuration space (virtio 1.2, 5.2.3 and 5.2.4). */
#ifndef HUSK_BACKENDS_BLK_CONFIG_H
#define HUSK_BACKENDS_BLK_CONFIG_H

#include "backends/blk_disk.h"

#define BLK_F_SEG_MAX (1ull << 2)
#define BLK_F_RO (1ull << 5)
#define BLK_F_BLK_SIZE (1ull << 6)
#define BLK_F_FLUSH (1ull << 9)
#define BLK_F_TOPOLOGY (1ull << 10)
#define BLK_F_CONFIG_WCE (1ull << 11)
#define BLK_F_MQ (1ull << 12)
#define BLK_F_DISCARD (1ull << 13)
#define BLK_F_WRITE_ZEROES (1ull << 14)

#define BLK_CONFIG_BYTES \
    60u /* up to and with write zeroes; what follows belongs to features not offered */

/** blk_features() - what @disk can do. */
uint64_t blk_features(const struct blk_disk *disk);

/** blk_config_read() - @len bytes of configuration space. Returns 0, or -EINVAL beyond its end. */
int blk_config_read(const struct blk_disk *disk, unsigned n_queues, unsigned queue_size,
                    uint32_t offset, void *data, uint32_t len);

/** blk_config_write() - the driver may switch the write cache, nothing else. Returns 0 or -EINVAL. */
int blk_config_write(struct blk_disk *disk, uint32_t offset, const void *data, uint32_t len);

/** blk_writeback() - whether writes may be answered before they are stable, for a driver with @features.
 *
 * A driver that cannot flush has no other way to have its data safe (virtio 1.2, 5.2.5.2 and 5.2.6.2).
 */
bool blk_writeback(const struct blk_disk *disk, uint64_t features);

#endif
