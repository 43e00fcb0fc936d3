// SPDX-License-Identifier: MIT
//
// A network and pictures that train in milliseconds.
#pragma once

#include <string>

#include "tiny_model.h"
#include "train/schedule.h"

namespace da3::test {

inline std::string tiny_train_config() {
  json tree = tiny_any_view();
  json& net = tree["config"]["net"];
  net["embed_dim"] = 32;
  net["num_heads"] = 2;
  net["ffn_hidden"] = 32;
  tree["config"]["head"]["features"] = 8;
  tree["config"]["head"]["out_channels"] = {8, 8, 8, 8};
  return tree.dump();
}

inline train::Schedule tiny_schedule(int64_t steps) {
  train::Schedule s;
  s.phases = {{steps, 2, 56}};
  s.learning_rate = 2e-3;
  return s;
}

}  // namespace da3::test
