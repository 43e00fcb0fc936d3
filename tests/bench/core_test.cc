// SPDX-License-Identifier: MIT
//
// What da3-bench does without LibTorch: statistics, turns, rows, tables, pictures, processes, comparison of
// results.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../engine/temp_files.h"
#include "core/accuracy.h"
#include "core/chart.h"
#include "core/machine.h"
#include "core/report.h"
#include "core/spinning.h"
#include "core/stats.h"
#include "core/turns.h"
#include "core/worker.h"
#include "works/dacpp.h"

using namespace da3::bench;
using da3::test::TempDir;
using da3::test::Variable;

namespace {

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("quantiles lie between the neighbours, in any order of the values") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == doctest::Approx(2.5));
  CHECK(quantile({10, 20, 30, 40, 50}, 0.05) == doctest::Approx(12));
  CHECK(quantile({10, 20, 30, 40, 50}, 0.95) == doctest::Approx(48));
  CHECK(quantile({7}, 0.99) == 7);
  CHECK(quantile({1, 2}, 0) == 1);
  CHECK(quantile({1, 2}, 1) == 2);
}

TEST_CASE("quantiles of nothing and outside of 0..1") {
  CHECK(std::isnan(median({})));
  CHECK_THROWS_AS(quantile({1}, 1.01), std::invalid_argument);
  CHECK_THROWS_AS(quantile({1}, -0.01), std::invalid_argument);
  CHECK_THROWS_AS(quantile({1}, NAN), std::invalid_argument);
}

Turn turn_of(std::vector<double> milliseconds, std::string failure = {}) {
  return {nullptr, std::move(milliseconds), std::move(failure)};
}

TEST_CASE("against the best: chosen in one half of the rounds, compared in the other") {
  // By all rounds the second is best (8 ms); by the even ones too, by the odd ones the third.
  const std::vector<Turn> others = {turn_of({20, 20, 20, 20}), turn_of({4, 12, 4, 12}), turn_of({9, 8, 9, 8}),
                                    turn_of({1}, "gone")};
  const AgainstBest found = against_best(turn_of({10, 10, 10, 10}), others);
  CHECK(found.chosen == std::array<size_t, 2>{1, 2});
  // Its odd rounds (12 / 10) and the third's even ones (9 / 10).
  CHECK(found.ratio == doctest::Approx((1.2 + 0.9) / 2));
}

TEST_CASE("against the best: equals that scatter are equal, where the best median of all is above them") {
  std::mt19937 random(5);
  std::normal_distribution<double> scatter(100, 8);
  double crossed = 0, best = 0;
  constexpr int kTimes = 200, kRounds = 12;
  for (int i = 0; i < kTimes; ++i) {
    std::vector<Turn> all(6);
    for (Turn& t : all)
      for (int r = 0; r < kRounds; ++r) t.milliseconds.push_back(scatter(random));
    const Turn mine = all.back();
    all.pop_back();
    crossed += against_best(mine, all).ratio / kTimes;
    double least = 1e9;
    for (const Turn& t : all) least = std::min(least, median(t.milliseconds));
    best += least / median(mine.milliseconds) / kTimes;
  }
  CHECK(crossed == doctest::Approx(1).epsilon(0.01));
  CHECK(best < 0.98);
}

TEST_CASE("against the best: what is worse is found worse") {
  std::mt19937 random(6);
  std::normal_distribution<double> scatter(100, 8);
  std::vector<Turn> all(3);
  for (int r = 0; r < 100; ++r) {
    all[0].milliseconds.push_back(1.10 * scatter(random));
    all[1].milliseconds.push_back(scatter(random));
    all[2].milliseconds.push_back(1.20 * scatter(random));
  }
  const AgainstBest found = against_best(all[0], std::span(all).subspan(1));
  CHECK(found.chosen == std::array<size_t, 2>{0, 0});
  CHECK(found.ratio == doctest::Approx(1 / 1.10).epsilon(0.03));
}

TEST_CASE("against the best: nothing to compare") {
  const std::vector<Turn> others = {turn_of({5, 6}), turn_of({}, "gone")};
  CHECK(against_best(turn_of({5, 6}), {}).ratio == 0);
  CHECK(against_best(turn_of({5, 6}, "gone"), others).ratio == 0);
  CHECK(against_best(turn_of({5}), others).ratio == 0);
  CHECK(against_best(turn_of({5, 6}), std::span(others).subspan(1)).ratio == 0);
}

TEST_CASE("turns go round, and warm-up does not count") {
  std::string order;
  std::vector<Turn> turns(2);
  turns[0].once = [&] { return order += 'a', double(order.size()); };
  turns[1].once = [&] { return order += 'b', double(order.size()); };
  run_in_turn(turns, {1, 2, 1000});
  CHECK(order == "abbaab");
  CHECK(turns[0].milliseconds == std::vector<double>{4, 5});
  CHECK(turns[1].milliseconds == std::vector<double>{3, 6});
}

TEST_CASE("a turn that throws is out and says why, the others go on") {
  int calls = 0;
  std::vector<Turn> turns(2);
  turns[0].once = [&]() -> double {
    ++calls;
    throw std::runtime_error("no such operator");
  };
  turns[1].once = [] { return 5.0; };
  run_in_turn(turns, {1, 3, 1000});
  CHECK(calls == 1);
  Row failed, fine;
  add_times(turns[0], &failed);
  add_times(turns[1], &fine);
  CHECK(failed.dump() == R"({"skipped":"no such operator"})");
  CHECK(fine["runs"] == 3);
  CHECK(fine["median_ms"] == 5.0);
}

TEST_CASE("no new round when the time is up, but three count") {
  std::vector<Turn> turns(1);
  turns[0].once = [] { return 1.0; };
  run_in_turn(turns, {0, 100, 0});
  CHECK(turns[0].milliseconds.size() == 3);
}

TEST_CASE("a report keeps rows in order and leaves out what is not a number") {
  Report report(Row{{"processor", "p"}});
  report.add({{"work", "model"}, {"model", "m"}, {"median_ms", 12.5}, {"gflops", NAN}, {"p5_ms", nullptr}});
  report.add({{"work", "model"}, {"model", "n"}, {"skipped", "why|not"}});
  const Row all = Row::parse(report.json());
  REQUIRE(all.is_array());
  REQUIRE(all.size() == 3);
  CHECK(all[0]["work"] == "machine");
  CHECK(all[0]["processor"] == "p");
  CHECK(all[1].dump() == R"({"work":"model","model":"m","median_ms":12.5})");
  const std::string markdown = report.markdown("da3-bench model");
  CHECK(has(markdown, "| model | median ms | skipped because |"));
  CHECK(has(markdown, "| m | 12.50 |  |"));
  CHECK(has(markdown, "why\\|not"));
  CHECK(has(line_of(report.rows()[1]), "skipped, why|not"));
}

TEST_CASE("rows that are none") {
  Report report(Row::object());
  CHECK_THROWS_AS(report.add({{"model", "m"}}), std::invalid_argument);
  CHECK_THROWS_AS(report.add(Row::array()), std::invalid_argument);
  CHECK_THROWS_AS(report.add({{"work", 1}}), std::invalid_argument);
  CHECK_THROWS_AS(report.add({{"work", "machine"}}), std::invalid_argument);
  CHECK(report.rows().empty());
}

TEST_CASE("numbers for people") {
  CHECK(number_text(0) == "0");
  CHECK(number_text(12345.6) == "12346");
  CHECK(number_text(12.3456) == "12.35");
  CHECK(number_text(0.01234) == "0.01234");
  CHECK(number_text(-1.5) == "-1.500");
  CHECK(number_text(1e-7) == "1.00e-07");
  CHECK(number_text(NAN) == "-");
}

TEST_CASE("a chart escapes its texts and shows what is missing") {
  const std::string svg =
      svg_chart({"a < b & c", "ms", 5, "limit", {{"x\"y", 3, "g<1>"}, {"none", NAN, ""}}});
  CHECK(has(svg, "a &lt; b &amp; c"));
  CHECK(has(svg, "x&quot;y"));
  CHECK(has(svg, "g&lt;1&gt;"));
  CHECK(has(svg, "not measured"));
  CHECK(has(svg, "limit"));
  CHECK(!has(svg, "nan"));
  const std::string two =
      svg_of_work("model", {{{"work", "model"}, {"model", "m"}, {"batch", 1}, {"median_ms", 2.0}},
                            {{"work", "model"}, {"model", "m"}, {"batch", 2}, {"median_ms", 3.0}}});
  CHECK(has(two, ">batch 2<"));
  // Settings of a peer share its colour and its one line of the legend; another peer does not.
  const std::string peers = svg_of_work(
      "compare", {{{"work", "compare"}, {"peer", "openvino"}, {"median_ms", 2.0}},
                  {{"work", "compare"}, {"peer", "openvino-bf16"}, {"median_ms", 1.0}},
                  {{"work", "compare"}, {"peer", "depth-anything.cpp a.gguf"}, {"median_ms", 3.0}}});
  CHECK(has(peers, ">openvino<"));
  CHECK(has(peers, ">depth-anything.cpp<"));
  const auto count = [&](const std::string& what) {
    int found = 0;
    for (size_t at = 0; (at = peers.find(what, at)) != std::string::npos; ++at) ++found;
    return found;
  };
  CHECK(count("#0072b2") == 3);  // two bars and the legend
  CHECK(count("#e69f00") == 2);
  CHECK(svg_of_work("model", {{{"work", "model"}, {"skipped", "x"}}}).empty());
  CHECK(has(svg_of_work("model", {{{"work", "model"}, {"model", "m"}, {"images_per_s", 2.0}}}), "images/s"));
}

TEST_CASE("what is no file is written to and stays what it is") {
  const TempDir temp;
  const std::string pipe = temp / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const int end = open(pipe.c_str(), O_RDWR | O_NONBLOCK);  // so that nobody waits
  REQUIRE(end >= 0);
  write_file(pipe, "rows");
  char text[8] = {};
  CHECK(read(end, text, sizeof text) == 4);
  CHECK(std::string(text) == "rows");
  CHECK(da3::test::fs::is_fifo(pipe));
  CHECK_FALSE(da3::test::fs::exists(pipe + ".part"));
  close(end);
}

TEST_CASE("a file that cannot be written is an error with its name") {
  const TempDir temp;
  CHECK(has(message_of([&] { write_file(temp / "no/such/folder.json", "x"); }), "no/such/folder.json"));
  write_file(temp / "a", "one");
  CHECK(da3::test::fs::file_size(temp / "a") == 3);
  CHECK(!da3::test::fs::exists(temp / "a.part"));
}

TEST_CASE("a worker answers until it is let go") {
  Worker worker = Worker::fork([](Channel& channel) {
    channel.reply({{"ready", true}});
    while (const auto request = channel.next()) channel.reply({{"twice", 2 * request->value("number", 0)}});
  });
  CHECK(worker.hear()["ready"] == true);
  CHECK(worker.ask({{"number", 21}})["twice"] == 42);
  // A younger sibling does not keep it alive.
  Worker younger = Worker::fork([](Channel& channel) {
    while (channel.next()) channel.reply({{"fine", true}});
  });
  const pid_t id = worker.id();
  { const Worker gone = std::move(worker); }
  CHECK(kill(id, 0) != 0);
  CHECK(younger.ask({{"x", 1}})["fine"] == true);
}

TEST_CASE("workers that fail say how") {
  CHECK(has(message_of([] { in_child([]() -> Row { throw std::runtime_error("no memory for that"); }); }),
            "no memory for that"));
  Worker killed = Worker::fork([](Channel&) { raise(SIGKILL); });
  CHECK(has(message_of([&] { killed.hear(); }), "out of memory"));
  CHECK(has(message_of([&] { killed.ask(Row::object()); }), "gone"));
  Worker leaves = Worker::fork([](Channel&) { _exit(3); });
  CHECK(has(message_of([&] { leaves.hear(); }), "status 3"));
  Worker silent = Worker::fork([](Channel& channel) { channel.next(); });
  CHECK(has(message_of([&] { silent.hear(0.05); }), "no answer within"));
}

TEST_CASE("programs as workers: what they print beside answers is skipped, their last words are kept") {
  Worker fine = Worker::spawn({"sh", "-c", "echo hello; echo '{\"ms\": 4}'"});
  CHECK(fine.hear()["ms"] == 4);
  Worker sad = Worker::spawn({"sh", "-c", "echo first >&2; echo no such module >&2; exit 1"});
  CHECK(has(message_of([&] { sad.hear(); }), "status 1: no such module"));
  CHECK(has(message_of([] { Worker::spawn({"/no/such/program"}); }), "/no/such/program"));
  CHECK_THROWS_AS(Worker::spawn({}), std::runtime_error);
  Worker wrong = Worker::spawn({"sh", "-c", "echo '{\"error\": \"weights do not fit\"}'"});
  CHECK(message_of([&] { wrong.hear(); }) == "weights do not fit");
}

TEST_CASE("peers spin as they like, unless the user says how") {
  const auto spin_of_peer = [] {
    Worker peer = Worker::spawn({"sh", "-c", "echo \"{\\\"spin\\\": \\\"$GOMP_SPINCOUNT\\\"}\""});
    return peer.hear().value("spin", "?");
  };
  const Variable policy("OMP_WAIT_POLICY", std::nullopt);
  {
    const Variable bound("GOMP_SPINCOUNT", "1000"), ours("DA3_BENCH_SPINNING", "bounded");
    CHECK(spin_of_peer() == "");
    CHECK(describe_spinning() == "GOMP_SPINCOUNT=1000, as in the product");  // here it stays
    forget_bound();
    CHECK(describe_spinning() == "OpenMP's default");
  }
  const Variable bound("GOMP_SPINCOUNT", "7"), ours("DA3_BENCH_SPINNING", std::nullopt);
  CHECK(spin_of_peer() == "7");
  forget_bound();
  CHECK(describe_spinning() == "GOMP_SPINCOUNT=7, from the environment");
}

TEST_CASE("errors of results, relative to the reference") {
  PassResult a, b;
  a.depth = {1, 2, 4, 8};
  b.depth = {1.01f, 2, 4.4f, 8};
  Row errors = compare_results(b, a);
  CHECK(errors["depth_rel_err_median"].get<double>() < 0.0101);
  CHECK(errors["depth_rel_err_p99"].get<double>() == doctest::Approx(0.01).epsilon(0.01));
  CHECK(!errors.contains("pose_angle_deg"));
  // A quarter turn about z against none.
  a.extrinsics = {1, 0, 0, 9, 0, 1, 0, 9, 0, 0, 1, 9};
  b.extrinsics = {0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0};
  CHECK(compare_results(b, a)["pose_angle_deg"].get<double>() == doctest::Approx(90));
  CHECK(compare_results(a, a)["pose_angle_deg"] == 0.0);
  CHECK(compare_results(a, a)["depth_rel_err_p99"] == 0.0);
}

TEST_CASE("results that are wrong or cannot be compared") {
  PassResult a, b;
  a.depth = {1, 2};
  CHECK_THROWS_AS(compare_results(b, a), std::invalid_argument);
  CHECK_THROWS_AS(compare_results(b, b), std::invalid_argument);
  b.depth = {NAN, INFINITY};
  CHECK(compare_results(b, a)["depth_rel_err_median"].get<double>() == doctest::Approx(1e9));
}

TEST_CASE("files of results") {
  const TempDir temp;
  PassResult a;
  a.depth = {1, 2, 3};
  a.extrinsics.assign(12, 0.5f);
  a.write(temp / "a");
  const PassResult b = PassResult::read(temp / "a");
  CHECK(b.depth == a.depth);
  CHECK(b.extrinsics == a.extrinsics);
  CHECK(b.intrinsics.empty());
  temp.write("short", "abc");
  temp.write("lying", std::string(24, '\x7f'));
  CHECK_THROWS_AS(PassResult::read(temp / "short"), std::runtime_error);
  CHECK(has(message_of([&] { PassResult::read(temp / "lying"); }), "no result"));
  CHECK(has(message_of([&] { PassResult::read(temp / "none"); }), "none"));
}

TEST_CASE("the machine is described from what the system says") {
  const TempDir temp;
  temp.write("proc/cpuinfo",
             "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_bf16 nx\n");
  temp.write("proc/meminfo", "MemTotal:  2097152 kB\nMemFree:  1 kB\nMemAvailable:  1048576 kB\n");
  temp.write("proc/loadavg", "0.25 0.5 1 1/2 3\n");
  const Row row = describe_machine(temp.path().string());
  CHECK(row["processor"] == "Some CPU");
  CHECK(row["cpu_flags"] == "avx2 avx512f avx512_bf16");
  CHECK(row["memory_mb"] == 2048);
  CHECK(available_memory_mb(temp.path().string()) == 1024);
  CHECK(available_memory_mb(temp / "nothing") == 0);
  CHECK(row["load_before"] == 0.25);
  const Row bare = describe_machine((temp / "nothing"));
  CHECK(!bare.contains("processor"));
  CHECK(!bare.contains("memory_mb"));
  CHECK(bare.contains("cores"));
}

TEST_CASE("the peak of memory begins anew") {
  const Row peaks = in_child([]() -> Row {
    std::vector<char> large(64 << 20, 1);
    const double high = peak_memory_mb();
    const char kept = large[123];
    std::vector<char>().swap(large);
    const bool can = reset_peak_memory();
    return {{"high", high}, {"low", peak_memory_mb()}, {"can", can}, {"kept", int(kept)}};
  });
  if (peaks["can"] == true && peaks["high"].get<double>() > 0)
    CHECK(peaks["low"].get<double>() < peaks["high"].get<double>() - 32);
}

TEST_CASE("the time that a program prints") {
  CHECK(printed_milliseconds("load 55 ms\nmedian 792.5 ms\n") == 792.5);
  CHECK(printed_milliseconds("done in 1.5 s") == 1500);
  CHECK(has(message_of([] { printed_milliseconds("usage: program\nno such file\n"); }), "no such file"));
  CHECK(has(message_of([] { printed_milliseconds("504 pixels"); }), "no time"));
}

TEST_CASE("the precision of most weights of a GGUF file") {
  const TempDir temp;
  constexpr uint32_t kText = 8, kList = 9, kFloat32 = 6;
  const auto number = [](auto value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const auto text = [&](const std::string& words) { return number(uint64_t(words.size())) + words; };
  const auto tensor = [&](const std::string& name, uint64_t rows, uint64_t columns, uint32_t type) {
    return text(name) + number(uint32_t(2)) + number(columns) + number(rows) + number(type) +
           number(uint64_t(0));
  };
  const auto file = [&](uint64_t tensors, const std::string& infos) {
    // Before the tensors: a text, a number, a list of numbers, a list of texts.
    return "GGUF" + number(uint32_t(3)) + number(tensors) + number(uint64_t(4)) +
           text("general.architecture") + number(kText) + text("da3") + text("scale") + number(kFloat32) +
           number(1.0f) + text("mean") + number(kList) + number(kFloat32) + number(uint64_t(3)) +
           std::string(12, 'm') + text("layers") + number(kList) + number(kText) + number(uint64_t(2)) +
           text("one") + text("two") + infos;
  };
  const auto precision = [&](const std::string& content) {
    return precision_of_gguf(temp.write("model.gguf", content));
  };
  const std::string norms = tensor("norm", 1, 64, 0);
  CHECK(precision(file(2, norms + tensor("qkv", 64, 64, 30))) == "bf16");
  CHECK(precision(file(2, tensor("qkv", 64, 64, 8) + norms)) == "q8_0");
  CHECK(precision(file(3, norms + tensor("a", 8, 8, 1) + tensor("b", 80, 1, 0))) == "fp32");
  // Types that nobody has a name for, and files that say nothing.
  CHECK(precision(file(1, tensor("qkv", 64, 64, 999))) == "");
  CHECK(precision(file(0, "")) == "");
  CHECK(precision(file(2, norms)) == "");
  CHECK(precision(file(~uint64_t(0), norms)) == "");
  CHECK(precision("GGUF" + number(uint32_t(3)) + number(uint64_t(1)) + number(uint64_t(1)) +
                  number(~uint64_t(0))) == "");
  CHECK(precision("GGUF" + number(uint32_t(3)) + number(uint64_t(1)) + number(uint64_t(1)) + text("key") +
                  number(kList) + number(kFloat32) + number(~uint64_t(0))) == "");
  CHECK(precision("not a model") == "");
  CHECK(precision_of_gguf(temp / "none") == "");
}

TEST_CASE("the checkpoint that ships is found beside the source, and where the user says") {
  {
    const Variable path("DA3_MODEL_PATH", "/elsewhere");
    prefer_own_models();
    CHECK(std::string(std::getenv("DA3_MODEL_PATH")) == "/elsewhere");
  }
  const Variable path("DA3_MODEL_PATH", std::nullopt);
  prefer_own_models();
  const char* found = std::getenv("DA3_MODEL_PATH");
  if (found) CHECK(da3::test::fs::exists(std::string(found) + "/da3-demo/config.json"));
}

TEST_CASE("depth in a PFM file") {
  const TempDir temp;
  const auto file = [&](const std::string& header, const std::vector<float>& values) {
    return temp.write("depth.pfm", header + std::string(reinterpret_cast<const char*>(values.data()),
                                                        values.size() * sizeof(float)));
  };
  // The bottom row comes first.
  CHECK(read_pfm(file("Pf\n2 3\n-1.0\n", {5, 6, 3, 4, 1, 2})) == std::vector<float>{1, 2, 3, 4, 5, 6});
  const auto refusal = [&](const std::string& header, const std::vector<float>& values) {
    return message_of([&] { read_pfm(file(header, values)); });
  };
  CHECK(has(refusal("Pf\n2 3\n-1.0\n", {5, 6, 3, 4, 1}), "depth.pfm' ends early"));
  CHECK(has(refusal("PF\n1 1\n-1.0\n", {1, 2, 3}), "no PFM file"));
  CHECK(has(refusal("Pf\n1 1\n1.0\n", {1}), "no PFM file"));
  CHECK(has(refusal("Pf\n0 1\n-1.0\n", {1}), "no PFM file"));
  CHECK(has(refusal("Pf\n1000000 1000000\n-1.0\n", {1}), "no PFM file"));
  CHECK(has(refusal("Pf\n", {}), "cannot read"));
  CHECK(has(message_of([&] { read_pfm(temp / "none"); }), "none"));
}

TEST_CASE("depth of a peer that is a program of its own") {
  const TempDir temp;
  const std::string model = temp.write("model.gguf", "x"),
                    pictures = temp.write("pictures.rgb", std::string(14 * 14 * 3, 'p'));
  // Writes one row of 1 and 2 when asked for depth.
  const std::string program = temp.write("program", R"(#!/bin/sh
while [ $# -gt 0 ]; do
  [ "$1" = --pfm ] && printf 'Pf\n2 1\n-1.0\n\000\000\200\077\000\000\000\100' >"$2"
  shift
done
echo "12.5 ms"
)");
  da3::test::fs::permissions(program, da3::test::fs::perms::owner_all);
  const auto start = [&](const std::string& arguments) {
    Worker worker = start_dacpp({program, model, arguments, pictures, {14, 14}, 1});
    worker.hear();
    return worker;
  };
  Worker usual = start("");
  CHECK(usual.ask({{"do", "run"}})["ms"] == 12.5);
  CHECK(usual.ask({{"do", "result"}, {"path", temp / "result"}})["done"] == true);
  CHECK(PassResult::read(temp / "result").depth == std::vector<float>{1, 2});
  CHECK(PassResult::read(temp / "result").extrinsics.empty());
  Worker own = start("depth {image}");
  CHECK(has(message_of([&] { own.ask({{"do", "result"}, {"path", temp / "own"}}); }), "usual arguments"));
  temp.write("program", "#!/bin/sh\necho 1 ms\n");  // and no depth
  CHECK(has(message_of([&] { usual.ask({{"do", "result"}, {"path", temp / "other"}}); }), "cannot read"));
}

TEST_CASE("a peer that is a program of its own") {
  const TempDir temp;
  const std::string model = temp.write("model.gguf", "x"),
                    pictures = temp.write("pictures.rgb", std::string(14 * 14 * 3, 'p'));
  const auto start = [&](const std::string& program, const std::string& file, const std::string& arguments) {
    return start_dacpp({program, file, arguments, pictures, {14, 14}, 2});
  };
  Worker fine = start("/bin/echo", model, "{threads} threads of {model}: 12.5 ms");
  const Row ready = fine.hear();
  CHECK(ready["ready"] == true);
  CHECK(!ready.contains("precision"));  // the file does not say
  CHECK(fine.ask({{"do", "run"}})["ms"] == 12.5);
  CHECK(fine.ask({{"do", "memory"}})["peak_rss_mb"].get<double>() > 0);
  CHECK(da3::test::fs::file_size(pictures + ".ppm") == 13 + 14 * 14 * 3);
  Worker sad = start("/bin/false", model, "");
  sad.hear();
  CHECK(has(message_of([&] { sad.ask({{"do", "run"}}); }), "--dacpp-arguments"));
  CHECK(has(message_of([&] { start("", model, ""); }), "no --dacpp"));
  CHECK(has(message_of([&] { start(temp / "none", model, ""); }), "none' is no program"));
  CHECK(has(message_of([&] { start("/bin/echo", "", ""); }), "no --dacpp-model"));
  CHECK(has(message_of([&] { start("/bin/echo", temp / "none", ""); }), "cannot be read"));
}
