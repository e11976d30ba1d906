// Maps whose workers begin while the inputs are still written.
#include <algorithm>
#include <bit>
#include <utility>

#include <brood/pool/pool_core.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {
namespace {

/// Of a map's inputs, in bytes: how much is written before the first workers may begin.
constexpr std::size_t kFirstPiece = 32 << 10;

}  // namespace

void PoolCore::feed(PoolJob& job, std::size_t bytes, const std::function<void(Range)>& write) {
  publish(job, true);
  // Workers take tens of microseconds to wake up; then each has its own slice to begin with. Pieces
  // grow, as what is handed out lasts longer than writing as much again.
  auto piece = static_cast<std::uint32_t>(std::max<std::size_t>(kFirstPiece / bytes, 1));
  for (bool more = true; std::exchange(more, false); piece = std::min(piece, 1U << 30U) * 2) {
    for (std::uint32_t slice = 0; slice < job.owner.slices(); ++slice) {
      Range items;
      {
        const Lock lock(mutex_);
        items = job.owner.kept_back(slice, piece);
      }
      if (!items) continue;
      more = true;
      write(items);
      const Lock lock(mutex_);
      job.owner.let_go(slice, items);
      rouse(job);
    }
  }
  job.header->feeding.store(0, std::memory_order_relaxed);
}

// There is more of a map. Who looks for work finds it; of those asleep as many are woken as by
// publish(), unless that many are awake.
void PoolCore::rouse(const PoolJob& job) noexcept {
  control_->work.fetch_add(1, std::memory_order_seq_cst);
  std::uint32_t asleep = 0;
  for (const auto& word : control_->sleepers) {
    // SUBTLE: the count of work, then the bits; see Worker::idle.
    asleep += static_cast<std::uint32_t>(std::popcount(word.load(std::memory_order_seq_cst)));
  }
  const std::uint32_t wanted = std::min<std::uint32_t>(job.owner.board().items(), wanted_);
  const auto others = static_cast<std::uint32_t>(std::max(cpu_count_ - 1, 1));
  const std::uint32_t may_sleep = wanted - std::min(wanted, others);
  if (asleep > may_sleep) wake_sleepers(*control_, asleep - may_sleep);
}

}  // namespace brood::detail
