// SPDX-License-Identifier: MIT
//
// What the families under the sky share.
#pragma once

#include "scene/builder.h"

namespace da3::scene {

void daylight(Builder& b, double haze);

}  // namespace da3::scene
