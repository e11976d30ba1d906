#include <brood/platform/process_tree.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/program.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How long a round waits for threads that do not stop. These are in the kernel and cannot be
/// interrupted: a parent in vfork(), which cannot fork until its child, stopped too, lets it go.
constexpr auto kStopPatience = 100ms;
/// How long a tree is followed that grows as fast as it is stopped.
constexpr auto kGrowthPatience = 2s;
/// How long killed processes may take to end before others are looked for.
constexpr auto kEndPatience = 1s;
constexpr auto kPause = 50us;

/// All of a file of /proc; empty when it cannot be read.
std::string read_all(const std::string& path) {
  std::string text;
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return text;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t got = ::read(file.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
}

/// Calls `visit(number)` for every entry of a folder that is a number.
template <class Visit>
void for_each_number(const std::string& folder, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
  if (entries == nullptr) return;
  while (const dirent* entry = ::readdir(entries.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string_view name = entry->d_name;
    int number = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + name.size()) visit(number);
  }
}

std::vector<int> thread_ids(int pid) {
  std::vector<int> threads;
  for_each_number(fmt::format("/proc/{}/task", pid), [&](int id) { threads.push_back(id); });
  return threads;
}

/// State and parent of a thread, from its `stat` in /proc.
struct Stat {
  char state = '\0';  // '\0': there is none
  int parent = 0;
};
Stat read_stat(const std::string& path) {
  const std::string text = read_all(path);
  const std::size_t end = text.rfind(')');  // the command before it may contain anything
  if (end == std::string::npos || end + 4 >= text.size()) return {};
  return {.state = text[end + 2],
          .parent = static_cast<int>(std::strtol(text.c_str() + end + 4, nullptr, 10))};
}

/// The value of a line of `status` or `fdinfo`, "SigCgt:\t0000000000004000".
std::string_view line_of(std::string_view text, std::string_view name) {
  std::size_t at = text.starts_with(name) ? 0 : text.find(fmt::format("\n{}", name));
  if (at == text.npos) return {};
  at = text.find('\t', at);
  return at == text.npos ? std::string_view() : text.substr(at + 1, text.find('\n', at) - at - 1);
}

bool catches(int pid, int signal) {
  const std::string status = read_all(fmt::format("/proc/{}/status", pid));
  const std::string_view caught = line_of(status, "SigCgt:");
  std::uint64_t mask = 0;
  std::from_chars(caught.data(), caught.data() + caught.size(), mask, 16);
  return (mask >> static_cast<unsigned>(signal - 1) & 1U) != 0;
}

int pid_of(int descriptor) {
  const std::string info = read_all(fmt::format("/proc/self/fdinfo/{}", descriptor));
  const std::string_view pid = line_of(info, "Pid:");
  int number = 0;
  std::from_chars(pid.data(), pid.data() + pid.size(), number);
  return number;
}

bool is_stopped_or_ended(char state) {
  return state == 'T' || state == 't' || state == 'Z' || state == 'X';
}

/// As well as it can be done: false when it is gone or not ours to signal.
bool signal_quietly(const ProcessHandle& process, int number) noexcept {
  return ::syscall(SYS_pidfd_send_signal, process.descriptor(), number, nullptr, 0U) == 0;
}

/// Not reaped: nobody else has its number.
bool holds_its_number(const ProcessHandle& process) noexcept {
  return signal_quietly(process, 0) || errno != ESRCH;
}

bool ended(const ProcessHandle& process) {
  try {
    return process.wait_ended(Deadline::now());
  } catch (const SystemError& e) {
    static_cast<void>(e);
    return false;
  }
}

/// One more process can be held, and its files in /proc still be read.
bool descriptors_are_left() noexcept {
  const Fd folder(::open("/", O_PATH | O_CLOEXEC));
  const Fd file(::open("/", O_PATH | O_CLOEXEC));
  return folder.valid() && file.valid();
}

bool kernel_lists_children() {
  static const bool lists = [] {
    const int pid = current_pid();
    return ::access(fmt::format("/proc/{}/task/{}/children", pid, pid).c_str(), R_OK) == 0;
  }();
  return lists;
}

}  // namespace

void adopt_orphans() noexcept { ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

std::vector<int> children_of_by_search(int pid) {
  std::vector<int> children;
  for_each_number("/proc", [&](int other) {
    const Stat stat = read_stat(fmt::format("/proc/{}/stat", other));
    if (stat.state != '\0' && stat.parent == pid) children.push_back(other);
  });
  return children;
}

std::vector<int> children_of(int pid) {
  if (!kernel_lists_children()) return children_of_by_search(pid);
  std::vector<int> children;
  const std::string tasks = fmt::format("/proc/{}/task", pid);
  for_each_number(tasks, [&](int thread) {
    const std::string list = read_all(fmt::format("{}/{}/children", tasks, thread));
    const char* at = list.data();
    const char* const end = at + list.size();
    while (at != end) {
      int child = 0;
      const auto parsed = std::from_chars(at, end, child);
      if (parsed.ec == std::errc()) children.push_back(child);
      at = std::find_if(parsed.ptr == at ? at + 1 : parsed.ptr, end,
                        [](char c) { return c >= '0' && c <= '9'; });
    }
  });
  return children;
}

TreeKill::TreeKill(int process) {
  Member root{.process = ProcessHandle(duplicate(process)), .pid = 0, .asked = false};
  root.pid = pid_of(process);
  if (root.pid == current_pid()) throw StateError("a process cannot end the tree that it is of");
  if (ended(root.process)) return;
  members_.push_back(std::move(root));
  try {
    signal_quietly(members_.front().process, SIGSTOP);
    collect();
    for (std::size_t i = 0; i < members_.size(); ++i) {
      Member& member = members_[i];
      if (i == 0 && !catches(member.pid, SIGTERM)) continue;
      member.asked = signal_quietly(member.process, SIGTERM);
      signal_quietly(member.process, SIGCONT);
    }
  } catch (...) {
    kill_all();
    throw;
  }
}

bool TreeKill::asked_any() const {
  return std::any_of(members_.begin(), members_.end(),
                     [](const Member& member) { return member.asked; });
}

bool TreeKill::obeyed(Deadline deadline) const {
  return std::all_of(members_.begin(), members_.end(), [&](const Member& member) {
    return !member.asked || member.process.wait_ended(deadline);
  });
}

void TreeKill::finish() noexcept {
  if (!std::exchange(live_, false) || members_.empty()) return;
  try {
    // A second look at least: who is not stopped but killed may have forked before that, and what
    // it made has fallen to the process that adopts, or is still its own.
    const Deadline give_up = Deadline::after(kGrowthPatience);
    for (bool again = true; again && !give_up.passed();) {
      for (const Member& member : members_) signal_quietly(member.process, SIGSTOP);
      collect();
      kill_descendants();
      const Deadline end = Deadline::after(kEndPatience);
      for (std::size_t i = 1; i < members_.size(); ++i) {
        static_cast<void>(members_[i].process.wait_ended(end));
      }
      again = find_more();
    }
  } catch (const std::exception& e) {
    static_cast<void>(e);  // no memory or descriptors: those who are known are killed
  }
  kill_all();
}

/// Stops who is new until nobody is, and everybody known has stopped.
void TreeKill::collect() {
  zombies_.clear();
  Deadline patience = Deadline::after(kStopPatience);
  const Deadline give_up = Deadline::after(kGrowthPatience);
  for (bool settled_before = false; !give_up.passed();) {
    if (find_more()) {
      settled_before = false;
      patience = Deadline::after(kStopPatience);
      continue;
    }
    // SUBTLE: only a look that began when all had stopped, and found nobody, has seen everybody.
    if (settled_before || patience.passed()) break;
    settled_before = settled();
    if (!settled_before) std::this_thread::sleep_for(kPause);
  }
}

/// One look at the children of everybody; stops those that are new. True if there were any.
bool TreeKill::find_more() {
  std::erase_if(members_, [this](const Member& member) {
    // The process itself stays, so that it is the first.
    return &member != members_.data() && !holds_its_number(member.process);
  });
  bool any = false;
  // SUBTLE: the youngest first and the process itself last. Who loses its parent during the look
  // moves up, so it is seen at its new parent if it was missed at the old one.
  for (std::size_t i = members_.size(); i-- > 0;) {
    const int parent = members_[i].pid;
    if (ended(members_[i].process)) continue;
    // The newest first: what forks and ends at once is caught at its last, or never.
    std::vector<int> children = children_of(parent);
    std::reverse(children.begin(), children.end());
    for (const int child : children) any = add(child, parent) || any;
  }
  return any;
}

/// Takes in and stops a process that was seen among the children of the member `parent`.
bool TreeKill::add(int pid, int parent) {
  if (pid == current_pid()) return false;
  const auto same = [](int number) {
    return [number](const Member& member) { return member.pid == number; };
  };
  if (std::any_of(members_.begin(), members_.end(), same(pid))) return false;
  const auto its_parent = std::find_if(members_.begin(), members_.end(), same(parent));
  if (its_parent == members_.end()) return false;
  // What has ended is not looked at again: its children are another's by now, and its parent, which
  // is stopped, does not reap it, so its number stays its own.
  if (zombies_.contains(pid)) return false;
  if (read_stat(fmt::format("/proc/{}/stat", pid)).state == 'Z' && thread_ids(pid).size() == 1) {
    zombies_.insert(pid);
    return false;
  }
  Member member{.process = {}, .pid = pid, .asked = false};
  bool room = true;
  try {
    member.process = ProcessHandle::try_open(pid);
    room = descriptors_are_left();
  } catch (const SystemError& e) {
    static_cast<void>(e);
    room = false;
  }
  if (!room) {
    member.process = ProcessHandle();
    // Its parent is stopped and does not reap it, so the number is still its own. It gets no grace.
    if (read_stat(fmt::format("/proc/{}/stat", pid)).parent == parent &&
        holds_its_number(its_parent->process)) {
      ::kill(pid, SIGKILL);
    }
    return false;
  }
  if (!member.process.valid() || ended(member.process)) return false;
  // SUBTLE: opened, then asked for its parent; and neither number was another's meanwhile, as both
  // are still held. So the descriptor is that of a child of the parent that is meant.
  if (read_stat(fmt::format("/proc/{}/stat", pid)).parent != parent ||
      !holds_its_number(member.process) || !holds_its_number(its_parent->process)) {
    return false;
  }
  signal_quietly(member.process, SIGSTOP);
  members_.push_back(std::move(member));
  return true;
}

/// Every thread of every member has stopped or ended.
bool TreeKill::settled() const {
  bool all = true;
  for (const Member& member : members_) {
    const std::string tasks = fmt::format("/proc/{}/task", member.pid);
    for_each_number(tasks, [&](int thread) {
      const Stat stat = read_stat(fmt::format("{}/{}/stat", tasks, thread));
      all = all && (stat.state == '\0' || is_stopped_or_ended(stat.state));
    });
  }
  return all;
}

void TreeKill::kill_descendants() const noexcept {
  for (std::size_t i = 1; i < members_.size(); ++i) signal_quietly(members_[i].process, SIGKILL);
}

void TreeKill::kill_all() noexcept {
  live_ = false;
  kill_descendants();
  if (!members_.empty()) signal_quietly(members_.front().process, SIGKILL);
}

}  // namespace brood::detail
