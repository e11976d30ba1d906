// Programs of one line each, that tests start, limit, and kill: family_program MODE METHOD
// [late_server | late_guardian | late_spare].
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <numeric>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>
#include <brood/process/family.hpp>

#include "support/late_child.hpp"

namespace {

void say(const std::string& text) {
  const std::string line = text + "\n";
  if (::write(1, line.data(), line.size()) < 0) std::_Exit(9);
}

void spin_for_ever() {
  ::signal(SIGTERM, SIG_IGN);
  say("up");
  for (;;) asm volatile("");  // busy, and not to be optimised away
}
void wait_for_ever() {
  say("up");
  for (;;) ::pause();
}
void nest() {
  const brood::Pool pool({.workers = 2});
  static_cast<void>(pool.submit(spin_for_ever));
  wait_for_ever();
}

/// Members of every kind, busy and idle, then waits: six times "up", and "ready".
int brood_of_all_kinds() {
  const brood::Pool pool({.workers = 3});
  static_cast<void>(pool.submit(spin_for_ever));
  static_cast<void>(pool.submit(wait_for_ever));
  brood::Process daemon({.daemon = true}, wait_for_ever);
  brood::Process plain(spin_for_ever);
  brood::Process nested(nest);
  daemon.start();
  plain.start();
  nested.start();
  say("ready");
  for (;;) ::pause();
}

/// Starts a process after SIGUSR1, and says whether anybody watches the family then.
int start_when_told() {
  sigset_t told;
  ::sigemptyset(&told);
  ::sigaddset(&told, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &told, nullptr);
  say("ready");
  int signal = 0;
  ::sigwait(&told, &signal);
  brood::Process([] {}).start().join();
  const auto family = brood::detail::Family::require();
  const auto watched = [&] {
    const auto watchdog = family->segment().header().watchdog.load();
    return family->registry().alive(brood::detail::Tag::from_bits(watchdog));
  };
  for (int i = 0; i != 10'000 && !watched(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (watched()) say("watched");
  return 0;
}
/// The same, when the fork server has started one already.
int start_again_when_told() {
  brood::Process({.start_method = brood::StartMethod::forkserver}, [] {}).start().join();
  return start_when_told();
}

int twice(int n) { return 2 * n; }

/// A bit of everything, and it must be right.
int work(bool aloud = true) {
  brood::Process process([] { std::exit(7); });
  process.start().join();
  if (process.exitcode() != 7) {
    std::fprintf(stderr, "error: the process exited with %d\n", process.exitcode().value_or(-999));
    return 1;
  }
  const brood::Pool pool({.workers = 2});
  const auto results = pool.map(twice, std::views::iota(0, 1000));
  const int sum = std::accumulate(results.begin(), results.end(), 0);
  if (sum != 999'000 || pool.apply(twice, 21) != 42) {
    std::fprintf(stderr, "error: wrong results\n");
    return 1;
  }
  if (aloud) say("fine");
  return 0;
}

std::vector<int> closed_streams;  // when main began

/// Works in silence, and writes to streams that it does not have: that must hit nothing.
int scribble() {
  const auto write_to_closed = [] {
    const std::string text(4096, 'x');
    for (const int stream : closed_streams) {
      if (::write(stream, text.data(), text.size()) > 0) return false;
    }
    return true;
  };
  if (!write_to_closed()) return 5;
  brood::Process process([] { ::pause(); });
  process.start();
  if (!write_to_closed()) return 6;
  process.kill();
  process.join();
  const int code = work(false);
  return write_to_closed() ? code : 7;
}

/// As work, but with many megabytes under way.
int heavy_work() {
  const brood::Pool pool({.workers = 2});
  const auto block = [](int n) { return std::vector<int>(std::size_t{8} << 20U, n); };
  for (int i = 0; i < 4; ++i) {
    const auto blocks = pool.map(block, std::vector<int>{i, i + 1});
    if (blocks[1].size() != std::size_t{8} << 20U || blocks[1].back() != i + 1) return 2;
  }
  say("fine");
  return 0;
}

/// Leaves main while children run whose objects nobody will destroy.
int leave() {
  static auto* plain = new brood::Process([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    say("the child finished");
  });
  static auto* daemon = new brood::Process({.daemon = true}, wait_for_ever);
  plain->start();
  daemon->start();
  say("main is left");
  return 0;
}

std::string command_line_here() {
  std::ifstream file("/proc/self/cmdline");
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The arguments of this program and of a child that executes it again are the same.
int compare_arguments() {
  brood::Process child(
      [](const std::string& expected) { std::exit(command_line_here() == expected ? 0 : 3); },
      command_line_here());
  child.start().join();
  if (child.exitcode() == 0) say("fine");
  return child.exitcode().value();
}

const std::map<std::string, std::function<int()>> kModes{
    {"brood", brood_of_all_kinds},
    {"work", [] { return work(); }},
    {"scribble", scribble},
    {"heavy_work", heavy_work},
    {"leave", leave},
    {"arguments", compare_arguments},
    {"start_when_told", start_when_told},
    {"start_again_when_told", start_again_when_told},
    {"exit",
     []() -> int {
       auto* pool = new brood::Pool({.workers = 2});
       static_cast<void>(pool->submit(spin_for_ever));
       std::exit(5);
     }},
    {"_exit",
     []() -> int {
       auto* pool = new brood::Pool({.workers = 2});
       static_cast<void>(pool->submit(spin_for_ever));
       ::_exit(5);
     }},
    {"abort",
     []() -> int {
       auto* pool = new brood::Pool({.workers = 2});
       static_cast<void>(pool->submit(spin_for_ever));
       ::signal(SIGABRT, SIG_DFL);
       std::abort();
     }},
};

}  // namespace

int main(int argc, char** argv) {
  for (int stream = 0; stream < 3; ++stream) {
    if (::fcntl(stream, F_GETFD) < 0) closed_streams.push_back(stream);
  }
  try {
    // The root's first child is the fork server, whose children are its guardian, what is started
    // first, and a spare.
    const std::string late = argc > 3 ? argv[3] : "";
    if (late == "late_server") brood::testing::stop_child_of("brood_family_pr", 1);
    if (late == "late_guardian") brood::testing::stop_child_of("brood-server", 1);
    if (late == "late_spare") brood::testing::stop_child_of("brood-server", 3);
    brood::Runtime runtime(argc, argv);
    if (argc < 3) return 2;
    brood::set_start_method(brood::start_method_from(argv[2]));
    return kModes.at(argv[1])();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
