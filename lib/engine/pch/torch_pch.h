// SPDX-License-Identifier: MIT
// Precompiled for the engine's sources: the LibTorch headers take longest.
#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <string>
#include <vector>
