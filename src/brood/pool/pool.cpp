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

}  // namespace detail

Pool::Pool(PoolOptions options) {
  const int workers = options.workers.value_or(cpu_count());
  constexpr int kMost = static_cast<int>(detail::PoolControl::kMaxWorkers);
  if (workers < 0 || workers > kMost) {
    throw StateError(fmt::format(
        "a pool of {} workers: 0 (compute in the caller) to {} are possible", workers, kMost));
  }
  if (workers == 0) {
    serial_ = std::make_shared<detail::SerialPool>();
    if (options.initializer.here_) detail::outcome_of<void>(options.initializer.here_).value();
    return;
  }
  core_ = std::make_shared<detail::PoolCore>(
      detail::PoolSetup{.workers = static_cast<std::uint32_t>(workers),
                        .method = options.start_method,
                        .name = std::move(options.name),
                        .initializer = std::move(options.initializer.call_)});
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

PoolCaller Pool::with(CallOptions options) const {
  if (!core_ && !serial_) throw StateError("this pool was moved from");
  return {core_, serial_, std::move(options)};
}

int Pool::workers() const { return core_ ? static_cast<int>(core_->workers()) : 0; }

std::vector<int> Pool::worker_pids() const {
  return core_ ? core_->worker_pids() : std::vector<int>();
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
  if (serial_) serial_->close();
}

}  // namespace brood
