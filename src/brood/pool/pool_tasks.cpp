// Submitted tasks: items of jobs that grow at their end, in batches.
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/pool/pool_core.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {
namespace {

constexpr std::uint32_t kFirstBatch = 256;
constexpr std::uint32_t kLargestBatch = 65536;

}  // namespace

std::shared_ptr<PoolJob> PoolCore::open_batch(const CallLimits* limits) {
  const bool asks_owner = limits != nullptr && limits->asks();
  const int priority = limits != nullptr ? limits->priority : 0;
  const std::uint64_t memory = limits != nullptr ? limits->memory : 0;
  for (const auto& batch : batches_) {
    if (batch->closed || batch->asks_owner != asks_owner || batch->priority != priority ||
        batch->header->memory != memory) {
      continue;
    }
    if (batch->owner.existing() < batch->owner.board().items()) return batch;
    batch->closed = true;
  }
  sweep_batches();
  last_batch_size_ =
      last_batch_size_ == 0 ? kFirstBatch : std::min(last_batch_size_ * 2, kLargestBatch);
  std::shared_ptr<PoolJob> batch =
      make_job(JobHeader::kTasks, last_batch_size_, 1, sizeof(TaskRecord));
  batch->priority = batch->header->priority = priority;
  batch->asks_owner = asks_owner;
  batch->header->asks_owner = asks_owner ? 1 : 0;
  batch->header->memory = memory;
  try {
    publish_locked(*batch);
  } catch (...) {
    free_blocks(*batch);
    throw;
  }
  batches_.push_back(batch);
  return batch;
}

// Full batches need no place in the table when they are done, and no memory when their results have
// been fetched.
void PoolCore::sweep_batches() noexcept {
  std::erase_if(batches_, [&](const std::shared_ptr<PoolJob>& batch) {
    if (!batch->closed || !batch->over()) return false;
    unpublish(*batch);
    if (batch->unreleased > 0) return false;
    retired_.push_back(batch);
    return true;
  });
  free_retired(false);
}

PoolCore::Task PoolCore::submit(FunctionId function, std::span<const std::byte> call,
                                std::vector<Handle> kept,
                                const std::shared_ptr<const CallLimits>& limits) {
  require_here("submit");
  Task task;
  {
    const Lock lock(mutex_);
    if (broken_) std::rethrow_exception(broken_);
    if (control_->stop.load() != PoolControl::kRun) {
      throw PoolClosed("the pool is closed: it takes no more work");
    }
    if (segment().header().death_epoch.load() != tended_epoch_) tend();
    fill_up();
    // Nobody may be waiting when something is to be done. A worker that is a copy of this process
    // has to be made by a thread of the user's.
    if (!keeper_ && (limits || method() != StartMethod::fork)) ensure_keeper();
    task.batch = open_batch(limits.get());
    PoolJob& job = *task.batch;
    task.item = job.owner.existing();
    auto& record = reinterpret_cast<TaskRecord*>(segment().at(job.header->output_at))[task.item];
    record.function = function;
    record.result = {};
    if (const SubmitClock::Stamp stamp = submit_clock_.next(); stamp.times != 0) {
      std::memcpy(record.inline_result.data(), &stamp, sizeof stamp);
      record.result.at = TaskRecord::kStamped;
    }
    record.arguments = {.at = 0, .bytes = call.size()};
    if (call.size() <= record.inline_arguments.size()) {
      std::ranges::copy(call, record.inline_arguments.begin());
    } else {
      const Block block = heap().allocate(call.size());
      std::memcpy(block.data, call.data(), call.size());
      record.arguments.at = segment().offset_of(block.data);
      job.arguments.emplace(task.item, block);
    }
    if (!kept.empty()) job.kept_arguments.emplace(task.item, std::move(kept));
    ++job.unreleased;
    ++counts_.tasks;
    if (limits != (job.task_limits.empty() ? nullptr : job.task_limits.back().limits)) {
      job.task_limits.push_back({.first = task.item, .limits = limits});
    }
    if (limits) {
      if (limits->timed()) {
        ++job.timed_tasks;
        job.shortest = std::min(job.shortest, limits->shortest());
      }
      watch_limits(*limits);
      if (limits->deadline > limits->deadline.zero()) {
        add_due(Deadline::Clock::now() + limits->deadline,
                {.what = Due::deadline, .job = job.weak_from_this(), .item = task.item});
      }
    }
    job.owner.append(1);
  }
  wake_workers(*control_, 1);
  return task;
}

bool PoolCore::ready(const Task& task) { return task.batch->decided(task.item); }

bool PoolCore::wait(const Task& task, Deadline deadline) {
  if (ready(task)) return true;
  require_here("wait");
  return wait_for(task.batch.get(), task.item + 1, deadline, [&] { return ready(task); }, {});
}

std::span<const std::byte> PoolCore::result(const Task& task) {
  bool failed = task.batch->owner.board().state(task.item) != ItemState::kValue;
  if (!failed) {
    const Lock lock(mutex_);
    failed = task.batch->verdicts.contains(task.item);
  }
  if (failed) std::rethrow_exception(failure_of(*task.batch, task.item));
  const auto& record =
      reinterpret_cast<const TaskRecord*>(segment().at(task.batch->header->output_at))[task.item];
  if (record.result.at == 0) {
    return std::span<const std::byte>(record.inline_result)
        .first(std::min<std::size_t>(record.result.bytes, record.inline_result.size()));
  }
  return {segment().checked(record.result.at, record.result.size()), record.result.size()};
}

void PoolCore::free_task(PoolJob& job, std::uint32_t item) noexcept {
  const auto& record =
      reinterpret_cast<const TaskRecord*>(segment().at(job.header->output_at))[item];
  const ItemState state = job.owner.board().state(item);
  const bool has_result = state == ItemState::kValue || state == ItemState::kException;
  if (has_result && record.result.at != 0) {
    consume(segment(), record.result);
    // Whoever sleeps holds what the result names until it looks.
    if (record.result.names_objects()) wake_workers(*control_, setup_.max_workers);
  }
  if (const auto found = job.arguments.find(item); found != job.arguments.end()) {
    heap().free(found->second);
    job.arguments.erase(found);
  }
  if (!job.kept_arguments.empty()) job.kept_arguments.erase(item);
  job.verdicts.erase(item);
  const CallLimits* const limits = job.limits_of(item);
  if (limits != nullptr && limits->timed() && --job.timed_tasks == 0) {
    job.shortest = std::chrono::nanoseconds::max();
  }
  if (--job.unreleased == 0) job.task_limits.clear();
}

void PoolCore::sweep_abandoned(PoolJob& job) noexcept {
  for (;;) {
    // SUBTLE: the note, then the look; the worker that ends the task stores its state and then
    // looks at the note. One of the two sees the other. Tasks begin in order, so mostly the last is
    // meant.
    const std::uint32_t last = job.only_abandoned() ? job.abandoned.back() + 1 : 0;
    job.header->sweep_at.store(last, std::memory_order_seq_cst);
    std::erase_if(job.abandoned, [&](std::uint32_t item) {
      if (!job.decided(item)) return false;
      free_task(job, item);
      return true;
    });
    if (!job.only_abandoned() || job.abandoned.back() + 1 == last) break;
  }
  job.next_sweep = std::max<std::size_t>(16, job.abandoned.size() * 2);
}

void PoolCore::release(const Task& task) noexcept {
  if (creator_ != family_->self()) return;
  const Lock lock(mutex_);
  PoolJob& job = *task.batch;
  if (ready(task)) {
    free_task(job, task.item);
  } else {
    job.abandoned.push_back(task.item);
  }
  // Looked at when there are twice as many as were left the last time, or when nothing else is.
  if (job.abandoned.size() >= job.next_sweep || job.only_abandoned()) sweep_abandoned(job);
  if (job.closed && job.unreleased == 0) sweep_batches();
}

}  // namespace brood::detail
