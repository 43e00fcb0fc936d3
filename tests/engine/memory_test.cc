// SPDX-License-Identifier: MIT
#include "engine/runtime/memory.h"

#include <doctest/doctest.h>

#include "temp_files.h"

using namespace da3;
using da3::test::TempDir;

namespace {

constexpr uint64_t kMiB = 1 << 20;

struct Machine {
  TempDir temp;
  void meminfo(uint64_t available_kib) {
    temp.write("proc/meminfo", "MemTotal:       9999999 kB\nMemFree: 17 kB\nMemAvailable:   " +
                                   std::to_string(available_kib) + " kB\n");
  }
  void group(const std::string& line) { temp.write("proc/self/cgroup", line); }
  std::optional<uint64_t> free() { return free_main_memory(temp / ""); }
};

}  // namespace

TEST_SUITE("free main memory"){TEST_CASE("the machine's, without control groups"){Machine m;
m.meminfo(4096);
CHECK(m.free() == 4 * kMiB);
m.group("0::/\n");
CHECK(m.free() == 4 * kMiB);
}

TEST_CASE("version 2: limit less use, where cache counts as free") {
  Machine m;
  m.meminfo(1 << 20);
  m.group("0::/app\n");
  m.temp.write("sys/fs/cgroup/app/memory.max", std::to_string(100 * kMiB));
  m.temp.write("sys/fs/cgroup/app/memory.current", std::to_string(70 * kMiB));
  CHECK(m.free() == 30 * kMiB);
  m.temp.write("sys/fs/cgroup/app/memory.stat", "anon 5\ninactive_file " + std::to_string(20 * kMiB) + "\n");
  CHECK(m.free() == 50 * kMiB);
  m.temp.write("sys/fs/cgroup/app/memory.max", "max\n");
  CHECK(m.free() == 1024 * kMiB);
}

TEST_CASE("version 2: groups around it count too, and the machine") {
  Machine m;
  m.meminfo(1 << 20);
  m.group("0::/outer/inner\n");
  m.temp.write("sys/fs/cgroup/outer/inner/memory.max", std::to_string(100 * kMiB));
  m.temp.write("sys/fs/cgroup/outer/inner/memory.current", "0");
  m.temp.write("sys/fs/cgroup/outer/memory.max", std::to_string(60 * kMiB));
  m.temp.write("sys/fs/cgroup/outer/memory.current", std::to_string(50 * kMiB));
  CHECK(m.free() == 10 * kMiB);
  m.meminfo(5 * 1024);
  CHECK(m.free() == 5 * kMiB);
}

TEST_CASE("version 1") {
  Machine m;
  m.meminfo(1 << 20);
  m.group("5:cpu,cpuacct:/x\n4:memory:/job\n");
  m.temp.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", std::to_string(64 * kMiB));
  m.temp.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(80 * kMiB));
  CHECK(m.free() == 0);  // over the limit
  m.temp.write("sys/fs/cgroup/memory/job/memory.stat",
               "cache 7\ntotal_inactive_file " + std::to_string(40 * kMiB) + "\n");
  CHECK(m.free() == 24 * kMiB);
  m.temp.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712");
  CHECK(m.free() == 1024 * kMiB);
}

TEST_CASE("a system that says nothing, or nonsense") {
  Machine m;
  CHECK(!m.free());
  m.temp.write("proc/meminfo", "MemAvailable: lots\n");
  m.group("nonsense\n::\n0::\n");
  CHECK(!m.free());
  CHECK(resident_memory(m.temp / "") == 0);
}

#ifdef __linux__
TEST_CASE("this machine") {
  CHECK(free_main_memory().value_or(0) > 0);
  CHECK(resident_memory() > 0);
}
#endif
}

TEST_SUITE("texts") {
  TEST_CASE("bytes") {
    CHECK(bytes_text(0) == "1 MiB");
    CHECK(bytes_text(12 * kMiB) == "12 MiB");
    CHECK(bytes_text(1536 * kMiB) == "1.5 GiB");
  }

  TEST_CASE("what allocators say that was asked for") {
    CHECK(
        bytes_asked(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 588000 bytes. "
            "Error code 12") == 588000);
    CHECK(bytes_asked("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has") == 1536 * kMiB);
    CHECK(bytes_asked("Tried to allocate 20.00 MiB (GPU 0; ...)") == 20 * kMiB);
    CHECK(!bytes_asked("out of memory"));
    CHECK(!bytes_asked("Tried to allocate much"));
    CHECK(!bytes_asked(""));
  }
}
