// SPDX-License-Identifier: MIT
#include "engine/runtime/processors.h"

#include <doctest/doctest.h>

#include <thread>

#include "temp_files.h"

using namespace da3;
using da3::test::TempDir;

namespace {

struct Machine {
  TempDir temp;
  void allow(const std::string& list) {
    temp.write("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t" + list + "\n");
  }
  void core(const std::string& processor, const std::string& siblings) {
    temp.write("sys/devices/system/cpu/cpu" + processor + "/topology/thread_siblings_list", siblings + "\n");
  }
  void group(const std::string& line) { temp.write("proc/self/cgroup", line); }
  unsigned cores() { return usable_cores(temp / ""); }
};

}  // namespace

TEST_SUITE("usable cores") {
  TEST_CASE("those of the affinity mask") {
    Machine m;
    m.allow("0-3,8");
    CHECK(m.cores() == 5);
    m.allow("2");
    CHECK(m.cores() == 1);
  }

  TEST_CASE("a thread that is pinned does not pin the others") {
    Machine m;
    m.allow("0");
    m.temp.write("proc/self/task/7/status", "Cpus_allowed_list:\t0\n");
    CHECK(m.cores() == 1);
    m.temp.write("proc/self/task/8/status", "Cpus_allowed_list:\t0-3\n");
    CHECK(m.cores() == 4);
  }

  TEST_CASE("two threads of one core count once, whichever of them is allowed") {
    Machine m;
    m.allow("0-7");
    for (int i = 0; i < 4; ++i)
      for (const int processor : {i, i + 4})
        m.core(std::to_string(processor), std::to_string(i) + "," + std::to_string(i + 4));
    CHECK(m.cores() == 4);
    m.allow("0,4,5");
    CHECK(m.cores() == 2);
  }

  TEST_CASE("version 2: a quota is less than there are, in whole cores") {
    Machine m;
    m.allow("0-15");
    m.group("0::/outer/inner\n");
    m.temp.write("sys/fs/cgroup/outer/cpu.max", "max 100000\n");
    CHECK(m.cores() == 16);
    m.temp.write("sys/fs/cgroup/outer/cpu.max", "250000 100000\n");
    CHECK(m.cores() == 3);
    m.temp.write("sys/fs/cgroup/outer/inner/cpu.max", "50000 100000\n");
    CHECK(m.cores() == 1);
    m.temp.write("sys/fs/cgroup/outer/inner/cpu.max", "9900000 100000\n");
    CHECK(m.cores() == 3);
  }

  TEST_CASE("version 1: the group of the controller cpu, -1 is no quota") {
    Machine m;
    m.allow("0-15");
    m.group("4:memory:/m\n5:cpu,cpuacct:/job\n");
    m.temp.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    m.temp.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
    CHECK(m.cores() == 16);
    m.temp.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000\n");
    CHECK(m.cores() == 4);
  }

  TEST_CASE("files that say nothing leave what the system says") {
    Machine m;
    const unsigned all = std::max(1u, std::thread::hardware_concurrency());
    CHECK(m.cores() == all);
    for (const char* list : {"", "none", ",", "-"}) {
      m.allow(list);
      CHECK(m.cores() == all);
    }
    m.allow("5-2");
    CHECK(m.cores() == all);
    m.allow("0-4294967295");  // does not take for ever
    CHECK(m.cores() == 1 << 16);
    m.allow("0,1");
    m.group("0::/g\n");
    for (const char* quota : {"", "x", "100000", "0 100000", "100000 0", "-5 100000"}) {
      m.temp.write("sys/fs/cgroup/g/cpu.max", quota);
      CHECK(m.cores() == 2);
    }
  }
}
