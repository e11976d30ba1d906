#include "support/leak_check.hpp"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include <brood/process/family.hpp>

#include "support/temp_dir.hpp"

namespace brood::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// "socket:[123]" differs each time: the kind is what counts.
std::string kind_of(const std::string& target) {
  std::string kind;
  for (const char letter : target) {
    const bool digit = letter >= '0' && letter <= '9';
    if (!digit) kind += letter;
    if (digit && !kind.ends_with('N')) kind += 'N';
  }
  return kind;
}

int parent_of(const std::string& pid) {
  const std::string text = read_file("/proc/" + pid + "/stat");
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return -1;
  std::istringstream rest(text.substr(end + 1));
  std::string state;
  int parent = -1;
  rest >> state >> parent;
  return parent;
}

void add_processes(Footprint& footprint) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    // The fork server may be replaced by another.
    std::ifstream comm("/proc/" + name + "/comm");
    std::string command;
    std::getline(comm, command);
    if (parent_of(name) == ::getpid() && command != "brood-server") {
      footprint.processes.insert(fmt::format("child {} ({})", name, command));
    }
  }
  const auto family = detail::Family::current();
  if (!family) return;
  family->registry().for_each([&](detail::Tag tag, const detail::RecordWord&) {
    const auto& record = family->registry().record(tag);
    const auto role = static_cast<detail::Role>(record.role);
    if (role == detail::Role::root || role == detail::Role::watchdog) return;
    footprint.processes.insert(
        fmt::format("member {} (pid {})", family->registry().name(tag), record.pid.load()));
  });
}

}  // namespace

Footprint Footprint::now() {
  Footprint footprint;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd", error)) {
    const fs::path target = fs::read_symlink(entry.path(), error);
    if (!error && target.string().find("/proc/") != 0) {
      ++footprint.descriptors[kind_of(target.string())];
    }
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t path = line.find("/memfd:");
    if (path != std::string::npos) ++footprint.mappings[line.substr(path)];
  }
  for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
    footprint.names.insert(entry.path().string());
  }
  add_processes(footprint);
  return footprint;
}

std::string Footprint::beyond(const Footprint& before) const {
  std::string text;
  const auto more = [&](const char* what, const auto& here, const auto& there) {
    for (const auto& [name, count] : here) {
      const auto found = there.find(name);
      const int was = found == there.end() ? 0 : found->second;
      if (count > was) text += fmt::format("{} {}: {} before, {} after\n", what, name, was, count);
    }
  };
  more("descriptor", descriptors, before.descriptors);
  more("mapping", mappings, before.mappings);
  for (const std::string& name : names) {
    if (!before.names.contains(name)) text += fmt::format("name {}\n", name);
  }
  for (const std::string& process : processes) {
    if (!before.processes.contains(process)) text += fmt::format("process {}\n", process);
  }
  return text;
}

void LeakCheck::OnTestStart(const ::testing::TestInfo& /*info*/) { before_ = Footprint::now(); }

void LeakCheck::OnTestEnd(const ::testing::TestInfo& info) {
  // What is on its way out (a process that was killed a moment ago) is waited for, not excused.
  std::string left = Footprint::now().beyond(before_);
  for (int i = 0; i < 200 && !left.empty(); ++i) {
    std::this_thread::sleep_for(10ms);
    left = Footprint::now().beyond(before_);
  }
  if (!left.empty()) {
    ADD_FAILURE() << info.test_suite_name() << "." << info.name() << " left behind:\n" << left;
  }
}

}  // namespace brood::testing
