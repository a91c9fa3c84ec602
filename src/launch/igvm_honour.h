/* What a guest that is started here can be given, of all that an IGVM file may ask for. */
#ifndef HUSK_LAUNCH_IGVM_HONOUR_H
#define HUSK_LAUNCH_IGVM_HONOUR_H

#include "igvm/igvm.h"
#include "launch/producers.h"

/** igvm_honour() - refuse header @h, valid and meant for @platform, if a guest with @options would not get what it says.
 *
 * Return: 0; -ENOTSUP or -EINVAL with @err filled, without the header's number and name.
 */
int igvm_honour(const struct igvm_header *h, enum plan_platform platform,
                const struct launch_options *options, struct error *err);

#endif
