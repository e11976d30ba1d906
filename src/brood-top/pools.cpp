#include <algorithm>
#include <atomic>

#include <brood/errors.hpp>
#include <brood/memory/registry.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/range_board.hpp>

#include "snapshot.hpp"

namespace brood::top {
namespace {

using detail::JobHeader;
using detail::JobWord;
using detail::MeterRow;
using detail::PoolControl;
using detail::RangeBoard;
using detail::Segment;
using detail::Tag;
using detail::WorkerCell;

constexpr double kNano = 1e-9;

/// Its control block, if there can be one at `at`: the memory may be another's by now.
PoolControl* control_at(Segment& family, std::uint64_t at) {
  auto* const control =
      reinterpret_cast<PoolControl*>(family.checked(at, PoolControl::bytes_needed(1)));
  if (control->slots == 0 || control->slots > PoolControl::kMaxWorkers) return nullptr;
  static_cast<void>(family.checked(at, PoolControl::bytes_needed(control->slots)));
  return control;
}

struct JobAt {
  const JobHeader* header;
  RangeBoard<> board;
};
JobAt job_at(Segment& family, std::uint64_t word) {
  const auto* const header =
      reinterpret_cast<const JobHeader*>(family.checked(JobWord::offset(word), sizeof(JobHeader)));
  return {header, RangeBoard<>::attach(family.checked(header->board_at, header->board_bytes),
                                       header->board_bytes)};
}

std::uint64_t items_of(const MeterRow& row) {
  std::uint64_t items = 0;
  for (const auto& bucket : row.running.buckets) items += bucket.load();
  return items;
}

double since(double now, const std::atomic<std::int64_t>& time) {
  return std::max(0.0, now - static_cast<double>(time.load()) * kNano);
}

PoolView::Worker look_at_worker(Segment& family, PoolControl& control, Tag process,
                                std::uint32_t slot, double now) {
  WorkerCell& cell = control.cells()[slot];
  const MeterRow& row = control.meters()[slot];
  PoolView::Worker worker{.process = process, .slot = slot, .doing = "between two items"};
  worker.items = items_of(row);
  worker.idle_nanoseconds = row.idle.load();
  if (row.idle_since.load() != 0) {
    worker.doing = "idle";
    worker.seconds = since(now, row.idle_since);
    worker.idle_nanoseconds += static_cast<std::int64_t>(*worker.seconds / kNano);
    return worker;
  }
  if (cell.status.load() == WorkerCell::kStarting) {
    worker.doing = "starting";
    return worker;
  }
  const std::uint64_t word = cell.job.load();
  if (word == 0) return worker;
  worker.doing = "computes";
  worker.job = word;
  worker.seen_since = now;
  if (row.chunk_since.load() != 0) worker.seconds = since(now, row.chunk_since);
  try {
    const JobAt job = job_at(family, word);
    if (job.header->kind == JobHeader::kMap && slot < job.board.slots()) {
      const std::uint32_t item = job.board.marks(slot).begun();
      if (item < job.board.items()) worker.item = item;
    }
  } catch (const std::exception& e) {
    static_cast<void>(e);  // it was over a moment ago
  }
  return worker;
}

void look_at_jobs(Segment& family, const PoolControl& control, PoolView& pool) {
  for (std::uint32_t i = 0; i != PoolControl::kMaxJobs; ++i) {
    const std::uint64_t word = control.jobs[i].load();
    if (word == 0) continue;
    try {
      const JobAt job = job_at(family, word);
      const bool is_map = job.header->kind == JobHeader::kMap;
      pool.jobs.push_back({.is_map = is_map,
                           .items = is_map ? job.board.items() : job.board.left(),
                           .left = job.board.left(),
                           .priority = control.priorities[i].load()});
    } catch (const std::exception& e) {
      static_cast<void>(e);
    }
  }
}

/// What has changed since the snapshot before, as far as it knew the pool.
void compare(PoolView& pool, const Snapshot& now, const Snapshot* before) {
  if (before == nullptr || now.at <= before->at) return;
  const auto old = std::find_if(before->pools.begin(), before->pools.end(), [&](const auto& other) {
    return other.at == pool.at && other.owner == pool.owner;
  });
  if (old == before->pools.end() || old->items > pool.items) return;
  const double seconds = now.at - before->at;
  pool.per_second = static_cast<double>(pool.items - old->items) / seconds;
  for (PoolView::Worker& worker : pool.workers) {
    const PoolView::Worker* const then = old->find(worker.process);
    if (then == nullptr) continue;
    const double idle =
        static_cast<double>(worker.idle_nanoseconds - then->idle_nanoseconds) * kNano;
    worker.busy_percent = std::clamp(100 * (1 - idle / seconds), 0.0, 100.0);
    const bool same = worker.job != 0 && then->job == worker.job && then->item == worker.item &&
                      then->items == worker.items;
    if (same) worker.seen_since = then->seen_since;
    if (same && !worker.seconds) {
      worker.seconds = now.at - worker.seen_since;
      worker.at_least = true;
    }
  }
}

}  // namespace

const PoolView::Worker* PoolView::find(Tag process) const {
  const auto found = std::find_if(workers.begin(), workers.end(),
                                  [&](const Worker& worker) { return worker.process == process; });
  return found == workers.end() ? nullptr : &*found;
}

std::vector<PoolView> look_at_pools(Segment& family, const Snapshot& now, const Snapshot* before) {
  std::vector<PoolView> pools;
  for (const ProcessView& process : now.processes) {
    if (process.role != "worker" || process.state != "live") continue;
    const detail::Record& record = family.registry().record(process.tag);
    const std::uint64_t at = record.pool_at.load();
    const std::uint32_t slot = record.pool_slot.load();
    if (at == 0) continue;
    try {
      PoolControl* const control = control_at(family, at);
      if (control == nullptr || slot >= control->slots) continue;
      auto pool = std::find_if(pools.begin(), pools.end(),
                               [&](const PoolView& known) { return known.at == at; });
      if (pool == pools.end()) {
        // Workers are called NAME-1, NAME-2 ...
        pools.push_back({.at = at,
                         .name = process.name.substr(0, process.name.rfind('-')),
                         .owner = Tag::from_bits(control->owner)});
        pool = pools.end() - 1;
        for (std::uint32_t i = 0; i != control->slots; ++i) {
          pool->items += items_of(control->meters()[i]);
        }
        look_at_jobs(family, *control, *pool);
      }
      pool->workers.push_back(look_at_worker(family, *control, process.tag, slot, now.at));
    } catch (const Error& e) {
      static_cast<void>(e);  // it ended meanwhile, or its record is damaged
    }
  }
  for (PoolView& pool : pools) compare(pool, now, before);
  return pools;
}

}  // namespace brood::top
