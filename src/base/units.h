/* Sizes as people write them. */
#ifndef HUSK_BASE_UNITS_H
#define HUSK_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

/** units_parse_size() - "512M", "4G", "4096": decimal or 0x number with an optional K, M, G or T (powers of 1024).
 *
 * Return: 0, -EINVAL if @text is not such a number, -ERANGE if it does not fit 64 bits.
 */
int units_parse_size(const char *text, uint64_t *bytes);

/** units_parse_bits() - a decimal or 0x number of 64 bits. Returns 0, -EINVAL or -ERANGE. */
int units_parse_bits(const char *text, uint64_t *bits);

#define UNITS_SIZE_TEXT 32

/** units_format_size() - the shortest exact form ("512M", "1025"); @text holds UNITS_SIZE_TEXT bytes. Returns @text. */
const char *units_format_size(uint64_t bytes, char *text);

#define UNITS_MAC_BYTES 6

/** units_parse_mac() - "52:54:00:12:34:56", the address of one interface. Returns 0 or -EINVAL. */
int units_parse_mac(const char *text, uint8_t mac[UNITS_MAC_BYTES]);

#endif
