// brood-top PID: what a running family is doing, and what everybody waits for.
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/segment.hpp>
#include <brood/version.hpp>

#include "report.hpp"
#include "snapshot.hpp"
#include "system_view.hpp"

namespace {

using namespace std::chrono_literals;
namespace top = brood::top;

constexpr const char* kUsage =
    R"(brood-top [--once | --json] [--interval SECONDS] PID

Shows the family of processes that PID belongs to: its members and what they are doing, locks with
holders and waiters, queues with depth, shared memory; and which lock everybody waits for. It only
reads. Needs the family's user, or root, and the same version of Brood.

  --once       show it once, after looking at it for a tenth of a second, and exit
  --json       the same as one JSON object
  --interval   how often it is shown anew, in seconds; 1 if not given
  --version
)";

constexpr int kExitUsage = 2;

struct Options {
  int pid = 0;
  bool once = false;
  bool json = false;
  double interval = 1;
};

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value <= 0) return std::nullopt;
  return value;
}

std::optional<Options> parse(const std::vector<std::string>& words) {
  Options options;
  for (std::size_t i = 0; i != words.size(); ++i) {
    if (words[i] == "--once") {
      options.once = true;
    } else if (words[i] == "--json") {
      options.json = options.once = true;
    } else if (words[i] == "--interval" && i + 1 != words.size()) {
      const auto seconds = number<double>(words[++i]);
      if (!seconds) return std::nullopt;
      options.interval = *seconds;
    } else if (const auto pid = number<int>(words[i]); pid && options.pid == 0) {
      options.pid = *pid;
    } else {
      return std::nullopt;
    }
  }
  if (options.pid == 0) return std::nullopt;
  return options;
}

std::size_t terminal_width() {
  winsize size{};
  if (::isatty(1) == 1 && ::ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return std::string::npos;
}

void print(const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t size = ::write(1, text.data() + done, text.size() - done);
    if (size < 0) std::_Exit(1);
    done += static_cast<std::size_t>(size);
  }
}

int watch(const Options& options) {
  auto family = brood::detail::Segment::look_at(top::open_family_memory(options.pid));
  std::optional<top::Snapshot> before;
  if (options.once) {
    // Rates, and how long something lasts that nobody notes, need two looks.
    constexpr auto kBetween = 100ms;
    before = top::take_snapshot(family, nullptr);
    std::this_thread::sleep_for(kBetween);
  }
  for (;;) {
    top::Snapshot now = top::take_snapshot(family, before ? &*before : nullptr);
    if (options.json) {
      print(top::as_json(now));
    } else {
      const std::string text = top::as_text(now, terminal_width());
      print(options.once ? text : "\x1b[H\x1b[2J" + text);
    }
    if (options.once) return 0;
    const bool root_lives = std::any_of(now.processes.begin(), now.processes.end(),
                                        [](const auto& p) { return p.state == "live"; });
    if (!root_lives) {
      print("the family has ended\n");
      return 0;
    }
    before = std::move(now);
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval));
  }
}

int run(const Options& options) {
  try {
    return watch(options);
  } catch (const std::exception& e) {
    fmt::print(stderr, "brood-top: {}\n", e.what());
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words == std::vector<std::string>{"--version"}) {
    fmt::print("brood-top {}.{}.{}\n", brood::kVersion.major, brood::kVersion.minor,
               brood::kVersion.patch);
    return 0;
  }
  if (words == std::vector<std::string>{"--help"}) {
    fmt::print("{}", kUsage);
    return 0;
  }
  const std::optional<Options> options = parse(words);
  if (!options) {
    fmt::print(stderr, "{}", kUsage);
    return kExitUsage;
  }
  // What is read may be damaged, and reading it end in a crash: that is a child's, and is reported.
  const pid_t child = ::fork();
  if (child < 0) return run(*options);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::_Exit(run(*options));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const int signal = WTERMSIG(status);
  if (signal == SIGSEGV || signal == SIGBUS || signal == SIGABRT) {
    fmt::print(stderr, "brood-top: the memory of that family makes no sense ({}): it is damaged\n",
               ::strsignal(signal));
    return 1;
  }
  return 128 + signal;
}
