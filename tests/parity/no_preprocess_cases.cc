// SPDX-License-Identifier: MIT
//
// Built without OpenCV: the preprocessing cases cannot run.
#include "golden.h"

namespace da3::parity {

void run_preprocess_cases(const json& manifest, const Settings& settings, Report* report) {
  for (const auto& c : list_of(manifest, "preprocess"))
    if (matches(settings, c.at("name"))) report->skip(c.at("name"), "built without lib/image");
}

}  // namespace da3::parity
