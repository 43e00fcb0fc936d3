// SPDX-License-Identifier: MIT
// Precompiled for the tests that see LibTorch: its headers take longest.
#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>
