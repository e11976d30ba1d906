// What the owner of a pool sees to beyond deaths: time limits, retries, cancellation.
//
// Workers know nothing of time limits, so that an item costs the same with and without: the owner
// looks now and then which item each worker is in, and when one has been in the same for too long,
// its worker is killed. Between the decision and the signal the worker may have gone on to another
// item. So what is killed for is written down (Intent), and a death in any other item is nobody's
// fault: that item is run again, and it does not count as an attempt.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <iterator>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/pool/pool_core.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

/// From SIGTERM to SIGKILL.
constexpr auto kLimitGrace = 200ms;
/// How often the owner looks at the running items: this part of the shortest limit, within bounds.
constexpr int kLooks = 8;
constexpr nanoseconds kShortestLook = 1ms;
constexpr nanoseconds kLongestLook = 50ms;
/// When an item cannot be run again yet, because its worker has not committed it.
constexpr auto kCommitPatience = 1ms;

nanoseconds pause_for(nanoseconds limit) {
  return std::clamp<nanoseconds>(limit / kLooks, kShortestLook, kLongestLook);
}

std::exception_ptr timed_out(const std::string& text) {
  return std::make_exception_ptr(TaskTimeout(text));
}

std::string in_seconds(nanoseconds time) {
  return fmt::format("{} s", std::chrono::duration<double>(time).count());
}

std::string name_of(const PoolJob& job, std::uint32_t item) {
  return job.header->kind == JobHeader::kMap ? fmt::format("item {}", job.number(item))
                                             : "the task";
}

}  // namespace

PoolJob* PoolCore::job_of(std::uint64_t word) const {
  const auto found = std::find_if(active_.begin(), active_.end(),
                                  [&](const PoolJob* job) { return job->word == word; });
  return found != active_.end() ? *found : nullptr;
}

void PoolCore::add_due(Time when, Due due) {
  const bool first = dues_.empty() || when < dues_.begin()->first;
  dues_.emplace(when, std::move(due));
  if (first) kick_keeper();
}

void PoolCore::see_to_limits() {
  for (PoolJob* const job : active_) {
    if (job->asks_owner) ask_about_failures(*job);
  }
  const bool any_kill = std::any_of(members_.begin(), members_.end(),
                                    [](const Member& member) { return member.kill_at; });
  const bool any_timed =
      std::any_of(active_.begin(), active_.end(), [](const PoolJob* job) { return job->timed(); });
  if (dues_.empty() && !any_kill && !any_timed) {
    next_sample_.reset();
    return;
  }
  const Time now = Deadline::Clock::now();
  do_what_is_due(now);
  if (any_timed) {
    look_at_running(now);
  } else {
    next_sample_.reset();
  }
  for (Member& member : members_) {
    if (!member.process || !member.kill_at) continue;
    if (*member.kill_at > now && member.kill && !member.kill->obeyed(Deadline::now())) continue;
    member.kill_at.reset();
    member.kill.reset();
    member.process->signal(SIGKILL);
  }
}

Deadline PoolCore::next_look() {
  Deadline next = Deadline::never();
  if (!dues_.empty()) next = next.sooner(Deadline::at(dues_.begin()->first));
  if (next_sample_) next = next.sooner(Deadline::at(*next_sample_));
  for (const Member& member : members_) {
    if (member.kill_at) next = next.sooner(Deadline::at(*member.kill_at));
  }
  return next;
}

void PoolCore::do_what_is_due(Time now) {
  while (!dues_.empty() && dues_.begin()->first <= now) {
    const Due due = std::move(dues_.extract(dues_.begin()).mapped());
    const std::shared_ptr<PoolJob> job = due.job.lock();
    if (!job || job->blocks.empty()) continue;  // its results have been fetched
    switch (due.what) {
      case Due::again:
        run_again(*job, due.item);
        break;
      case Due::deadline:
        if (const CallLimits* limits = job->limits_of(due.item);
            limits != nullptr && !job->decided(due.item)) {
          end_task(*job, due.item,
                   timed_out(fmt::format("the task had not ended {} after it was submitted, which "
                                         "is its deadline",
                                         in_seconds(limits->deadline))));
        }
        break;
      case Due::deadline_of_all:
        if (!job->given_up && !job->owner.finished()) {
          expire(*job, timed_out(fmt::format("not computed: the call's deadline of {} passed",
                                             in_seconds(job->limits->deadline))));
        }
        break;
    }
  }
}

void PoolCore::look_at_running(Time now) {
  if (next_sample_ && now < *next_sample_) return;
  for (std::uint32_t slot = 0; slot < members_.size(); ++slot) {
    Member& member = members_[slot];
    if (!member.process || member.intent) continue;
    const std::uint64_t word = control_->cells()[slot].job.load(std::memory_order_acquire);
    PoolJob* job = word != 0 ? job_of(word) : nullptr;
    if (job == nullptr || slot >= job->slots) {
      member.seen.job = 0;
      continue;
    }
    const std::optional<std::uint32_t> begun = job->owner.begun(slot);
    const std::uint32_t item = begun.value_or(0);
    const CallLimits* limits =
        begun && !is_final(job->owner.board().state(item)) ? job->limits_of(item) : nullptr;
    if (limits == nullptr || !limits->timed()) {
      member.seen.job = 0;
      continue;
    }
    Seen& seen = member.seen;
    if (seen.job != word || seen.item != item) {
      seen = {.job = word, .item = item, .since = now, .cpu = std::nullopt};
      if (limits->cpu_time > nanoseconds::zero()) seen.cpu = member.process->cpu_time();
      continue;
    }
    if (limits->timeout > nanoseconds::zero() && now - seen.since >= limits->timeout) {
      stop_item(slot, *job, item,
                timed_out(fmt::format("{} was computed for {}, longer than its limit of {}; its "
                                      "worker {} was replaced",
                                      name_of(*job, item), in_seconds(now - seen.since),
                                      in_seconds(limits->timeout), member.process->name())));
    } else if (limits->cpu_time > nanoseconds::zero() && seen.cpu) {
      const std::optional<nanoseconds> used = member.process->cpu_time();
      if (!used) continue;
      const nanoseconds spent = *used - seen.cpu.value_or(*used);
      if (spent < limits->cpu_time) continue;
      stop_item(slot, *job, item,
                timed_out(fmt::format("{} used {} of CPU time, more than its limit of {}; its "
                                      "worker {} was replaced",
                                      name_of(*job, item), in_seconds(spent),
                                      in_seconds(limits->cpu_time), member.process->name())));
    }
  }
  nanoseconds shortest = nanoseconds::max();
  for (const PoolJob* job : active_) {
    if (job->limits) shortest = std::min(shortest, job->limits->shortest());
    if (job->timed_tasks > 0) shortest = std::min(shortest, job->shortest);
  }
  sample_pause_ = pause_for(shortest);
  next_sample_ = now + sample_pause_;
}

// What the worker in `slot` is in is to end, for `reason`.
void PoolCore::stop_item(std::uint32_t slot, const PoolJob& job, std::uint32_t item,
                         std::exception_ptr reason) {
  Member& member = members_[slot];
  if (!member.process || member.intent) return;
  member.intent = Intent{.job = job.word, .item = item, .reason = std::move(reason)};
  member.seen.job = 0;
  ++counts_.stopped;
  begin_kill(member, Deadline::Clock::now() + kLimitGrace);
  kick_keeper();
}

// Those that can make use of SIGTERM get it, and have until `end`; the others are killed at once.
void PoolCore::begin_kill(Member& member, Time end) noexcept {
  try {
    member.kill.emplace(member.process->sentinel());
    if (member.kill->asked_any()) {
      member.kill_at = end;
      return;
    }
  } catch (const std::exception& e) {
    static_cast<void>(e);  // no descriptors, no memory: then the worker at least
  }
  member.kill.reset();
  member.process->signal(SIGKILL);
}

// A task is not begun any more, or its worker is stopped. False: it has ended.
bool PoolCore::end_task(PoolJob& job, std::uint32_t item, const std::exception_ptr& reason) {
  if (const auto found = job.deferred.find(item); found != job.deferred.end()) {
    const FailureKind kind = found->second;
    job.deferred.erase(found);
    end_item(job, item, kind == FailureKind::crash ? FailureKind::stopped : kind, reason);
    return true;
  }
  if (job.owner.board().state(item) == ItemState::kException) {
    job.owner.fail(item, ItemState::kFailed);  // the owner has not been asked about it yet
  } else if (job.owner.withdraw(item, ItemState::kCancelled)) {
    for (std::uint32_t slot = 0; slot < job.slots; ++slot) {
      if (job.owner.begun(slot) == item) stop_item(slot, job, item, reason);
    }
  } else {
    return false;
  }
  // The verdict counts, also if the worker is just behind the item and says that it has a value.
  job.verdicts[item] = reason;
  wake_owner(*job.header);
  return true;
}

void PoolCore::expire(PoolJob& job, const std::exception_ptr& reason) {
  job.expired = reason;
  cancel_job(job);
  for (std::uint32_t slot = 0; slot < job.slots; ++slot) {
    const std::optional<std::uint32_t> item = job.owner.begun(slot);
    if (item && !is_final(job.owner.board().state(*item))) stop_item(slot, job, *item, reason);
  }
}

// --- retries ---------------------------------------------------------------------------------

// Items that ended with an exception and may be worth another attempt.
void PoolCore::ask_about_failures(PoolJob& job) {
  const std::uint32_t calls = job.header->calls.load(std::memory_order_seq_cst);
  if (calls == job.calls_seen && !job.look_for_failures && !job.owner.finished()) return;
  job.calls_seen = calls;
  job.look_for_failures = false;
  std::uint32_t item = 0;
  while ((item = job.owner.first_of(ItemState::kException, item)) < job.owner.existing()) {
    std::exception_ptr error;
    try {
      if (std::optional<ErrorRecord> record = error_of(job, item)) {
        if (job.header->kind == JobHeader::kMap) record->item = job.number(item);
        throw_error(*record);
      }
      throw SharedMemoryFull(fmt::format(
          "{} failed, and there was no shared memory left to say why", name_of(job, item)));
    } catch (...) {
      error = std::current_exception();
    }
    if (job.header->kind == JobHeader::kTasks) {
      auto& task = reinterpret_cast<TaskRecord*>(segment().at(job.header->output_at))[item];
      if (task.result.at != 0) consume(segment(), task.result);
      task.result = {};
    }
    job.owner.fail(item, ItemState::kAsked);
    settle(job, item, FailureKind::exception, std::move(error));
    ++item;
  }
}

// An attempt failed: is there to be another?
void PoolCore::settle(PoolJob& job, std::uint32_t item, FailureKind kind,
                      std::exception_ptr error) {
  const CallLimits* limits = job.limits_of(item);
  const unsigned attempts = ++job.attempts[item];
  if (job.header->attempts_at != 0) {
    // Relaxed: whoever takes the item again sees all that was written before it was handed out.
    reinterpret_cast<std::atomic<std::uint8_t>*>(segment().at(job.header->attempts_at))[item].store(
        static_cast<std::uint8_t>(std::min(attempts, 255U)), std::memory_order_relaxed);
  }
  const bool asked = limits != nullptr && static_cast<bool>(limits->retry_if);
  const bool perhaps = limits != nullptr && attempts <= limits->retries && !job.given_up &&
                       !broken_ && (asked || kind == FailureKind::crash);
  if (!perhaps) {
    end_item(job, item, kind, error);
  } else if (!asked) {
    try_again(job, item, kind);
  } else {
    job.deferred[item] = kind;
    questions_.push_back({.job = job.shared_from_this(),
                          .item = item,
                          .error = std::move(error),
                          .retry_if = limits->retry_if});
  }
}

void PoolCore::answer(const std::vector<Question>& questions) {
  for (const Question& question : questions) {
    bool again = false;
    try {
      std::rethrow_exception(question.error);
    } catch (const std::exception& e) {
      try {
        again = question.retry_if(e);
      } catch (...) {  // counts as no
        again = false;
      }
    } catch (...) {
      again = false;
    }
    const Lock lock(mutex_);
    PoolJob& job = *question.job;
    const auto found = job.deferred.find(question.item);
    if (found == job.deferred.end() || job.blocks.empty()) continue;  // decided otherwise meanwhile
    const FailureKind kind = found->second;
    job.deferred.erase(found);
    if (again && !job.given_up) {
      try_again(job, question.item, kind);
    } else {
      end_item(job, question.item, kind, question.error);
    }
  }
}

void PoolCore::end_item(PoolJob& job, std::uint32_t item, FailureKind kind,
                        const std::exception_ptr& error) {
  switch (kind) {
    case FailureKind::exception:
      job.verdicts[item] = error;
      job.owner.fail(item, ItemState::kFailed);
      break;
    case FailureKind::stopped:
      job.verdicts[item] = error;
      job.owner.fail(item, ItemState::kCancelled);
      break;
    case FailureKind::crash:
      job.verdicts[item] = error;
      job.owner.fail(item, ItemState::kCrashed);
      break;
  }
  wake_owner(*job.header);
}

void PoolCore::try_again(PoolJob& job, std::uint32_t item, FailureKind kind) {
  job.deferred[item] = kind;
  const CallLimits* limits = job.limits_of(item);
  const double chance = std::uniform_real_distribution<double>(0, 1)(random_);
  const nanoseconds pause =
      limits != nullptr ? limits->pause(job.attempts[item], chance) : nanoseconds::zero();
  if (pause <= nanoseconds::zero()) {
    run_again(job, item);
  } else {
    add_due(Deadline::Clock::now() + pause,
            {.what = Due::again, .job = job.weak_from_this(), .item = item});
  }
}

void PoolCore::run_again(PoolJob& job, std::uint32_t item) {
  const auto found = job.deferred.find(item);
  if (found == job.deferred.end()) return;
  bool work = false;
  if (found->second != FailureKind::exception) {
    work = job.owner.retry(item);
  } else if (job.owner.reopen(item)) {
    work = job.owner.heal();
  } else {
    add_due(Deadline::Clock::now() + kCommitPatience,
            {.what = Due::again, .job = job.weak_from_this(), .item = item});
    return;
  }
  job.deferred.erase(found);
  ++counts_.retries;
  for (Member& member : members_) {
    // Its time begins anew.
    if (member.seen.job == job.word && member.seen.item == item) member.seen.job = 0;
  }
  if (work) wake_workers(*control_, setup_.max_workers);
}

void PoolCore::watch_limits(const CallLimits& limits) {
  if (!limits.timed()) return;
  if (next_sample_ && sample_pause_ <= pause_for(limits.shortest())) return;
  sample_pause_ = kShortestLook;
  next_sample_ = Deadline::Clock::now() + kShortestLook;
  kick_keeper();
}

// All items are final, and none is to be run again.
bool PoolCore::settled(PoolJob& job) {
  if (!job.owner.finished()) return false;
  if (job.asks_owner) ask_about_failures(job);
  return job.deferred.empty() && job.owner.finished();
}

// --- tasks -----------------------------------------------------------------------------------

bool PoolCore::cancel(const Task& task) {
  require_here("cancel");
  const Lock lock(mutex_);
  PoolJob& job = *task.batch;
  if (job.decided(task.item)) return false;
  const bool ended = end_task(
      job, task.item,
      std::make_exception_ptr(TaskCancelled("the task was cancelled before it had a result")));
  if (ended) ++counts_.cancelled;
  return ended;
}

}  // namespace brood::detail
