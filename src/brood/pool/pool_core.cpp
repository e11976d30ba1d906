#include <brood/pool/pool_core.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <thread>

#include <fmt/format.h>

#include <brood/cpu_count.hpp>
#include <brood/errors.hpp>
#include <brood/platform/round_up.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How long a waiter looks before it sleeps; see the worker's.
constexpr auto kSpin = 10us;
/// What workers get to wake each other.
constexpr auto kPatience = 2ms;
/// How often somebody who waits with a progress callback calls it.
constexpr auto kTick = 100ms;
/// What workers get to end after SIGTERM, before SIGKILL.
constexpr auto kGrace = 500ms;
/// More words to sleep on cost more than they are worth: then the watchdog's announcement does it.
constexpr std::size_t kMostDeathWords = 32;
/// A job with so much memory is worth a wait of some 50 us each for its last worker to leave.
constexpr std::size_t kLargeJob = std::size_t{16} << 20U;
constexpr int kLargeJobLooks = 20;

}  // namespace

PoolCore::PoolCore(PoolSetup setup)
    : family_(Family::require()),
      creator_(family_->self()),
      setup_(std::move(setup)),
      crashes_(family_, std::max(setup_.max_workers, setup_.workers)),
      wanted_(setup_.workers) {
  if (setup_.name.empty()) setup_.name = "brood-worker";
  setup_.max_workers = std::max(setup_.max_workers, setup_.workers);
  const std::uint32_t slots = setup_.max_workers;
  if (setup_.stderr_tail > 0) {
    worker_stderr_ = std::make_unique<WorkerStderr>(slots, setup_.stderr_tail);
  }
  control_block_ = heap().allocate(PoolControl::bytes_needed(slots));
  control_ = new (control_block_.data) PoolControl{};
  control_->slots = slots;
  control_->owner = creator_.bits();
  control_->top.store(INT32_MIN);
  for (std::uint32_t i = 0; i < slots; ++i) {
    new (control_->cells() + i) WorkerCell{};
    new (control_->meters() + i) MeterRow{};
  }
  const auto keep = [&](const std::optional<EncodedCall>& call) {
    if (!call || call->bytes.empty()) return Block{};
    const Block block = heap().allocate(call->bytes.size());
    std::memcpy(block.data, call->bytes.data(), call->bytes.size());
    return block;
  };
  try {
    if (!setup_.timeline.empty()) {
      timeline_ =
          std::make_unique<Timeline>(heap(), segment(), slots, setup_.timeline, setup_.name);
      control_->timeline_at = timeline_->at();
    }
  } catch (...) {
    heap().free(control_block_);
    throw;
  }
  initializer_block_ = keep(setup_.initializer);
  finalizer_block_ = keep(setup_.finalizer);
  members_.resize(slots);
  tended_epoch_ = segment().header().death_epoch.load();
  try {
    for (std::uint32_t slot = 0; slot < setup_.workers; ++slot) start_worker(slot);
    if (setup_.can_fail()) await_initializers();
  } catch (...) {
    terminate();
    free_dead_groups();
    heap().free(control_block_);
    heap().free(initializer_block_);
    heap().free(finalizer_block_);
    throw;
  }
}

PoolCore::~PoolCore() {
  stop_keeper();
  if (creator_ != family_->self()) {
    // A copy of the pool's process: what this refers to is the original's.
    for (Member& member : members_) static_cast<void>(member.process.release());
    if (worker_stderr_) worker_stderr_->abandon();
    return;
  }
  terminate();
  const Lock lock(mutex_);
  retired_.insert(retired_.end(), batches_.begin(), batches_.end());
  free_retired(true);
  free_dead_groups();
  heap().free(control_block_);
  heap().free(initializer_block_);
  heap().free(finalizer_block_);
}

void PoolCore::require_here(const char* call) const {
  if (creator_ != family_->self()) {
    throw StateError(fmt::format("{}: a pool can be used only by the process that made it", call));
  }
}

void PoolCore::await_initializers() {
  wait_for(nullptr, 0, Deadline::never(),
           [&] {
             if (broken_) return true;
             for (std::uint32_t slot = 0; slot < setup_.workers; ++slot) {
               if (control_->cells()[slot].status.load() != WorkerCell::kReady) return false;
             }
             return true;
           },
           {});
  const Lock lock(mutex_);
  if (broken_) std::rethrow_exception(broken_);
}

// --- jobs ------------------------------------------------------------------------------------

std::shared_ptr<PoolJob> PoolCore::make_job(JobHeader::Kind kind, std::uint32_t items,
                                            std::uint32_t chunk, std::size_t output_bytes,
                                            std::shared_ptr<const CallLimits> limits) {
  require_here("submit or map");
  const std::uint32_t slots = setup_.max_workers;
  const std::size_t errors_at = sizeof(JobHeader);
  const std::size_t board_at =
      round_up(errors_at + slots * sizeof(std::uint64_t), RangeBoard<>::kAlignment);
  const std::size_t board_bytes = RangeBoard<>::bytes_needed(items, slots);
  const bool again = kind == JobHeader::kTasks || (limits && limits->retries > 0);
  const std::size_t attempts_at = board_at + board_bytes;
  const std::size_t attempts_bytes = again ? items : 0;
  // One alignment more, as blocks are aligned to half of the board's.
  const Block block = heap().allocate(attempts_at + attempts_bytes + RangeBoard<>::kAlignment);
  Block output;
  try {
    if (output_bytes > 0) output = heap().allocate(std::size_t{items} * output_bytes);
  } catch (...) {
    heap().free(block);
    throw;
  }
  auto address = round_up(reinterpret_cast<std::uintptr_t>(block.data), RangeBoard<>::kAlignment);
  auto* base = reinterpret_cast<std::byte*>(address);
  auto* header = new (base) JobHeader{};
  std::memset(base + errors_at, 0, slots * sizeof(std::uint64_t));
  header->kind = kind;
  header->errors_at = segment().offset_of(base + errors_at);
  header->board_at = segment().offset_of(base + board_at);
  header->board_bytes = board_bytes;
  if (again) {
    std::memset(base + attempts_at, 0, attempts_bytes);
    header->attempts_at = segment().offset_of(base + attempts_at);
  }
  header->output_at = output.empty() ? 0 : segment().offset_of(output.data);
  auto job = std::make_shared<PoolJob>(
      header, RangeBoard<>::format(
                  base + board_at, board_bytes,
                  {.items = items,
                   .slots = slots,
                   .chunk = chunk,
                   .order = kind == JobHeader::kMap ? TakeOrder::kSlices : TakeOrder::kFifo}));
  job->blocks.push_back(block);
  if (!output.empty()) job->blocks.push_back(output);
  job->slots = slots;
  if (limits) {
    job->priority = header->priority = limits->priority;
    job->asks_owner = limits->asks();
    header->asks_owner = job->asks_owner ? 1 : 0;
    header->memory = limits->memory;
  }
  job->limits = std::move(limits);
  return job;
}

void PoolCore::publish(PoolJob& job) { publish(job, false); }

void PoolCore::publish(PoolJob& job, bool inputs_follow) {
  {
    const Lock lock(mutex_);
    if (inputs_follow) job.header->feeding.store(1, std::memory_order_relaxed);
    publish_locked(job);
    if (inputs_follow) {
      job.owner.keep_back(wanted_);
    } else {
      job.owner.hand_out(wanted_);
    }
    ++counts_.maps;
    counts_.map_items += job.owner.board().items();
    if (job.limits) {
      watch_limits(*job.limits);
      if (job.limits->deadline > job.limits->deadline.zero()) {
        add_due(Deadline::Clock::now() + job.limits->deadline,
                {.what = Due::deadline_of_all, .job = job.weak_from_this(), .item = 0});
      }
    }
  }
  // SUBTLE: the kernel queues a worker behind another where no processor is idle, and may leave it
  // there for milliseconds though this one's becomes idle at once, when this thread goes to sleep.
  // So the one processor that is ours gets no worker from us: who begins wakes the next.
  const std::uint32_t wanted = std::min<std::uint32_t>(job.owner.board().items(), wanted_);
  const auto others = static_cast<std::uint32_t>(std::max(cpu_count_ - 1, 1));
  wake_workers(*control_, std::min(wanted, others));
  job.sleepers_left = wanted > others;
}

void PoolCore::publish_locked(PoolJob& job) {
  if (broken_) std::rethrow_exception(broken_);
  if (control_->stop.load() != PoolControl::kRun) {
    throw PoolClosed("the pool is closed: it takes no more work");
  }
  if (segment().header().death_epoch.load() != tended_epoch_) tend();
  fill_up();
  for (std::uint32_t i = 0; i < PoolControl::kMaxJobs; ++i) {
    if (control_->jobs[i].load(std::memory_order_relaxed) != 0) continue;
    active_.push_back(&job);
    job.index = i;
    job.published = true;
    job.word = JobWord::pack(++next_sequence_, segment().offset_of(job.header));
    control_->priorities[i].store(job.priority, std::memory_order_relaxed);
    set_top();
    if (timeline_ && !job.label.empty()) timeline_->label(job.word, job.label, job.number(0));
    // Pairs with the acquire in Worker::enter: the job is complete before it can be found.
    control_->jobs[i].store(job.word, std::memory_order_seq_cst);
    return;
  }
  throw StateError(fmt::format("a pool works on at most {} maps and batches of tasks at once",
                               PoolControl::kMaxJobs));
}

void PoolCore::set_top() noexcept {
  std::int32_t top = INT32_MIN;
  for (const PoolJob* job : active_) top = std::max(top, job->priority);
  control_->top.store(top, std::memory_order_relaxed);
}

void PoolCore::unpublish(PoolJob& job) noexcept {
  if (!std::exchange(job.published, false)) return;  // its place may be another's by now
  control_->jobs[job.index].store(0, std::memory_order_seq_cst);
  std::erase(active_, &job);
  set_top();
}

void PoolCore::retire(const std::shared_ptr<PoolJob>& job) noexcept {
  std::size_t bytes = 0;
  for (const Block& block : job->blocks) bytes += block.bytes;
  {
    const Lock lock(mutex_);
    if (job->published && !job->owner.finished()) cancel_job(*job);
    unpublish(*job);
    retired_.push_back(job);
    free_retired(false);
  }
  // A worker that has just finished the last item may not have left. What is small waits for the
  // next call then; what is large is not kept for that by a pool that nobody calls any more.
  for (int looks = 0; bytes >= kLargeJob && looks != kLargeJobLooks; ++looks) {
    {
      const Lock lock(mutex_);
      free_retired(false);
      if (std::find(retired_.begin(), retired_.end(), job) == retired_.end()) return;
    }
    std::this_thread::sleep_for(50us);
  }
}

void PoolCore::free_retired(bool all) noexcept {
  std::erase_if(retired_, [&](const std::shared_ptr<PoolJob>& job) {
    for (std::uint32_t slot = 0; !all && slot < members_.size(); ++slot) {
      // acquire: pairs with the release when the worker leaves: it has read what it wanted to.
      const std::uint64_t at = control_->cells()[slot].job.load(std::memory_order_acquire);
      if (at != 0 && at == job->word) return false;
    }
    free_blocks(*job);
    return true;
  });
  if (!dead_groups_.empty() && !results_are_left()) free_dead_groups();
}

/// Results that somebody may fetch may lie in the pages of a dead worker.
bool PoolCore::results_are_left() const {
  return std::any_of(active_.begin(), active_.end(),
                     [](PoolJob* job) { return job->header->kind == JobHeader::kMap; }) ||
         std::any_of(batches_.begin(), batches_.end(),
                     [](const auto& batch) { return batch->unreleased > 0; });
}

void PoolCore::free_blocks(PoolJob& job) noexcept {
  for (const Block& block : job.blocks) heap().free(block);
  for (const auto& [item, block] : job.arguments) heap().free(block);
  job.blocks.clear();
  job.arguments.clear();
  job.kept.clear();
  job.kept_arguments.clear();
  job.task_limits.clear();
  job.timed_tasks = 0;
  job.shortest = std::chrono::nanoseconds::max();
}

void PoolCore::free_dead_groups() noexcept {
  for (const std::uint32_t group : dead_groups_) {
    segment().extents().release_group(creator_, group);
  }
  dead_groups_.clear();
  inherited_.clear();
}

// --- waiting ---------------------------------------------------------------------------------

std::vector<FutexWord> PoolCore::death_words() const {
  std::vector<FutexWord> words;
  if (members_.size() > kMostDeathWords) return words;
  for (const Member& member : members_) {
    if (member.process && family_->registry().alive(member.process->tag())) {
      words.push_back(family_->registry().life(member.process->tag()).watch());
    }
  }
  return words;
}

void PoolCore::set_waiting(PoolJob& job) {
  std::uint32_t waiting = JobHeader::kNobody;
  if (job.waiters.size() == 1) waiting = job.waiters.front();
  if (job.waiters.size() > 1 || !job.continuations.empty()) waiting = JobHeader::kAnyItem;
  job.header->waiting.store(waiting, std::memory_order_seq_cst);
}

bool PoolCore::wait_for(PoolJob* job, std::uint32_t item, Deadline deadline,
                        const std::function<bool()>& done,
                        const std::function<void(std::size_t)>& tick) {
  const auto start = Deadline::Clock::now();
  // The registration as a waiter ends with this call, whatever ends it.
  struct Waiter {
    PoolCore& core;
    PoolJob* job;
    std::uint32_t item;
    bool on = false;
    void enter() {
      if (job == nullptr || std::exchange(on, true)) return;
      job->waiters.push_back(item);
      core.set_waiting(*job);
    }
    ~Waiter() {
      if (!on) return;
      const Lock lock(core.mutex_);
      job->waiters.erase(std::find(job->waiters.begin(), job->waiters.end(), item));
      core.set_waiting(*job);
    }
  };
  Waiter waiter{*this, job, item};
  Deadline next_tick = tick ? Deadline::after(kTick) : Deadline::never();
  Deadline patience = job != nullptr && std::exchange(job->sleepers_left, false)
                          ? Deadline::after(kPatience)
                          : Deadline::never();
  for (;;) {
    const Family::Glance glance = family_->look();
    const std::uint32_t event = job != nullptr ? job->header->event.load() : 0;
    std::vector<FutexWord> words;
    std::vector<Question> questions;
    Deadline next = Deadline::never();
    std::size_t progress = 0;
    {
      const Lock lock(mutex_);
      waiter.enter();
      tend();
      if (left_to_callers_) fill_up();
      if (done()) return true;
      questions.swap(questions_);
      next = next_look();
      words = death_words();
      if (tick && next_tick.passed() && job != nullptr) progress = job->owner.count_ended();
    }
    if (!questions.empty()) {
      answer(questions);
      continue;
    }
    if (deadline.passed()) return false;
    if (tick && next_tick.passed()) {
      tick(progress);
      next_tick = Deadline::after(kTick);
    }
    if (job != nullptr) words.insert(words.begin(), FutexWord{&job->header->event, event});
    const bool spin = job != nullptr && Deadline::Clock::now() - start < kSpin && cpu_count_ > 1;
    if (spin && spin_while(job->header->event, event, kSpin)) continue;
    if (patience.passed()) {  // whoever was to wake the next worker may be stopped
      wake_workers(*control_, setup_.max_workers);
      patience = Deadline::never();
    }
    family_->sleep(glance, words, deadline.sooner(next_tick).sooner(patience).sooner(next));
  }
}

void PoolCore::wait_all(PoolJob& job, const std::function<void(std::size_t)>& tick) {
  wait_for(
      &job, JobHeader::kAnyItem, Deadline::never(), [&] { return settled(job); }, tick);
}

void PoolCore::consume_map(PoolJob& job, std::span<const Encoded> results) noexcept {
  bool names = false;
  for (std::uint32_t item = 0; item < results.size(); ++item) {
    if (job.owner.board().state(item) != ItemState::kValue) continue;
    consume(segment(), results[item]);
    names = names || results[item].names_objects();
  }
  // Whoever sleeps holds what the results name until it looks.
  if (names) wake_workers(*control_, setup_.max_workers);
  const auto* chains =
      reinterpret_cast<const std::atomic<std::uint64_t>*>(segment().at(job.header->errors_at));
  for (std::uint32_t slot = 0; slot < job.slots; ++slot) {
    for (std::uint64_t at = chains[slot].load(std::memory_order_acquire); at != 0;) {
      ErrorNote note{};
      std::memcpy(&note, segment().at(at), sizeof note);
      consume(segment(), {.at = at, .bytes = sizeof note + note.bytes});
      at = note.previous;
    }
  }
}

std::optional<ErrorRecord> PoolCore::error_of(PoolJob& job, std::uint32_t item) {
  if (job.header->kind == JobHeader::kTasks) {
    const auto& task =
        reinterpret_cast<const TaskRecord*>(segment().at(job.header->output_at))[item];
    if (task.result.at == 0) return std::nullopt;
    return decode_error(
        {segment().checked(task.result.at, task.result.size()), task.result.size()});
  }
  // Every note is looked at once, however many are asked for.
  const auto* chains =
      reinterpret_cast<const std::atomic<std::uint64_t>*>(segment().at(job.header->errors_at));
  const auto read = [&](std::uint64_t at) {
    ErrorNote note{};
    std::memcpy(&note, segment().checked(at, sizeof note), sizeof note);
    return note;
  };
  job.note_heads.resize(job.slots);
  for (std::uint32_t slot = 0; slot < job.slots; ++slot) {
    const std::uint64_t head = chains[slot].load(std::memory_order_acquire);
    for (std::uint64_t at = head; at != 0 && at != job.note_heads[slot];) {
      const ErrorNote note = read(at);
      const auto [known, is_new] = job.notes.try_emplace(static_cast<std::uint32_t>(note.item), at);
      // Of the attempts at an item the last one counts.
      if (!is_new && read(known->second).time < note.time) known->second = at;
      at = note.previous;
    }
    job.note_heads[slot] = head;
  }
  const auto found = job.notes.find(item);
  if (found == job.notes.end()) return std::nullopt;
  const ErrorNote note = read(found->second);
  return decode_error({segment().checked(found->second + sizeof note, note.bytes), note.bytes});
}

std::exception_ptr PoolCore::failure_of(PoolJob& job, std::uint32_t item) {
  const Lock lock(mutex_);
  const bool is_map = job.header->kind == JobHeader::kMap;
  const std::string what = is_map ? fmt::format("item {}", job.number(item)) : "the task";
  if (const auto found = job.verdicts.find(item); found != job.verdicts.end()) {
    return found->second;
  }
  try {
    switch (job.owner.board().state(item)) {
      case ItemState::kException:
        if (std::optional<ErrorRecord> error = error_of(job, item)) {
          if (is_map) error->item = job.number(item);
          throw_error(*error);
        }
        throw SharedMemoryFull(
            fmt::format("{} failed, and there was no shared memory left to say why", what));
      default:
        if (job.expired) std::rethrow_exception(job.expired);
        if (broken_) std::rethrow_exception(broken_);
        throw TaskCancelled(fmt::format("{} was not computed: the pool was terminated", what));
    }
  } catch (...) {
    return std::current_exception();
  }
}

// --- the end ---------------------------------------------------------------------------------

void PoolCore::close() {
  require_here("close");
  control_->stop.store(PoolControl::kWhenDone);
  wake_workers(*control_, setup_.max_workers);
}

void PoolCore::join() {
  require_here("join");
  if (control_->stop.load() == PoolControl::kRun) {
    throw StateError("join: close or terminate the pool first");
  }
  for (;;) {
    const Family::Glance glance = family_->look();
    std::vector<FutexWord> words;
    {
      const Lock lock(mutex_);
      tend();
      if (left_to_callers_) fill_up();
      const bool any = std::any_of(members_.begin(), members_.end(),
                                   [](const Member& member) { return member.process != nullptr; });
      if (!any) {
        write_timeline_once();
        return;
      }
      words = death_words();
    }
    family_->sleep(glance, words, Deadline::never());
  }
}

void PoolCore::write_timeline(const std::string& path) {
  require_here("write_timeline");
  const Lock lock(mutex_);
  if (!timeline_)
    throw StateError("this pool has no timeline: ask for it with PoolOptions::timeline");
  timeline_->write(path);
}

// At the pool's end, where nobody can be told of an error but those who read stderr.
void PoolCore::write_timeline_once() noexcept {
  if (!timeline_ || std::exchange(timeline_written_, true)) return;
  try {
    timeline_->write(timeline_->path());
  } catch (const std::exception& e) {
    fmt::print(stderr, "brood: {}\n", e.what());
  }
}

void PoolCore::terminate() noexcept {
  if (creator_ != family_->self() || control_ == nullptr) return;
  const Lock lock(mutex_);
  if (std::exchange(terminated_, true)) return;
  control_->stop.store(PoolControl::kNow);
  wake_workers(*control_, setup_.max_workers);
  for (Member& member : members_) {
    if (!member.process) continue;
    // An idle one goes by itself; a busy one is not waited for.
    const auto word = control_->cells()[&member - members_.data()].job.load();
    if (word != 0 && !member.kill) begin_kill(member, Deadline::Clock::now() + kGrace);
  }
  const Deadline grace = Deadline::after(kGrace);
  for (Member& member : members_) {
    if (!member.process) continue;
    const bool ended = member.kill ? member.kill->obeyed(grace) && member.process->join(grace)
                                   : member.process->join(grace);
    member.kill.reset();
    if (!ended) member.process->signal(SIGKILL);
  }
  for (std::uint32_t slot = 0; slot < members_.size(); ++slot) {
    Member& member = members_[slot];
    if (!member.process) continue;
    member.process->join(Deadline::never());
    control_->cells()[slot].job.store(0);
    dead_groups_.push_back(member.group);
    for (PoolJob* job : active_) {
      if (slot >= job->slots) continue;
      for (const std::uint32_t item : job->owner.recover(slot).culprits) {
        job->owner.fail(item, ItemState::kCancelled);
      }
    }
    inherit(*member.process);
    member.process.reset();
    control_->meters()[slot].ended();
    if (timeline_) timeline_->ended(slot);
  }
  for (PoolJob* job : active_) cancel_job(*job);
  write_timeline_once();
}

}  // namespace brood::detail
