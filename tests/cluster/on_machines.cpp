// Not for ThreadSanitizer: it does not know libnats' locks.
#include "cluster/on_machines.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <iostream>
#include <numeric>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "support/eventually.hpp"

namespace brood::testing {
namespace {

using namespace std::chrono_literals;

constexpr const char* kJournal = "BROOD_TEST_JOURNAL";
constexpr const char* kMachine = "BROOD_TEST_MACHINE";

}  // namespace

Ran work_and_note(int n) {
  const int machine = std::atoi(std::getenv(kMachine));
  const std::string line = fmt::format("{} {}\n", n, machine);
  const int fd = ::open(std::getenv(kJournal), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (::write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    throw std::runtime_error("no journal");
  }
  ::close(fd);
  ::usleep(10'000);
  return {.square = n * n, .machine = machine};
}

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void OnMachines::make_machines(int count) {
  if (!NatsServer::there()) GTEST_SKIP() << "nats-server is not installed";
  if (const std::string why = Network::missing(); !why.empty()) GTEST_SKIP() << why;
  write_file(dir_.file("journal"), "");
  network_.emplace(count);
}

void OnMachines::TearDown() {
  if (!HasFailure()) return;
  for (const auto& agent : agents_) std::cerr << agent->program().describe() << '\n';
  constexpr std::size_t kMost = 4000;
  for (const auto& server : servers_) {
    const std::string log = server->log();
    std::cerr << log.substr(log.size() > kMost ? log.size() - kMost : 0) << '\n';
  }
  for (const auto& [number, machines] : runs()) {
    if (machines.size() == 1) continue;
    std::cerr << number << " ran on";
    for (const int machine : machines) std::cerr << ' ' << machine;
    std::cerr << '\n';
  }
}

std::function<bool()> OnMachines::on(int machine) const {
  return [machine, enter = network_->enter(machine), journal = dir_.file("journal")] {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::setenv(kJournal, journal.c_str(), 1);
    ::setenv(kMachine, std::to_string(machine).c_str(), 1);
    return enter();
  };
}

void OnMachines::start_agents(int first, int last, const std::string& url) {
  for (int machine = first; machine <= last; ++machine) {
    agents_.push_back(
        std::make_unique<AgentProcess>(url, AgentProcess::Start{.prepare = on(machine)}));
  }
}

void OnMachines::await(const ClusterPool& pool, std::size_t agents) {
  EXPECT_TRUE(eventually([&] { return pool.nodes().size() == agents; }))
      << pool.nodes().size() << " agents instead of " << agents;
}

void OnMachines::await_runs(std::size_t count) {
  EXPECT_TRUE(eventually([&] {
    const std::string text = read_file(dir_.file("journal"));
    return static_cast<std::size_t>(std::ranges::count(text, '\n')) >= count;
  })) << "less than "
      << count << " tasks have begun";
}

std::map<int, std::vector<int>> OnMachines::runs() const {
  std::map<int, std::vector<int>> all;
  std::istringstream text(read_file(dir_.file("journal")));
  int machine = 0;
  for (int number = 0; text >> number >> machine;) all[number].push_back(machine);
  return all;
}

void OnMachines::cost(const std::string& what, Clock::time_point since) {
  const std::chrono::duration<double> took = Clock::now() - since;
  std::cout << fmt::format("cost: {:<44} {:5.1f} s\n", what, took.count()) << std::flush;
}

std::vector<Ran> OnMachines::map(const ClusterPool& pool, const std::string& what,
                                 const std::function<void()>& disturb) {
  std::size_t before = 0;
  for (const auto& [number, machines] : runs()) before += machines.size();
  const auto counts = pool.counts();
  const auto begin = std::chrono::steady_clock::now();
  auto call =
      std::async(std::launch::async, [&] { return pool.map(&work_and_note, numbers(kTasks)); });
  await_runs(before + kTasks / 5);
  if (disturb) disturb();
  EXPECT_EQ(call.wait_for(120s), std::future_status::ready) << what << ": no end";
  const std::vector<Ran> results = call.get();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::size_t after = 0;
  for (const auto& [number, machines] : runs()) after += machines.size();
  std::cout << fmt::format("cost: {:<44} {:5.1f} s, {} tasks begun, {} sent again, {} doubled\n",
                           what, took.count(), after - before, pool.counts().resent - counts.resent,
                           pool.counts().duplicates - counts.duplicates)
            << std::flush;
  for (int n = 0; n < kTasks; ++n) {
    EXPECT_EQ(results.at(static_cast<std::size_t>(n)).square, n * n) << n;
  }
  return results;
}

}  // namespace brood::testing
