#include <brood/pipeline/thread_node.hpp>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <random>
#include <thread>
#include <utility>

#include <brood/pool/call_limits.hpp>
#include <brood/pool/item_context.hpp>

namespace brood::detail {

/// A few items that one thread computes one after the other.
class ThreadNode::Batch final : public ThreadJob, public std::enable_shared_from_this<Batch> {
 public:
  Batch(std::shared_ptr<Shared> shared, std::vector<FlowItem> items)
      : items_(std::move(items)), shared_(std::move(shared)) {}

  void run() noexcept override {
    const auto start = Deadline::Clock::now();
    std::uint64_t number = 0;
    const ItemScope scope(&number, shared_->seed);
    for (FlowItem& item : items_) {
      number = item.number;
      ItemValue value = std::move(item.value);
      // relaxed: an item more or less.
      if (shared_->ended.load(std::memory_order_relaxed)) break;
      if (number > shared_->wanted_to.load(std::memory_order_relaxed)) continue;
      compute(item, std::move(value));
    }
    took_ = Deadline::Clock::now() - start;
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->done.push_back(shared_from_this());
    }
    shared_->signal->raise();
  }
  void drop() noexcept override {}  // the run that wanted it has ended

 private:
  friend class ThreadNode;
  void compute(FlowItem& item, ItemValue value) noexcept {
    const StageSpec& spec = *shared_->spec;
    for (unsigned attempt = 0;; ++attempt) {
      try {
        item.value = attempt < spec.retries ? spec.function->call_keeping(value)
                                            : spec.function->call(value);
        return;
      } catch (...) {
        item.failure = std::current_exception();
      }
      if (attempt >= spec.retries || !again(item.failure)) return;
      ++retries_;
      item.failure = nullptr;
      pause(attempt + 1);
    }
  }
  /// Before another attempt, unless the run ends.
  void pause(unsigned attempt) const {
    constexpr auto kLook = std::chrono::milliseconds(20);
    thread_local std::minstd_rand random{std::random_device()()};
    const double chance = std::uniform_real_distribution<double>(0, 1)(random);
    const Deadline end = Deadline::after(shared_->spec->limits->pause(attempt, chance));
    while (!end.passed() && !shared_->ended.load(std::memory_order_relaxed)) {
      std::this_thread::sleep_until(end.sooner(Deadline::after(kLook)).when());
    }
  }
  [[nodiscard]] bool again(const std::exception_ptr& failure) const noexcept {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      try {
        return static_cast<bool>(shared_->spec->retry_if) && shared_->spec->retry_if(e);
      } catch (...) {  // counts as no
        return false;
      }
    } catch (...) {
      return false;
    }
  }

  std::vector<FlowItem> items_;
  std::shared_ptr<Shared> shared_;
  std::chrono::nanoseconds took_{0};
  std::uint64_t retries_ = 0;
};

ThreadNode::ThreadNode(std::shared_ptr<const StageSpec> spec, std::string name, std::size_t most,
                       std::uint64_t seed, std::shared_ptr<FlowSignal> signal)
    : shared_(std::make_shared<Shared>()),
      name_(std::move(name)),
      core_(ThreadCore::start(
          {.workers = static_cast<std::uint32_t>(spec->thread_count), .initializer = {}})),
      // Every thread is to have something to do, whatever an item costs.
      size_(1, 1 + most / (2 * static_cast<std::size_t>(spec->thread_count))) {
  shared_->signal = std::move(signal);
  shared_->spec = std::move(spec);
  shared_->seed = seed;
}

ThreadNode::~ThreadNode() {
  shared_->ended.store(true, std::memory_order_relaxed);  // see Batch::run
  core_->terminate();
}

std::size_t ThreadNode::give(FlowItem item) {
  stats_.deepest = std::max(stats_.deepest, ++depth_);
  const std::size_t bytes = item.bytes;
  waiting_.push_back(std::move(item));
  return bytes;
}

bool ThreadNode::hungry() const {
  const std::size_t jobs = 2 * core_->workers();
  return flights_ < jobs && waiting_.size() < (jobs - flights_) * size_.now(1);
}

void ThreadNode::start(bool all) {
  const std::size_t size = size_.now(1);
  while (!waiting_.empty() && flights_ < std::size_t{2} * core_->workers()) {
    if (waiting_.size() < size && !all) return;
    const auto end =
        waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(size, waiting_.size()));
    std::vector<FlowItem> items(std::make_move_iterator(waiting_.begin()),
                                std::make_move_iterator(end));
    waiting_.erase(waiting_.begin(), end);
    core_->add(std::make_shared<Batch>(shared_, std::move(items)), 0);
    ++flights_;
  }
}

bool ThreadNode::collect(std::vector<FlowItem>& out) {
  std::vector<std::shared_ptr<Batch>> done;
  {
    const std::lock_guard lock(shared_->mutex);
    done.swap(shared_->done);
  }
  flights_ -= done.size();
  start(false);
  for (const auto& batch : done) {
    const std::size_t items = batch->items_.size();
    size_.learn(items, static_cast<double>(batch->took_.count()));
    stats_.busy += batch->took_;
    stats_.items += items;
    stats_.retries += batch->retries_;
    depth_ -= items;
    for (FlowItem& item : batch->items_) {
      if (item.failure) ++stats_.failed;
      out.push_back(std::move(item));
    }
  }
  return !done.empty();
}

bool ThreadNode::look(std::vector<FutexWord>& /*words*/, Deadline& /*soon*/) {
  const std::lock_guard lock(shared_->mutex);
  return !shared_->done.empty();
}

void ThreadNode::drop_behind(std::uint64_t number) {
  shared_->wanted_to.store(number, std::memory_order_relaxed);  // see Batch::run
  for (FlowItem& item : waiting_) {
    if (item.number > number) item.value = {};
  }
}

void ThreadNode::add_stats(std::vector<StageStats>& stats) const {
  StageStats all = stats_;
  all.name = name_;
  all.on = "threads";
  all.workers = static_cast<int>(core_->workers());
  all.depth = depth_;
  stats.push_back(std::move(all));
}

}  // namespace brood::detail
