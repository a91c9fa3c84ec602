/* Bytes as base64 (RFC 4648, section 4). */
#ifndef HUSK_BASE_BASE64_H
#define HUSK_BASE_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * base64_decode() - the bytes that the @len characters of @text stand for; white space is skipped.
 *
 * Return: how many there are, or -1 if @text is no base64, is not padded, or stands for more than @max.
 */
ssize_t base64_decode(const char *text, size_t len, uint8_t *bytes, size_t max);

#endif
