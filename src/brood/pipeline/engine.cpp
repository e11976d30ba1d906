#include <brood/pipeline/engine.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <brood/cpu_count.hpp>
#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/pipeline/process_node.hpp>
#include <brood/pipeline/thread_node.hpp>
#include <brood/pool.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/serial_pool.hpp>

namespace brood::detail {

struct PoolAccess {
  static const std::shared_ptr<PoolCore>& core(const Pool& pool) {
    pool.require_pool();
    return pool.core_;
  }
};

ItemValue StageFunction::call_keeping(ItemValue& /*input*/) {
  throw StateError("this stage cannot be asked again for an item");
}
ItemValue StageFunction::call_failed(const std::exception_ptr& /*failure*/) {
  throw StateError("this stage does not take failed items");
}
void StageFunction::encode_input(ByteSink& /*sink*/, const ItemValue& /*input*/) const {
  throw StateError("items of this stage do not cross");
}
ItemValue StageFunction::decode_input(ByteSource& /*source*/) const {
  throw StateError("items of this stage do not cross");
}
void StageFunction::encode_output(ByteSink& /*sink*/, const ItemValue& /*output*/) const {
  throw StateError("items of this stage do not cross");
}
ItemValue StageFunction::decode_output(ByteSource& /*source*/) const {
  throw StateError("items of this stage do not cross");
}

namespace {

using Clock = Deadline::Clock;
using namespace std::chrono_literals;

/// Items in flight if nothing is said: short ones go in batches of hundreds.
constexpr std::size_t kMostInFlight = 4096;
/// How long the source is asked for more before anything else is looked at.
constexpr auto kPull = 200us;
constexpr auto kTick = 100ms;

void require_count(int count, int least, int most, const char* what) {
  if (count < least || count > most) {
    throw ArgumentError(
        fmt::format("{} {} for a stage: {} to {} are possible", count, what, least, most));
  }
}

/// A stage in this process, by this thread.
struct HereNode {
  std::shared_ptr<const StageSpec> spec;
  std::string name;
  bool in_place_of_workers = false;
  std::uint64_t next = 0;                        // in_order: whose turn it is
  std::map<std::uint64_t, FlowItem> early = {};  // those whose turn it is not
  StageStats stats = {};
};

/// One run.
class PipelineRun {
 public:
  using Specs = std::vector<std::shared_ptr<const StageSpec>>;
  PipelineRun(const SourceSpec& source, const Specs& specs, const PipelineOptions& options)
      : options_(options),
        member_(Member::current()),
        signal_(std::make_shared<FlowSignal>()),
        seed_(options.seed ? *options.seed : fresh_seed()),
        most_(options.max_in_flight != 0 ? options.max_in_flight : kMostInFlight) {
    if (!source.begin) throw StateError("a pipeline without a source");
    const int workers = options.workers.value_or(cpu_count());
    constexpr int kMost = static_cast<int>(PoolControl::kMaxWorkers);
    if (workers < 0 || workers > kMost) {
      throw ArgumentError(fmt::format(
          "a pipeline of {} workers: 0 (all in the caller) to {} are possible", workers, kMost));
    }
    if (options.stop.stop_requested()) throw_stopped();
    build(specs, workers);
    if (member_ == nullptr) member_ = Member::current();
    total_ = source.size();
    source_ = source.begin();
  }

  PipelineStats run() {
    const std::stop_callback on_stop(options_.stop, [signal = signal_] { signal->raise(); });
    const WorkerStates::Use states(states_);
    while (!over()) {
      if (options_.stop.stop_requested()) throw_stopped();
      bool moved = false;
      for (std::size_t i = nodes_.size(); i-- > 0;) {
        if (nodes_[i].away) moved = collect(i) || moved;
      }
      const bool pulled = pull();
      for (Node& node : nodes_) {
        if (node.away) node.away->start(true);
      }
      tick(false);
      if (!moved && !pulled && !over()) sleep();
    }
    if (failure_) std::rethrow_exception(failure_);
    tick(true);
    return stats();
  }

 private:
  struct Node {
    std::unique_ptr<FlowNode> away;
    std::unique_ptr<HereNode> here;
    bool outcomes_behind = false;  // a later stage takes failed items
  };

  [[noreturn]] void throw_stopped() const {
    throw TaskCancelled(
        fmt::format("the pipeline was stopped: {} of the {} items that it had taken "
                    "were through",
                    done_, pulled_));
  }

  // --- stages ----------------------------------------------------------------------------------

  static std::string name_of(const Specs& specs, std::size_t stage) {
    static constexpr const char* kNames[] = {"parallel", "parallel", "serial", "in_order"};
    const StageSpec& spec = *specs[stage];
    return spec.name.empty() ? fmt::format("{} {}", kNames[spec.kind], stage + 1) : spec.name;
  }
  static bool joins(const StageSpec& a, const StageSpec& b) {
    return b.kind == StageSpec::processes && a.pool == b.pool && !a.workers && !b.workers &&
           !a.limits && !b.limits;
  }

  void build(const Specs& specs, int workers) {
    // SUBTLE: all pools first: under StartMethod::fork none can be made once there are threads.
    std::vector<std::shared_ptr<PoolCore>> cores(specs.size());
    for (std::size_t i = 0; i < specs.size() && workers > 0; ++i) {
      if (specs[i]->kind == StageSpec::processes)
        cores[i] = pool_for(*specs[i], workers, name_of(specs, i));
    }
    for (std::size_t i = 0; i < specs.size();) {
      const StageSpec& spec = *specs[i];
      Node node;
      std::size_t end = i + 1;
      if (spec.kind == StageSpec::processes && cores[i] != nullptr) {
        while (end < specs.size() && joins(spec, *specs[end])) ++end;
        std::vector<std::string> names;
        for (std::size_t s = i; s < end; ++s) names.push_back(name_of(specs, s));
        node.away =
            std::make_unique<ProcessNode>(cores[i],
                                          Specs(specs.begin() + static_cast<std::ptrdiff_t>(i),
                                                specs.begin() + static_cast<std::ptrdiff_t>(end)),
                                          std::move(names), most_, seed_);
      } else if (spec.kind == StageSpec::threads && workers > 0) {
        node.away =
            std::make_unique<ThreadNode>(specs[i], name_of(specs, i), most_, seed_, signal_);
      } else {
        node.here =
            std::make_unique<HereNode>(HereNode{.spec = specs[i], .name = name_of(specs, i)});
        node.here->in_place_of_workers =
            spec.kind == StageSpec::processes || spec.kind == StageSpec::threads;
      }
      nodes_.push_back(std::move(node));
      i = end;
    }
    bool behind = static_cast<bool>(options_.on_failure);
    for (std::size_t i = nodes_.size(); i-- > 0;) {
      nodes_[i].outcomes_behind = behind;
      behind = behind || (nodes_[i].here && nodes_[i].here->spec->takes_outcomes);
    }
  }

  std::shared_ptr<PoolCore> pool_for(const StageSpec& spec, int workers, const std::string& name) {
    if (spec.pool != nullptr) return PoolAccess::core(*spec.pool);
    if (!spec.workers) {
      if (!shared_pool_) shared_pool_ = make_pool(workers, "brood-pipeline", options_.timeline);
      return PoolAccess::core(*shared_pool_);
    }
    if (*spec.workers == 0) return nullptr;
    own_pools_.push_back(make_pool(*spec.workers, name));
    return PoolAccess::core(*own_pools_.back());
  }
  std::unique_ptr<Pool> make_pool(int workers, std::string name, std::string timeline = {}) const {
    return std::make_unique<Pool>(PoolOptions{.workers = workers,
                                              .start_method = options_.start_method,
                                              .name = std::move(name),
                                              .timeline = std::move(timeline)});
  }

  // --- items -----------------------------------------------------------------------------------

  [[nodiscard]] bool over() const { return ended_ && in_flight_ == 0; }

  [[nodiscard]] bool room() const {
    if (ended_) return false;
    if (in_flight_ == 0) return true;
    if (in_flight_ >= most_) return false;
    const std::size_t bytes = options_.max_bytes_in_flight;
    return bytes == 0 || (through_ > 0 && (in_flight_ + 1) * largest_ <= bytes);
  }
  [[nodiscard]] bool hungry() const {
    for (const Node& node : nodes_) {
      if (node.away) return node.away->hungry();
    }
    return true;
  }

  /// Takes items from the source as long as there is room and the first workers want some.
  bool pull() {
    if (!room() || !hungry()) return false;
    const Clock::time_point end = Clock::now() + kPull;
    do {
      FlowItem item;
      item.number = pulled_;
      try {
        item.value = source_();
      } catch (...) {
        fail(pulled_, std::current_exception());
        return true;
      }
      if (!item.value) {
        ended_ = true;
        return true;
      }
      ++pulled_;
      most_in_flight_ = std::max(most_in_flight_, ++in_flight_);
      deliver(0, std::move(item));
    } while (room() && hungry() && Clock::now() < end);
    return true;
  }

  bool collect(std::size_t at) {
    std::vector<FlowItem> items;
    if (!nodes_[at].away->collect(items)) return false;
    for (FlowItem& item : items) {
      note_bytes(item.counted, item.bytes);
      item.counted = item.bytes;
      if (item.failure) note_failure(at, item);
      deliver(at + 1, std::move(item));
    }
    return true;
  }

  /// It is counted with `before` bytes, and is `now` from here on.
  void note_bytes(std::size_t before, std::size_t now) {
    bytes_ += now - before;
    largest_ = std::max(largest_, now);
    most_bytes_ = std::max(most_bytes_, bytes_);
  }

  /// Lets it go on at stage `at`, as far as it goes at once.
  void deliver(std::size_t at, FlowItem item) {
    for (; at < nodes_.size(); ++at) {
      Node& node = nodes_[at];
      if (node.away) {
        if (!item.value) continue;
        if (item.number > wanted_to_) {
          item.value = {};
          continue;
        }
        const std::size_t before = item.counted;
        note_bytes(before, node.away->give(std::move(item)));
        return;
      }
      HereNode& here = *node.here;
      if (here.spec->kind == StageSpec::in_order) {
        if (item.number != here.next) {
          here.early.emplace(item.number, std::move(item));
          here.stats.deepest = std::max(here.stats.deepest, here.early.size());
          return;
        }
        compute(at, item);
        ++here.next;
        deliver(at + 1, std::move(item));
        while (!here.early.empty() && here.early.begin()->first == here.next) {
          FlowItem next = std::move(here.early.extract(here.early.begin()).mapped());
          compute(at, next);
          ++here.next;
          deliver(at + 1, std::move(next));
        }
        return;
      }
      compute(at, item);
    }
    leave(std::move(item));
  }

  void compute(std::size_t at, FlowItem& item) {
    HereNode& here = *nodes_[at].here;
    const bool outcome = here.spec->takes_outcomes;
    if (item.number > wanted_to_) {
      item.value = {};
      item.failure = nullptr;
    }
    if (!item.value && !(outcome && item.failure)) return;
    StageFunction& function = *here.spec->function;
    ItemValue input = std::move(item.value);
    const Clock::time_point start = Clock::now();
    if (here.in_place_of_workers) {
      // The same failures as from workers.
      const ItemScope scope(&item.number, seed_);
      Outcome<ItemValue> result =
          outcome_of<ItemValue>([&] { return function.call(input); }, item.number);
      if (result) {
        item.value = std::move(*result);
      } else {
        item.failure = result.error();
      }
    } else {
      try {
        item.value = item.failure ? function.call_failed(std::exchange(item.failure, nullptr))
                                  : function.call(input);
      } catch (...) {
        item.failure = std::current_exception();
      }
    }
    here.stats.busy += Clock::now() - start;
    ++here.stats.items;
    if (item.failure) {
      ++here.stats.failed;
      note_failure(at, item);
    }
  }

  /// It has failed at this stage.
  void note_failure(std::size_t at, FlowItem& item) {
    if (nodes_[at].outcomes_behind) return;
    fail(item.number, std::exchange(item.failure, nullptr));
  }
  /// The run ends with this, unless an item before it fails too.
  void fail(std::uint64_t number, std::exception_ptr failure) {
    ended_ = true;
    if (number > wanted_to_ || (failure_ && number == wanted_to_)) return;
    wanted_to_ = number;
    failure_ = std::move(failure);
    for (Node& node : nodes_) {
      if (node.away) node.away->drop_behind(number);
    }
  }

  void leave(FlowItem item) {
    --in_flight_;
    ++through_;
    bytes_ -= item.counted;
    if (item.failure) {
      ++failed_;
      options_.on_failure(item.number, item.failure);
    } else if (item.value) {
      ++done_;
    }
  }

  // --- waiting and telling -----------------------------------------------------------------------

  void sleep() {
    const std::optional<Member::Glance> glance =
        member_ ? std::optional(member_->look()) : std::nullopt;
    std::vector<FutexWord> words{{&signal_->word, signal_->word.load()}};
    if (options_.stop.stop_requested()) return;
    Deadline soon = tells() ? Deadline::at(next_tick_) : Deadline::never();
    for (Node& node : nodes_) {
      if (node.away && node.away->look(words, soon)) return;
    }
    std::sort(words.begin() + 1, words.end(),
              [](const FutexWord& a, const FutexWord& b) { return a.word < b.word; });
    words.erase(
        std::unique(words.begin(), words.end(),
                    [](const FutexWord& a, const FutexWord& b) { return a.word == b.word; }),
        words.end());
    constexpr std::size_t kMostWords = kMaxFutexWords - 4;  // some are the member's own
    if (words.size() > kMostWords) {
      words.resize(kMostWords);
      soon = soon.sooner(Deadline::after(5ms));
    }
    if (glance) {
      member_->sleep(*glance, words, soon);
    } else {
      futex_wait_any(words, soon);
    }
  }

  [[nodiscard]] bool tells() const { return options_.progress || options_.watch; }
  void tick(bool last) {
    if (!tells()) return;
    const Clock::time_point now = Clock::now();
    if (!last && now < next_tick_) return;
    next_tick_ = now + kTick;
    if (options_.progress) {
      const auto pulled = static_cast<std::size_t>(pulled_);
      options_.progress(static_cast<std::size_t>(done_ + failed_),
                        last ? pulled : std::max(pulled, total_.value_or(0)));
    }
    if (options_.watch) options_.watch(stats());
  }

  [[nodiscard]] PipelineStats stats() const {
    PipelineStats all;
    all.items = pulled_;
    all.done = done_;
    all.failed = failed_;
    all.most_in_flight = most_in_flight_;
    all.most_bytes = most_bytes_;
    all.elapsed = Clock::now() - start_;
    for (const Node& node : nodes_) {
      if (node.away) {
        node.away->add_stats(all.stages);
        continue;
      }
      all.stages.push_back(node.here->stats);
      all.stages.back().name = node.here->name;
      all.stages.back().on = "here";
      all.stages.back().depth = node.here->early.size();
    }
    for (StageStats& stage : all.stages) {
      stage.waiting = std::max(all.elapsed * std::max(stage.workers, 1) - stage.busy, 0ns);
    }
    return all;
  }

  const PipelineOptions& options_;
  std::shared_ptr<Member> member_;
  std::shared_ptr<FlowSignal> signal_;
  std::uint64_t seed_;
  std::size_t most_;
  WorkerStates states_;  // of stages that are here in place of workers
  // NOTE: nodes go before the pools that they work with.
  std::unique_ptr<Pool> shared_pool_;
  std::vector<std::unique_ptr<Pool>> own_pools_;
  std::vector<Node> nodes_;
  SourceSpec::Next source_;
  std::optional<std::size_t> total_;

  bool ended_ = false;                    // the source is not asked any more
  std::uint64_t wanted_to_ = UINT64_MAX;  // items behind this number are dropped
  std::exception_ptr failure_;            // of that item
  std::uint64_t pulled_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t through_ = 0;  // done, failed or dropped
  std::size_t in_flight_ = 0;
  std::size_t most_in_flight_ = 0;
  std::size_t largest_ = 0;
  std::size_t bytes_ = 0;  // in flight, encoded
  std::size_t most_bytes_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_tick_ = start_ + kTick;
};

}  // namespace

std::shared_ptr<StageSpec> process_spec(ProcessStage options) {
  if (options.workers) {
    require_count(*options.workers, 0, PoolControl::kMaxWorkers, "workers");
    if (options.pool != nullptr) throw ArgumentError("a stage has a pool, or workers of its own");
  }
  const CallOptions& call = options.call;
  if (call.chunk != 0 || call.deadline.count() != 0 || call.window != 0 || call.progress ||
      call.window_bytes != 0 || call.seed) {
    throw ArgumentError(
        "chunk, deadline, window, window_bytes, progress and seed are not for the items of a "
        "stage; the run has max_in_flight, max_bytes_in_flight, progress and seed");
  }
  auto spec = std::make_shared<StageSpec>();
  spec->kind = StageSpec::processes;
  spec->name = std::move(options.name);
  spec->workers = options.workers;
  spec->pool = options.pool;
  spec->limits = limits_of(call);
  return spec;
}

std::shared_ptr<StageSpec> thread_spec(const ThreadStage& options, bool can_repeat) {
  constexpr int kMostThreads = 4096;
  require_count(options.threads, 1, kMostThreads, "threads");
  if (options.retries > 0 && !can_repeat) {
    throw ArgumentError(
        "retries: the stage's items are moved to its function and cannot be copied, so they are "
        "not there for another attempt");
  }
  auto spec = std::make_shared<StageSpec>();
  spec->kind = StageSpec::threads;
  spec->name = options.name;
  spec->thread_count = options.threads;
  spec->retries = options.retries;
  spec->retry_if = options.retry_if;
  spec->limits = limits_of({.retries = options.retries,
                            .backoff = options.backoff,
                            .max_backoff = options.max_backoff,
                            .jitter = options.jitter});
  return spec;
}

std::shared_ptr<StageSpec> here_spec(StageSpec::Kind kind, bool takes_outcomes) {
  auto spec = std::make_shared<StageSpec>();
  spec->kind = kind;
  spec->takes_outcomes = takes_outcomes;
  return spec;
}

PipelineStats run_pipeline(const SourceSpec& source,
                           const std::vector<std::shared_ptr<const StageSpec>>& stages,
                           const PipelineOptions& options) {
  return PipelineRun(source, stages, options).run();
}

}  // namespace brood::detail
