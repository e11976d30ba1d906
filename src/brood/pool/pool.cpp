#include <brood/pool.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <brood/cpu_count.hpp>

namespace brood {
namespace detail {

std::uint32_t automatic_chunk(std::size_t items, std::uint32_t workers) {
  constexpr std::size_t kPartsPerWorker = 64;
  constexpr std::size_t kLargest = 256;
  return static_cast<std::uint32_t>(
      std::clamp<std::size_t>(items / (kPartsPerWorker * workers), 1, kLargest));
}

std::exception_ptr renumbered(const std::exception_ptr& failure,
                              const std::function<std::size_t(std::size_t)>& item) {
  try {
    try {
      std::rethrow_exception(failure);
    } catch (const WorkerCrashed& e) {
      if (!e.item()) throw;
      Crash crash = e.crash();
      crash.item = item(*crash.item);
      throw WorkerCrashed(crash);
    } catch (const std::exception& e) {
      const RemoteTrace* const trace = remote_trace(e);
      if (trace == nullptr || !trace->failure().item) throw;
      ErrorRecord record = record_exception(failure);
      record.item = item(*trace->failure().item);
      throw_error(record);
    }
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace detail

Pool::Pool(PoolOptions options) {
  const int workers = options.workers.value_or(cpu_count());
  constexpr int kMost = static_cast<int>(detail::PoolControl::kMaxWorkers);
  if (workers < 0 || workers > kMost) {
    throw StateError(fmt::format(
        "a pool of {} workers: 0 (compute in the caller) to {} are possible", workers, kMost));
  }
  if (workers == 0) {
    if (options.sandbox) {
      throw ArgumentError("a sandbox without workers: the caller would be in it for ever");
    }
    serial_ = std::make_shared<detail::SerialPool>(std::move(options.finalizer.here_),
                                                   std::move(options.name));
    const detail::WorkerStates::Use states(serial_->states());
    if (options.initializer.here_) detail::outcome_of<void>(options.initializer.here_).value();
    return;
  }
  const auto require_limit = [](bool good, const char* name) {
    if (!good) throw ArgumentError(fmt::format("{}: it cannot be negative; 0 is no limit", name));
  };
  require_limit(options.max_worker_age.count() >= 0, "max_worker_age");
  require_limit(options.idle_timeout.count() >= 0, "idle_timeout");
  if (options.max_workers < 0 || options.max_workers > kMost) {
    throw ArgumentError(
        fmt::format("max_workers of {}: at most {} are possible", options.max_workers, kMost));
  }
  const int cpus = options.cpus_per_worker.value_or(std::max(cpu_count() / workers, 1));
  if (cpus < 0) {
    throw ArgumentError(
        fmt::format("cpus_per_worker of {}: 1 or more, or 0 to leave it alone", cpus));
  }
  if (options.niceness < -20 || options.niceness > 19) {
    throw ArgumentError(fmt::format("a niceness of {}: -20 to 19 are possible", options.niceness));
  }
  core_ = std::make_shared<detail::PoolCore>(detail::PoolSetup{
      .workers = static_cast<std::uint32_t>(workers),
      .max_workers = static_cast<std::uint32_t>(std::max(workers, options.max_workers)),
      .method = options.start_method,
      .name = std::move(options.name),
      .initializer = std::move(options.initializer.call_),
      .finalizer = std::move(options.finalizer.call_),
      .max_tasks = options.max_tasks_per_worker,
      .max_growth = options.max_worker_growth,
      .max_age = options.max_worker_age,
      .idle_timeout = options.idle_timeout,
      .cpus = cpus,
      .pinned = options.pin_workers,
      .niceness = options.niceness,
      .timeline = std::move(options.timeline),
      .sandbox = options.sandbox,
      .stderr_tail = options.stderr_tail});
}

Pool& Pool::operator=(Pool&& other) noexcept {
  if (this != &other) {
    terminate();
    core_ = std::move(other.core_);
    serial_ = std::move(other.serial_);
  }
  return *this;
}

Pool::~Pool() { terminate(); }

void Pool::require_pool() const {
  if (!core_ && !serial_) throw StateError("this pool was moved from");
}

PoolCaller Pool::with(CallOptions options) const {
  require_pool();
  return {core_, serial_, std::move(options)};
}

int Pool::workers() const { return core_ ? static_cast<int>(core_->workers()) : 0; }

void Pool::resize(int workers) {
  if (!core_) throw StateError("resize: this pool computes in the caller, it has no workers");
  if (workers < 0) throw ArgumentError(fmt::format("resize to {} workers", workers));
  core_->resize(static_cast<std::uint32_t>(workers));
}

PoolCounts Pool::counts() const { return core_ ? core_->counts() : PoolCounts(); }

PoolStats Pool::stats() const { return core_ ? core_->stats() : PoolStats(); }

std::vector<int> Pool::worker_pids() const {
  return core_ ? core_->worker_pids() : std::vector<int>();
}

void Pool::write_timeline(const std::string& path) const {
  if (!core_) throw StateError("write_timeline: a pool without workers has no timeline");
  core_->write_timeline(path);
}

void Pool::close() {
  if (core_) core_->close();
  if (serial_) serial_->close();
}

void Pool::join() {
  if (core_) core_->join();
  if (serial_ && !serial_->closed()) throw StateError("join: close or terminate the pool first");
}

void Pool::terminate() {
  if (core_) core_->terminate();
  if (serial_) serial_->end();
}

}  // namespace brood
