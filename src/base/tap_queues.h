/* How many queues a tap interface has, whoever holds them. */
#ifndef HUSK_BASE_TAP_QUEUES_H
#define HUSK_BASE_TAP_QUEUES_H

/**
 * tap_queues() - the queues of multi-queue tap @name, those that are detached included.
 * Return: how many; -ENODEV if there is no such interface in this network namespace; -ENODATA if it is not such a tap, or
 * the kernel is older than 4.17 and does not tell; another -errno.
 */
int tap_queues(const char *name);

#endif
