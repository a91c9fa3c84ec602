/* Whether a plan loads firmware made with EDK2, as OVMF is. */
#ifndef HUSK_LAUNCH_FIRMWARE_VOLUME_H
#define HUSK_LAUNCH_FIRMWARE_VOLUME_H

#include "launch/plan.h"

#include <stdbool.h>

/** plan_has_firmware_volume() - whether a page of @plan begins a firmware volume (UEFI PI specification, volume 3, 3.2.1). */
bool plan_has_firmware_volume(const struct plan *plan);

#endif
