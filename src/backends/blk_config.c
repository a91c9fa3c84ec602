#include "backends/blk_config.h"

#include "backends/blk_request.h"
#include "base/bytes.h"

#include <errno.h>

struct config {
    uint64_t capacity; /* sectors */
    uint32_t size_max;
    uint32_t seg_max;
    struct {
        uint16_t cylinders;
        uint8_t heads, sectors;
    } geometry;
    uint32_t blk_size;
    uint8_t physical_block_exp; /* of blk_size */
    uint8_t alignment_offset;
    uint16_t min_io_size; /* in logical blocks, as the next */
    uint32_t opt_io_size;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
} __attribute__((packed));

_Static_assert(sizeof(struct config) == BLK_CONFIG_BYTES, "virtio 1.2, 5.2.4");
_Static_assert(offsetof(struct config, writeback) == 32, "virtio 1.2, 5.2.4");
_Static_assert(offsetof(struct config, max_write_zeroes_sectors) == 48, "virtio 1.2, 5.2.4");

uint64_t blk_features(const struct blk_disk *disk)
{
    uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH | BLK_F_TOPOLOGY | BLK_F_MQ;
    if (disk->readonly)
        return features | BLK_F_RO;
    features |= BLK_F_CONFIG_WCE | BLK_F_WRITE_ZEROES;
    return disk->can_discard ? features | BLK_F_DISCARD : features;
}

int blk_config_read(const struct blk_disk *disk, unsigned n_queues, unsigned queue_size,
                    uint32_t offset, void *data, uint32_t len)
{
    uint32_t min_blocks = disk->physical_bytes / disk->logical_bytes;
    struct config config = {
        .capacity = htole64(disk->bytes / BLK_SECTOR_BYTES),
        /* A header and a status besides. */
        .seg_max = htole32(queue_size - 2),
        .blk_size = htole32(disk->logical_bytes),
        .physical_block_exp = (uint8_t)__builtin_ctz(min_blocks),
        .min_io_size = htole16((uint16_t)min_blocks),
        .opt_io_size = htole32(disk->opt_io_bytes / disk->logical_bytes),
        .writeback = atomic_load(&disk->writeback),
        .num_queues = htole16((uint16_t)n_queues),
    };
    if (!disk->readonly) {
        config.max_write_zeroes_sectors = htole32(BLK_SEGMENT_SECTORS_MAX);
        config.max_write_zeroes_seg = htole32(BLK_SEGMENTS_MAX);
        config.write_zeroes_may_unmap = disk->can_discard;
    }
    if (disk->can_discard) {
        config.max_discard_sectors = htole32(BLK_SEGMENT_SECTORS_MAX);
        config.max_discard_seg = htole32(BLK_SEGMENTS_MAX);
        config.discard_sector_alignment = htole32(disk->physical_bytes / BLK_SECTOR_BYTES);
    }
    if (!range_within(offset, len, sizeof(config)))
        return -EINVAL;
    memcpy(data, (const uint8_t *)&config + offset, len);
    return 0;
}

int blk_config_write(struct blk_disk *disk, uint32_t offset, const void *data, uint32_t len)
{
    uint8_t value;
    if (disk->readonly || offset != offsetof(struct config, writeback) || len != sizeof(value))
        return -EINVAL;
    memcpy(&value, data, sizeof(value));
    if (value > 1)
        return -EINVAL;
    atomic_store(&disk->writeback, value == 1);
    return 0;
}

bool blk_writeback(const struct blk_disk *disk, uint64_t features)
{
    if (!(features & BLK_F_FLUSH))
        return false;
    return !(features & BLK_F_CONFIG_WCE) || atomic_load(&disk->writeback);
}
