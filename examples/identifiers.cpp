// Counts the identifiers in every file below a folder three times: in this process alone, in a
// pool of processes, and in a pool whose workers are being killed. The totals must be equal. What
// is counted and how: identifiers.hpp; the same on a cluster: identifiers_cluster.cpp.
#include <brood/brood.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <exception>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "identifiers.hpp"

namespace {

using namespace identifiers;
using namespace std::chrono_literals;

// ---- Two more ways -----------------------------------------------------------------------------

Timed count_in_pool(const Tree& tree, const brood::PoolOptions& options, Progress progress) {
  const auto start = Clock::now();
  brood::Pool pool(options);
  Timed result = count_in(pool, tree, std::move(progress));
  result.seconds = seconds_since(start);
  return result;
}

// Kills a worker at once, and then another whenever half a second has passed.
class Killer {
 public:
  void maybe_kill(brood::Pool& pool) {
    if (Clock::now() < next_) return;
    const auto workers = pool.worker_pids();
    if (workers.empty()) return;
    std::uniform_int_distribution<std::size_t> pick(0, workers.size() - 1);
    const auto pid = workers[pick(random_)];
    if (::kill(pid, SIGKILL) == 0) killed_.insert(pid);
    next_ = Clock::now() + 500ms;
  }

  std::size_t killed() const { return killed_.size(); }

 private:
  std::mt19937 random_{std::random_device{}()};
  Clock::time_point next_ = Clock::now();
  std::set<int> killed_;
};

struct Massacre {
  Timed timed;
  std::size_t workers_killed = 0;
  std::size_t batches_lost = 0;
};

// try_map gives an outcome for each batch. Those whose worker died are mapped again.
Massacre count_under_fire(const Tree& tree, const brood::PoolOptions& options, Progress progress) {
  constexpr int kRoundsUnderFire = 20;  // then even a file of many seconds gets its turn
  const auto start = Clock::now();
  Massacre result;
  brood::Pool pool(options);
  Killer killer;
  std::vector<Batch> left = tree.batches;
  for (int round = 0; !left.empty(); ++round) {
    const auto watch = [&](std::size_t done, std::size_t total) {
      if (round < kRoundsUnderFire) killer.maybe_kill(pool);
      progress(tree.batches.size() - total + done, tree.batches.size());
    };
    auto outcomes = pool.with({.chunk = 1, .progress = watch}).try_map(count_batch, left);
    std::vector<Batch> again;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      try {
        result.timed.totals.add(std::move(outcomes[i]).value());
      } catch (const brood::WorkerCrashed&) {
        again.push_back(std::move(left[i]));
      }
    }
    result.batches_lost += again.size();
    left = std::move(again);
  }
  result.workers_killed = killer.killed();
  result.timed.seconds = seconds_since(start);
  progress.finish();
  return result;
}

// ---- What the user sees ------------------------------------------------------------------------

constexpr std::string_view kUsage = R"(usage: identifiers [options] [DIR]

Counts the identifiers in every file below DIR (default: /usr/include) in this process alone, in a
pool of processes, and in a pool whose workers are being killed, and checks that all agree.

  --workers N           processes in the pool (default: one for each CPU; 0: none, all is done here)
  --start-method NAME   how they are started: forkserver (default), fork or spawn
  --quiet               no progress
  --help                this text

Ends with 0 when all agree, 1 when they do not, 2 when it could not be tried.
)";

struct Options {
  fs::path folder = "/usr/include";
  brood::PoolOptions pool;
  bool quiet = false;
  bool help = false;
};

Options parse(const std::vector<std::string_view>& arguments) {
  Options options;
  bool folder_given = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const auto value = [&] {
      if (i + 1 == arguments.size())
        throw std::invalid_argument(fmt::format("{} needs a value", argument));
      return arguments[++i];
    };
    if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (argument == "--quiet" || argument == "-q") {
      options.quiet = true;
    } else if (argument == "--workers") {
      const std::string_view text = value();
      int workers = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), workers);
      if (error != std::errc{} || end != text.data() + text.size() || workers < 0 || workers > 1024)
        throw std::invalid_argument(
            fmt::format("--workers needs a number from 0 to 1024, not '{}'", text));
      options.pool.workers = workers;
    } else if (argument == "--start-method") {
      options.pool.start_method = brood::start_method_from(std::string(value()));
    } else if (argument.starts_with("-")) {
      throw std::invalid_argument(fmt::format("unknown option '{}'", argument));
    } else if (folder_given) {
      throw std::invalid_argument(fmt::format("one folder at a time, not also '{}'", argument));
    } else {
      options.folder = argument;
      folder_given = true;
    }
  }
  std::error_code error;
  if (!options.help && !fs::is_directory(options.folder, error))
    throw std::invalid_argument(
        fmt::format("cannot count below '{}': {}", options.folder.string(),
                    error ? error.message() : std::string("it is not a directory")));
  return options;
}

void print_skipped(std::string_view what, const std::vector<std::string>& lines) {
  constexpr std::size_t kShown = 5;
  if (lines.empty()) return;
  fmt::print("{}: {}\n", what, lines.size());
  for (std::size_t i = 0; i < std::min(lines.size(), kShown); ++i) fmt::print("  {}\n", lines[i]);
  if (lines.size() > kShown) fmt::print("  ... and {} more\n", lines.size() - kShown);
}

void print_totals(const Tree& tree, const Totals& totals) {
  fmt::print("\n{} files, {:.1f} MB, {} identifiers, {} of them distinct\n", totals.files(),
             static_cast<double>(totals.bytes()) / 1e6, totals.identifiers(), totals.distinct());
  for (const auto& [name, count] : totals.most_frequent(10))
    fmt::print("{:>10}  {}\n", count, name);
  std::vector<std::string> unreadable;
  for (const auto* list : {&tree.unreadable, &totals.unreadable()}) {
    for (const Skipped& skipped : *list)
      unreadable.push_back(fmt::format("{}: {}", skipped.path, skipped.reason));
  }
  print_skipped("not counted, unreadable", unreadable);
  print_skipped("not counted, binary", totals.binary());
}

int run(const Options& options) {
  const Tree tree = list_tree(options.folder);
  fmt::print("{}: {} files in {} batches\n", options.folder.string(), tree.files,
             tree.batches.size());
  std::fflush(stdout);
  warm_up(tree);
  const Timed alone = count_sequentially(tree, {"one process", options.quiet});
  const Timed pooled = count_in_pool(tree, options.pool, {"pool", options.quiet});
  const Massacre fire = count_under_fire(tree, options.pool, {"pool under fire", options.quiet});

  print_totals(tree, alone.totals);
  const auto verdict = [&](const Totals& totals) {
    return totals == alone.totals ? "equal" : "DIFFERENT";
  };
  fmt::print("\n{:<18} {:8.3f} s\n", "one process", alone.seconds);
  fmt::print("{:<18} {:8.3f} s   {:.2f} times as fast, totals {}\n", "pool", pooled.seconds,
             alone.seconds / pooled.seconds, verdict(pooled.totals));
  fmt::print("{:<18} {:8.3f} s   {} workers killed, {} batches counted again, totals {}\n",
             "pool under fire", fire.timed.seconds, fire.workers_killed, fire.batches_lost,
             verdict(fire.timed.totals));
  return pooled.totals == alone.totals && fire.timed.totals == alone.totals ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  try {
    const Options options = parse({argv + 1, argv + argc});
    if (options.help) {
      fmt::print("{}", kUsage);
      return 0;
    }
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "identifiers: {}\n", error.what());
    return 2;
  }
}
