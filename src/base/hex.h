/* Bytes as hexadecimal digits. */
#ifndef HUSK_BASE_HEX_H
#define HUSK_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** hex_text() - @len bytes as 2 * @len digits and a NUL in @text. Returns @text. */
const char *hex_text(const uint8_t *bytes, size_t len, char *text);

/** hex_parse() - exactly @len bytes of hexadecimal digits, white space behind them allowed. */
bool hex_parse(const char *text, uint8_t *bytes, size_t len);

#endif
