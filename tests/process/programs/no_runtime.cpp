// A program that forgot the Runtime, or has one only where it should not need to look for it.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

namespace {

using namespace std::chrono_literals;

int twice(int n) { return 2 * n; }

void say(const std::string& text) {
  const std::string line = text + "\n";
  if (::write(1, line.data(), line.size()) < 0) std::_Exit(9);
}

int use(std::optional<brood::StartMethod> method) {
  brood::Pipe pipe;  // before there is a family: its processes do not keep copies
  brood::Process child(
      {.start_method = method}, [](brood::Connection) { std::exit(7); }, std::move(pipe.second));
  child.start().join();
  if (child.exitcode() != 7) return 3;
  if (!pipe.first.poll(20s)) return 5;
  const brood::Pool pool({.workers = 2, .start_method = method});
  if (pool.map(twice, std::vector<int>{1, 2}) != std::vector<int>{2, 4}) return 4;
  say("fine with " + brood::to_string(brood::get_start_method()));
  return 0;
}

/// Only the first main has a Runtime; children that are executed again come without.
int run_conditionally(const std::string& mode, int argc, char** argv) {
  say("main");
  if (::getenv("BROOD_TEST_CHILD") != nullptr) {
    if (mode == "child_uses") return use(std::nullopt);
    if (mode == "child_exits") std::exit(0);
    return 0;
  }
  const brood::Runtime runtime(argc, argv);
  ::setenv("BROOD_TEST_CHILD", "1", 1);
  brood::Process child({.start_method = brood::StartMethod::spawn}, [] { say("not reached"); });
  child.start().join();
  return child.exitcode() == 1 ? 0 : 3;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  try {
    if (mode.starts_with("child_")) return run_conditionally(mode, argc, argv);
    if (mode == "threads") {
      std::jthread other([](std::stop_token stop) {
        while (!stop.stop_requested()) std::this_thread::yield();
      });
      return use(std::nullopt);
    }
    if (mode == "default") return use(std::nullopt);
    return use(brood::start_method_from(mode));
  } catch (const brood::Error& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
