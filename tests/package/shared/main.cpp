// Two modules and one Brood: tasks, errors, locks and values cross between them and processes.
#include <cstdio>
#include <stdexcept>
#include <vector>

#include <brood/log.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/runtime.hpp>
#include <brood/version.hpp>

#include "tasks.hpp"

namespace {

bool failed = false;
void expect(bool is, const char* what) {
  if (is) return;
  failed = true;
  std::fprintf(stderr, "wrong: %s\n", what);
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  if (argc != 2) return 2;
  brood::set_start_method(brood::start_method_from(argv[1]));
  expect(brood::library_version() == brood::kVersion, "the version");

  const std::vector<int> numbers{2, 4, 6};
  expect(doubled(numbers) == std::vector<int>{4, 8, 12}, "a pool of the library");
  {
    brood::Pool pool({.workers = 2});
    expect(pool.map(halved, numbers) == std::vector<int>{1, 2, 3}, "a task of the library");
    expect(pool.map([](int n) { return n + 1; }, numbers) == std::vector<int>{3, 5, 7},
           "a task of the program");
    try {
      pool.apply(refused, 3);
      expect(false, "an exception");
    } catch (const std::out_of_range& e) {
      expect(brood::remote_trace(e) != nullptr, "its trace");
    }
  }
  brood::Lock lock;
  brood::Value<int> value(0);
  std::vector<brood::Process> processes;
  for (int i = 0; i != 3; ++i) processes.emplace_back(add_one, lock, value);
  lock.lock();
  for (brood::Process& process : processes) process.start();
  expect(value.get() == 0, "the lock");
  lock.unlock();
  for (brood::Process& process : processes) process.join();
  expect(value.get() == 3, "the value");

  int records = 0;
  brood::log::to_root([&](const brood::log::Record&) { ++records; });
  brood::log::info("here");
  brood::log::flush();
  brood::log::off();
  expect(records == 1, "the log");
  return failed ? 1 : 0;
}
