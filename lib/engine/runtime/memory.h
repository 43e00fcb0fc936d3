// SPDX-License-Identifier: MIT
//
// How much memory there is. No LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace da3 {

// What this process can still take of the main memory: the available memory of the machine or what the
// control groups of the process leave, whichever is less. Page cache that can be given back counts as free.
// `root` is put in front of /proc and /sys, for tests. Nothing where the system does not say.
std::optional<uint64_t> free_main_memory(const std::string& root = "");
// Resident memory of this process; 0 where the system does not say.
uint64_t resident_memory(const std::string& root = "");

// "1.5 GiB", "12 MiB".
std::string bytes_text(uint64_t bytes);

// The size that an allocator's message names ("you tried to allocate 123 bytes", "Tried to allocate 1.50
// GiB").
std::optional<uint64_t> bytes_asked(const std::string& message);

}  // namespace da3
