/*
 * The event monitor: one JSON object a line for whoever manages husk, in the form of Cloud Hypervisor's:
 * {"timestamp":{"secs":0,"nanos":1},"source":"vm","event":"booted","properties":{"reason":"..."}}.
 * The timestamp counts from husk's start. A reader that does not read is never waited for.
 */
#ifndef HUSK_API_EVENT_MONITOR_H
#define HUSK_API_EVENT_MONITOR_H

#include "base/error.h"

struct event_monitor;

/**
 * event_monitor_open() - @path is opened for appending (created with mode 0600), or @fd, if not -1, is used as it is.
 * With neither, events go nowhere. @fd is owned by the monitor from now on.
 *
 * Return: the monitor, or NULL with @err filled.
 */
struct event_monitor *event_monitor_open(const char *path, int fd, struct error *err);
void event_monitor_close(struct event_monitor *monitor);

/**
 * event_emit() - write one event; from any thread. @monitor may be NULL.
 * @source: "vm", "vmm", "guest", ...
 * @event: what happened.
 * The rest: pairs of property name and value, all strings, closed by NULL.
 */
void event_emit(struct event_monitor *monitor, const char *source, const char *event, ...)
    __attribute__((sentinel));

#endif
