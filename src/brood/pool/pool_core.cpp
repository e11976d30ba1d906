#include <brood/pool/pool_core.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include <brood/cpu_count.hpp>
#include <brood/errors.hpp>
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

constexpr std::uint32_t kFirstBatch = 256;
constexpr std::uint32_t kLargestBatch = 65536;

constexpr std::size_t round_up(std::size_t value, std::size_t to) {
  return (value + to - 1) / to * to;
}

}  // namespace

PoolCore::PoolCore(PoolSetup setup)
    : family_(Family::require()), creator_(family_->self()), setup_(std::move(setup)) {
  if (setup_.name.empty()) setup_.name = "brood-worker";
  control_block_ = heap().allocate(sizeof(PoolControl) + setup_.workers * sizeof(WorkerCell));
  control_ = new (control_block_.data) PoolControl{};
  control_->slots = setup_.workers;
  control_->owner = creator_.bits();
  for (std::uint32_t i = 0; i < setup_.workers; ++i) new (control_->cells() + i) WorkerCell{};
  if (setup_.initializer && !setup_.initializer->bytes.empty()) {
    initializer_block_ = heap().allocate(setup_.initializer->bytes.size());
    std::memcpy(initializer_block_.data, setup_.initializer->bytes.data(),
                setup_.initializer->bytes.size());
  }
  members_.resize(setup_.workers);
  tended_epoch_ = segment().header().death_epoch.load();
  try {
    for (std::uint32_t slot = 0; slot < setup_.workers; ++slot) start_worker(slot);
    if (setup_.initializer) await_initializers();
  } catch (...) {
    terminate();
    free_dead_groups();
    heap().free(control_block_);
    heap().free(initializer_block_);
    throw;
  }
}

PoolCore::~PoolCore() {
  if (creator_ != family_->self()) {
    // A copy of the pool's process: what this refers to is the original's.
    for (Member& member : members_) static_cast<void>(member.process.release());
    return;
  }
  terminate();
  const Lock lock(mutex_);
  retired_.insert(retired_.end(), batches_.begin(), batches_.end());
  free_retired(true);
  free_dead_groups();
  heap().free(control_block_);
  heap().free(initializer_block_);
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
                                            std::uint32_t chunk, std::size_t output_bytes) {
  require_here("submit or map");
  const std::uint32_t slots = setup_.workers;
  const std::size_t errors_at = sizeof(JobHeader);
  const std::size_t board_at =
      round_up(errors_at + slots * sizeof(std::uint64_t), RangeBoard<>::kAlignment);
  const std::size_t board_bytes = RangeBoard<>::bytes_needed(items, slots);
  // One alignment more, as blocks are aligned to half of the board's.
  const Block block = heap().allocate(board_at + board_bytes + RangeBoard<>::kAlignment);
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
  return job;
}

void PoolCore::publish(PoolJob& job) {
  {
    const Lock lock(mutex_);
    publish_locked(job);
    if (job.header->kind == JobHeader::kMap) job.owner.hand_out();
  }
  // SUBTLE: the kernel queues a worker behind another where no processor is idle, and may leave it
  // there for milliseconds though this one's becomes idle at once, when this thread goes to sleep.
  // So the one processor that is ours gets no worker from us: who begins wakes the next.
  const std::uint32_t wanted = std::min(job.owner.board().items(), setup_.workers);
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
    // Pairs with the acquire in Worker::enter: the job is complete before it can be found.
    control_->jobs[i].store(job.word, std::memory_order_seq_cst);
    return;
  }
  throw StateError(fmt::format("a pool works on at most {} maps and batches of tasks at once",
                               PoolControl::kMaxJobs));
}

void PoolCore::unpublish(PoolJob& job) noexcept {
  if (!std::exchange(job.published, false)) return;  // its place may be another's by now
  control_->jobs[job.index].store(0, std::memory_order_seq_cst);
  std::erase(active_, &job);
}

void PoolCore::retire(const std::shared_ptr<PoolJob>& job) noexcept {
  const Lock lock(mutex_);
  if (job->published && !job->owner.finished()) cancel_job(*job);
  unpublish(*job);
  retired_.push_back(job);
  free_retired(false);
}

void PoolCore::free_retired(bool all) noexcept {
  std::erase_if(retired_, [&](const std::shared_ptr<PoolJob>& job) {
    for (std::uint32_t slot = 0; !all && slot < setup_.workers; ++slot) {
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
  if (job.waiters.size() > 1) waiting = JobHeader::kAnyItem;
  job.header->waiting.store(waiting, std::memory_order_seq_cst);
}

template <class Done>
bool PoolCore::wait_for(PoolJob* job, std::uint32_t item, Deadline deadline, Done done,
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
    std::size_t progress = 0;
    {
      const Lock lock(mutex_);
      waiter.enter();
      tend();
      if (done()) return true;
      words = death_words();
      if (tick && next_tick.passed() && job != nullptr) progress = job->owner.count_ended();
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
      wake_workers(*control_, setup_.workers);
      patience = Deadline::never();
    }
    family_->sleep(glance, words, deadline.sooner(next_tick).sooner(patience));
  }
}

void PoolCore::wait_all(PoolJob& job, const std::function<void(std::size_t)>& tick) {
  wait_for(
      &job, JobHeader::kAnyItem, Deadline::never(), [&] { return job.owner.finished(); }, tick);
}

void PoolCore::consume_map(PoolJob& job, std::span<const Encoded> results) noexcept {
  for (std::uint32_t item = 0; item < results.size(); ++item) {
    if (job.owner.board().state(item) == ItemState::kValue) consume(segment(), results[item]);
  }
  const auto* chains =
      reinterpret_cast<const std::atomic<std::uint64_t>*>(segment().at(job.header->errors_at));
  for (std::uint32_t slot = 0; slot < setup_.workers; ++slot) {
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
  const auto* chains =
      reinterpret_cast<const std::atomic<std::uint64_t>*>(segment().at(job.header->errors_at));
  for (std::uint32_t slot = 0; slot < setup_.workers; ++slot) {
    for (std::uint64_t at = chains[slot].load(std::memory_order_acquire); at != 0;) {
      ErrorNote note{};
      std::memcpy(&note, segment().checked(at, sizeof note), sizeof note);
      if (note.item == item) {
        return decode_error({segment().checked(at + sizeof note, note.bytes), note.bytes});
      }
      at = note.previous;
    }
  }
  return std::nullopt;
}

std::exception_ptr PoolCore::failure_of(PoolJob& job, std::uint32_t item) {
  const Lock lock(mutex_);
  const bool is_map = job.header->kind == JobHeader::kMap;
  const std::string what = is_map ? fmt::format("item {}", item) : "the task";
  try {
    switch (job.owner.board().state(item)) {
      case ItemState::kException:
        if (std::optional<ErrorRecord> error = error_of(job, item)) {
          if (is_map) error->item = item;
          throw_error(*error);
        }
        throw SharedMemoryFull(
            fmt::format("{} failed, and there was no shared memory left to say why", what));
      case ItemState::kCrashed: {
        const auto found = job.crashes.find(item);
        Crash unknown;
        if (is_map) unknown.item = item;
        throw WorkerCrashed(found != job.crashes.end() ? found->second : unknown);
      }
      default:
        if (broken_) std::rethrow_exception(broken_);
        throw TaskCancelled(fmt::format("{} was not computed: the pool was terminated", what));
    }
  } catch (...) {
    return std::current_exception();
  }
}

// --- tasks -----------------------------------------------------------------------------------

std::shared_ptr<PoolJob> PoolCore::open_batch(unsigned retries) {
  for (const auto& batch : batches_) {
    if (batch->closed || batch->retries != retries) continue;
    if (batch->owner.existing() < batch->owner.board().items()) return batch;
    batch->closed = true;
  }
  sweep_batches();
  last_batch_size_ =
      last_batch_size_ == 0 ? kFirstBatch : std::min(last_batch_size_ * 2, kLargestBatch);
  std::shared_ptr<PoolJob> batch =
      make_job(JobHeader::kTasks, last_batch_size_, 1, sizeof(TaskRecord));
  batch->retries = retries;
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
    if (!batch->closed || !batch->owner.finished()) return false;
    unpublish(*batch);
    if (batch->unreleased > 0) return false;
    retired_.push_back(batch);
    return true;
  });
  free_retired(false);
}

PoolCore::Task PoolCore::submit(FunctionId function, std::span<const std::byte> call,
                                std::vector<Handle> kept, unsigned retries) {
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
    task.batch = open_batch(retries);
    PoolJob& job = *task.batch;
    task.item = job.owner.existing();
    auto& record = reinterpret_cast<TaskRecord*>(segment().at(job.header->output_at))[task.item];
    record.function = function;
    record.result = {};
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
    job.owner.append(1);
  }
  wake_workers(*control_, 1);
  return task;
}

bool PoolCore::ready(const Task& task) {
  return is_final(task.batch->owner.board().state(task.item));
}

bool PoolCore::wait(const Task& task, Deadline deadline) {
  if (ready(task)) return true;
  require_here("wait");
  return wait_for(task.batch.get(), task.item + 1, deadline, [&] { return ready(task); }, {});
}

std::span<const std::byte> PoolCore::result(const Task& task) {
  if (task.batch->owner.board().state(task.item) != ItemState::kValue) {
    std::rethrow_exception(failure_of(*task.batch, task.item));
  }
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
  if (has_result && record.result.at != 0) consume(segment(), record.result);
  if (const auto found = job.arguments.find(item); found != job.arguments.end()) {
    heap().free(found->second);
    job.arguments.erase(found);
  }
  if (!job.kept_arguments.empty()) job.kept_arguments.erase(item);
  --job.unreleased;
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
  if (job.abandoned.size() >= job.next_sweep || job.abandoned.size() == job.unreleased) {
    std::erase_if(job.abandoned, [&](std::uint32_t item) {
      if (!is_final(job.owner.board().state(item))) return false;
      free_task(job, item);
      return true;
    });
    job.next_sweep = std::max<std::size_t>(16, job.abandoned.size() * 2);
  }
  if (job.closed && job.unreleased == 0) sweep_batches();
}

// --- the end ---------------------------------------------------------------------------------

void PoolCore::close() {
  require_here("close");
  control_->stop.store(PoolControl::kWhenDone);
  wake_workers(*control_, setup_.workers);
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
      const bool any = std::any_of(members_.begin(), members_.end(),
                                   [](const Member& member) { return member.process != nullptr; });
      if (!any) return;
      words = death_words();
    }
    family_->sleep(glance, words, Deadline::never());
  }
}

void PoolCore::terminate() noexcept {
  if (creator_ != family_->self() || control_ == nullptr) return;
  const Lock lock(mutex_);
  if (std::exchange(terminated_, true)) return;
  control_->stop.store(PoolControl::kNow);
  wake_workers(*control_, setup_.workers);
  for (Member& member : members_) {
    if (!member.process) continue;
    // An idle one goes by itself; a busy one is not waited for.
    const auto word = control_->cells()[&member - members_.data()].job.load();
    if (word != 0) member.process->signal(SIGTERM);
  }
  const Deadline grace = Deadline::after(kGrace);
  for (Member& member : members_) {
    if (member.process && !member.process->join(grace)) member.process->signal(SIGKILL);
  }
  for (std::uint32_t slot = 0; slot < setup_.workers; ++slot) {
    Member& member = members_[slot];
    if (!member.process) continue;
    member.process->join(Deadline::never());
    control_->cells()[slot].job.store(0);
    dead_groups_.push_back(member.group);
    for (PoolJob* job : active_) {
      for (const std::uint32_t item : job->owner.recover(slot).culprits) {
        job->owner.fail(item, ItemState::kCancelled);
      }
    }
    inherit(*member.process);
    member.process.reset();
  }
  for (PoolJob* job : active_) cancel_job(*job);
}

}  // namespace brood::detail
