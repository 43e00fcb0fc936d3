// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace da3::train {

// config.json of the checkpoint that ships: the any-view architecture with 8 blocks of width 192.
std::string demo_config();

}  // namespace da3::train
