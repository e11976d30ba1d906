// The workers of a pool: starting them, noticing that one is gone, handing on what it had.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/clock.hpp>
#include <brood/platform/futex.hpp>
#include <brood/platform/service_thread.hpp>
#include <brood/platform/signal_name.hpp>
#include <brood/pool/pool_core.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// What the kernel's news of a death and the reaper's may lie apart.
constexpr auto kReapPatience = 5s;
/// Workers that die before they could take any work, one after the other, until the pool gives up.
constexpr unsigned kMostEarlyDeaths = 5;
/// The same for those that were killed from outside, for which their own start is hardly to blame.
constexpr unsigned kMostEarlyKills = 100;

/// Of the pages of a worker's results. They are this process's, and freed by the number alone: so
/// all of its pools number their workers together.
std::atomic<std::uint32_t> next_group{1};

}  // namespace

void PoolCore::start_worker(std::uint32_t slot) {
  Member& member = members_[slot];
  member.group = next_group.fetch_add(1, std::memory_order_relaxed);
  WorkerCell& cell = control_->cells()[slot];
  cell.status.store(WorkerCell::kStarting);
  cell.leave.store(0);
  cell.error_at.store(0);
  DescriptorOutbox descriptors;
  const bool own_stderr = worker_stderr_ && add_stderr(slot, descriptors);
  WorkerStart start{.control_at = segment().offset_of(control_),
                    .crash_note_at = crashes_.prepare(slot),
                    .slot = slot,
                    .group = member.group,
                    .initializer = {},
                    .initializer_at = 0,
                    .initializer_bytes = 0,
                    .finalizer = {},
                    .finalizer_at = 0,
                    .finalizer_bytes = 0,
                    .max_tasks = setup_.max_tasks,
                    .max_growth = setup_.max_growth,
                    .max_age = static_cast<std::uint64_t>(setup_.max_age.count()),
                    .idle_timeout = static_cast<std::uint64_t>(setup_.idle_timeout.count()),
                    .cpus = setup_.cpus,
                    .niceness = setup_.niceness,
                    .pinned = setup_.pinned ? 1U : 0U,
                    .tells = setup_.can_fail() ? 1U : 0U,
                    .own_stderr = own_stderr ? 1U : 0U,
                    .sandbox = setup_.sandbox,
                    .started_at = steady_nanoseconds()};
  if (setup_.initializer) {
    start.initializer = setup_.initializer->function;
    start.initializer_bytes = setup_.initializer->bytes.size();
    if (!initializer_block_.empty()) {
      start.initializer_at = segment().offset_of(initializer_block_.data);
    }
  }
  if (setup_.finalizer) {
    start.finalizer = setup_.finalizer->function;
    start.finalizer_bytes = setup_.finalizer->bytes.size();
    if (!finalizer_block_.empty()) {
      start.finalizer_at = segment().offset_of(finalizer_block_.data);
    }
  }
  HeapSink sink(heap());
  encode(sink, start);
  const std::size_t bytes = sink.written();
  member.process = std::make_unique<ChildProcess>(
      family_, ChildSpec{.name = fmt::format("{}-{}", setup_.name, slot + 1),
                         .function = worker_function(),
                         .payload = sink.release(),
                         .payload_bytes = bytes,
                         .descriptors = std::move(descriptors),
                         .role = Role::worker,
                         .dies_with_parent = true,
                         .keeps_record = true,
                         .method = setup_.method});
  try {
    member.process->start();
  } catch (...) {
    member.process.reset();
    throw;
  }
  ++counts_.started;
}

bool PoolCore::add_stderr(std::uint32_t slot, DescriptorOutbox& to) noexcept {
  try {
    to.add(worker_stderr_->open(slot));
    return true;
  } catch (const std::exception& e) {
    static_cast<void>(e);  // no descriptors left: it writes to this process's stderr itself
    return false;
  }
}

std::vector<int> PoolCore::worker_pids() {
  require_here("worker_pids");
  const Lock lock(mutex_);
  std::vector<int> pids;
  for (const Member& member : members_) {
    if (member.process && family_->registry().expected(member.process->tag())) {
      pids.push_back(member.process->pid().value_or(0));
    }
  }
  return pids;
}

void PoolCore::tend() {
  tended_epoch_ = segment().header().death_epoch.load();
  if (terminated_) return;
  for (std::uint32_t slot = 0; slot < members_.size(); ++slot) {
    Member& member = members_[slot];
    if (member.process && died(*member.process)) tend_death(slot);
  }
  see_to_limits();
  // Those that there were ended for reasons of their own, and to start others had failed, perhaps.
  const bool any = std::any_of(members_.begin(), members_.end(),
                               [](const Member& member) { return member.process != nullptr; });
  if (!any && work_is_left()) {
    for (std::uint32_t slot = 0; slot < wanted_; ++slot) replace(slot);
  }
  bool work = false;
  for (PoolJob* job : active_) work = job->owner.heal() || work;
  if (work) wake_workers(*control_, setup_.max_workers);
  if (!retired_.empty() || !dead_groups_.empty()) free_retired(false);
}

bool PoolCore::died(ChildProcess& process) const {
  const Registry& registry = family_->registry();
  // One that has not joined yet has no life word to look at.
  if (registry.state(process.tag()) == RecordState::reserved) return !process.alive();
  return !registry.alive(process.tag());
}

void PoolCore::tend_death(std::uint32_t slot) {
  Member& member = members_[slot];
  WorkerCell& cell = control_->cells()[slot];
  // Its main thread is gone, so nobody writes to its words any more. How it ended is known when it
  // has been reaped.
  static_cast<void>(member.process->join(Deadline::after(kReapPatience)));
  Crash crash = crashes_.examine(slot, *member.process);
  if (worker_stderr_) crash.stderr_tail = worker_stderr_->tail(slot);
  inherit(*member.process);
  member.kill.reset();  // whom its item had started
  member.process.reset();
  const std::optional<Intent> intent = std::exchange(member.intent, std::nullopt);
  member.kill_at.reset();
  member.seen = {};
  control_->sleepers[slot / 64].fetch_and(~(std::uint64_t{1} << slot % 64));
  cell.job.store(0);
  control_->meters()[slot].ended();
  dead_groups_.push_back(member.group);

  const std::uint32_t status = cell.status.load();
  if (timeline_) {
    timeline_->ended(slot);
    timeline_->note(slot, intent              ? "stopped"
                          : crash.signal != 0 ? "killed by " + signal_name(crash.signal)
                          : status == WorkerCell::kReady
                              ? fmt::format("exited with {}", crash.exit_code)
                              : "ended");
  }
  const bool retired = status == WorkerCell::kRetired || status == WorkerCell::kIdle;
  if (retired) {
    ++counts_.recycled;
  } else if (!intent && status != WorkerCell::kDone) {
    ++counts_.crashed;
  }
  if (status != WorkerCell::kStarting) {
    early_deaths_ = early_kills_ = 0;
  } else {
    ++(crash.signal == SIGKILL ? early_kills_ : early_deaths_);
  }
  for (PoolJob* job : active_) {
    recover(*job, slot, crash, intent ? &*intent : nullptr);
    wake_owner(*job->header);  // other threads that wait for it
  }
  if (status == WorkerCell::kInitializerFailed) {
    std::exception_ptr reason;
    try {
      const std::uint64_t bytes = cell.error_bytes.load();
      throw_error(decode_error({segment().checked(cell.error_at.load(), bytes), bytes}));
    } catch (...) {
      reason = std::current_exception();
    }
    give_up(reason);
  } else if (early_deaths_ >= kMostEarlyDeaths || early_kills_ >= kMostEarlyKills) {
    give_up(std::make_exception_ptr(WorkerLost(fmt::format(
        "{} workers died one after the other before they could begin; the last one, {} (pid {}), "
        "{}",
        early_deaths_ + early_kills_, crash.worker, crash.pid,
        crash.signal != 0 ? "was killed by " + signal_name(crash.signal)
                          : fmt::format("exited with code {}", crash.exit_code)))));
  } else if (slot >= wanted_ || (status == WorkerCell::kIdle && !work_is_left())) {
    short_of_workers_ = short_of_workers_ || slot < wanted_;  // the next call starts it
  } else {
    replace(slot);
  }
  // Also without work to hand on: it may have been about to wake another.
  wake_workers(*control_, setup_.max_workers);
}

// Results that have not been fetched yet may name objects that only their worker holds. Its record
// is this process's as long as the ChildProcess is there, and until then nobody takes what it held.
void PoolCore::inherit(const ChildProcess& process) noexcept {
  const Tag tag = process.tag();
  if (tag.none() || family_->registry().record(tag).objects.load() == 0) return;
  try {
    std::vector<Handle> handles = family_->handles().inherit(family_, tag);
    inherited_.insert(inherited_.end(), std::make_move_iterator(handles.begin()),
                      std::make_move_iterator(handles.end()));
  } catch (const std::exception& e) {
    static_cast<void>(e);  // no memory for it: then those who fetch the results are told
  }
}

void PoolCore::recover(PoolJob& job, std::uint32_t slot, const Crash& crash, const Intent* intent) {
  if (slot >= job.slots) return;
  job.look_for_failures = true;  // it may have died before it could say
  const RangeRecovery found = job.owner.recover(slot);
  for (const std::uint32_t item : found.culprits) {
    if (intent != nullptr && (intent->job != job.word || intent->item != item)) {
      job.owner.retry(item);  // it was killed because of another item, which it had left
      continue;
    }
    if (intent != nullptr) {
      settle(job, item, FailureKind::stopped, intent->reason);
      continue;
    }
    Crash its = crash;
    if (job.header->kind == JobHeader::kMap)
      its.item = job.number(item);  // a task's place means nothing
    its.attempt = job.attempts[item] + 1;
    ++job.deaths;
    settle(job, item, FailureKind::crash, std::make_exception_ptr(WorkerCrashed(std::move(its))));
  }
}

void PoolCore::replace(std::uint32_t slot) {
  const bool stopping = control_->stop.load() != PoolControl::kRun;
  if (broken_ || terminated_ || (stopping && !work_is_left())) return;
  if (ServiceThread::here() && method() == StartMethod::fork) {
    left_to_callers_ = true;  // a copy is made by the thread that the program runs in
    return;
  }
  try {
    start_worker(slot);
  } catch (const Error& e) {
    start_error_ = e.what();
    const bool any = std::any_of(members_.begin(), members_.end(),
                                 [](const Member& member) { return member.process != nullptr; });
    if (any) {
      short_of_workers_ = true;  // fewer do the work; the next call tries again
      return;
    }
    give_up(std::make_exception_ptr(WorkerLost(fmt::format(
        "all workers of the pool died and none could be started again: {}", start_error_))));
  }
}

void PoolCore::fill_up() {
  const bool left = std::exchange(left_to_callers_, false);
  if (!std::exchange(short_of_workers_, false) && !left) return;
  for (std::uint32_t slot = 0; slot < wanted_; ++slot) {
    if (!members_[slot].process) replace(slot);
  }
}

bool PoolCore::work_is_left() const {
  return std::any_of(active_.begin(), active_.end(),
                     [](PoolJob* job) { return !job->owner.finished() || !job->deferred.empty(); });
}

StartMethod PoolCore::method() const { return setup_.method.value_or(get_start_method()); }

void PoolCore::resize(std::uint32_t workers) {
  require_here("resize");
  if (workers < 1 || workers > setup_.max_workers) {
    throw ArgumentError(
        fmt::format("resize to {} workers: 1 to {} are possible; PoolOptions::max_workers sets the "
                    "limit",
                    workers, setup_.max_workers));
  }
  const Lock lock(mutex_);
  if (broken_) std::rethrow_exception(broken_);
  if (control_->stop.load() != PoolControl::kRun) {
    throw PoolClosed("resize: the pool is closed");
  }
  tend();  // who left before makes room
  wanted_ = workers;
  for (std::uint32_t slot = 0; slot < members_.size(); ++slot) {
    WorkerCell& cell = control_->cells()[slot];
    cell.leave.store(slot < workers ? 0 : 1);
    if (slot >= workers) {
      cell.event.fetch_add(1);
      futex_wake_all(cell.event);
    }
  }
  try {
    for (std::uint32_t slot = 0; slot < workers; ++slot) {
      if (!members_[slot].process) start_worker(slot);
    }
  } catch (...) {
    short_of_workers_ = true;  // the next call tries again
    throw;
  }
}

PoolCounts PoolCore::counts() {
  const Lock lock(mutex_);
  return counts_;
}

PoolStats PoolCore::stats() {
  require_here("stats");
  const Lock lock(mutex_);
  PoolStats stats;
  stats.counts = counts_;
  stats.age = Deadline::Clock::now() - made_;
  const std::int64_t now = steady_nanoseconds();
  const auto since = [&](const std::atomic<std::int64_t>& time) {
    const std::int64_t start = time.load();
    return start == 0 ? 0 : std::max<std::int64_t>(now - start, 0);
  };
  for (std::uint32_t slot = 0; slot < members_.size(); ++slot) {
    const auto& process = members_[slot].process;
    const MeterRow& row = control_->meters()[slot];
    const std::uint64_t started = stats.starting.count();
    row.starting.add_to(stats.starting);
    if (!process && stats.starting.count() == started) continue;  // nobody was ever there
    const std::uint64_t items = stats.running.count();
    row.waiting.add_to(stats.waiting);
    row.running.add_to(stats.running);
    const std::int64_t idle = row.idle.load() + since(row.idle_since);
    const std::int64_t present = row.present.load() + since(row.ready);
    stats.workers.push_back(
        {.pid = process ? process->pid().value_or(0) : 0,
         .items = stats.running.count() - items,
         .starting = std::chrono::nanoseconds(static_cast<std::int64_t>(row.starting.sum.load())),
         .busy = std::chrono::nanoseconds(std::max<std::int64_t>(present - idle, 0)),
         .idle = std::chrono::nanoseconds(idle)});
  }
  return stats;
}

void PoolCore::give_up(std::exception_ptr reason) {
  if (!broken_) broken_ = std::move(reason);
  for (PoolJob* job : active_) cancel_job(*job);
}

void PoolCore::cancel_job(PoolJob& job) {
  job.given_up = true;
  for (const auto& [item, kind] : std::exchange(job.deferred, {})) {
    job.owner.fail(item, ItemState::kCancelled);
  }
  job.header->cancelled.store(1);
  job.owner.cancel();
  wake_owner(*job.header);
}

}  // namespace brood::detail
