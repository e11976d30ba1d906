#include <brood/pool/worker.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/channel/descriptor_box.hpp>
#include <brood/cpu_count.hpp>
#include <brood/errors.hpp>
#include <brood/platform/clock.hpp>
#include <brood/platform/copy_guard.hpp>
#include <brood/platform/cpu.hpp>
#include <brood/platform/enter_sandbox.hpp>
#include <brood/platform/freed_memory.hpp>
#include <brood/platform/memory_use.hpp>
#include <brood/platform/process_tree.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/terminal_signals.hpp>
#include <brood/pool/crash_board.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/process/child.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {
namespace {

/// How long an idle worker looks for work before it sleeps: about as long as falling asleep and
/// being woken take, so that a caller who submits one task after the other does not pay for both
/// each time.
constexpr auto kIdleSpin = std::chrono::microseconds(10);
/// How long an idle worker keeps the memory that its items have freed, and that of their results,
/// to use it again: longer than an owner takes from one map to the next.
constexpr auto kKeepFreed = std::chrono::milliseconds(100);
/// Of the memory of results it keeps so much for good: small ones need no fresh page.
constexpr std::size_t kKeepResults = std::size_t{2} << 20U;

/// A worker computes items of a job: those of a map have numbers, and a seed.
class RunScope {
 public:
  explicit RunScope(const JobRun& run)
      : marks_(run.board.marks(run.slot)),
        attempts_(attempts_of(run)),
        scope_(this, run.job.kind == JobHeader::kMap ? &begun : nullptr,
               run.job.kind == JobHeader::kMap ? std::optional(run.job.seed) : std::nullopt,
               attempts_ != nullptr ? &attempt : nullptr) {}

 private:
  using Attempts = const std::atomic<std::uint8_t>;

  static Attempts* attempts_of(const JobRun& run) {
    if (run.job.attempts_at == 0) return nullptr;
    return reinterpret_cast<Attempts*>(run.segment.checked(run.job.attempts_at, run.board.items()));
  }
  static std::size_t begun(const void* scope) {
    return static_cast<const RunScope*>(scope)->marks_.begun();
  }
  static std::uint32_t attempt(const void* scope) {
    const auto* const run = static_cast<const RunScope*>(scope);
    return run->attempts_[run->marks_.begun()].load(std::memory_order_relaxed) + 1U;
  }

  ItemMarks<> marks_;
  Attempts* attempts_;  // null: there is one for each item
  ItemScope scope_;
};

class Worker {
 public:
  Worker(Family& family, const WorkerStart& start)
      : family_(family),
        segment_(family.segment()),
        control_(*reinterpret_cast<PoolControl*>(
            segment_.checked(start.control_at, sizeof(PoolControl)))),
        owner_(Tag::from_bits(control_.owner)),
        slot_(start.slot),
        results_(segment_, owner_, start.group),
        spins_(cpu_count() > 1),
        use_(start.max_tasks, start.max_growth, std::chrono::nanoseconds(start.max_age)),
        meter_(checked_row()),
        idle_timeout_(start.idle_timeout) {
    if (control_.timeline_at != 0) {
      timeline_ = reinterpret_cast<TimelineRow*>(segment_.checked(
          control_.timeline_at + slot_ * sizeof(TimelineRow), sizeof(TimelineRow)));
    }
  }

  /// False when the initializer failed; the owner is told why.
  bool initialize(const WorkerStart& start);
  /// True at an orderly end, which the finalizer belongs to.
  bool work();
  void finalize(const WorkerStart& start);

 private:
  [[nodiscard]] MeterRow& checked_row() const {
    if (slot_ >= control_.slots) throw DecodeError("a worker's slot is not in its pool");
    return control_.meters()[slot_];
  }
  [[nodiscard]] WorkerCell& cell() const { return control_.cells()[slot_]; }
  [[nodiscard]] bool orphaned() const { return !family_.registry().alive(owner_); }

  void call(FunctionId function, std::uint64_t at, std::uint64_t bytes);
  bool look_for_work();
  bool enter(std::uint32_t index);
  void run_map(JobRun& run);
  void run_tasks(JobRun& run);
  ItemState run_task(JobRun& run, std::uint32_t item, TaskRecord& task);
  void* resolve(FunctionId id, ThunkKind kind);
  /// False when it took too long.
  bool idle(std::uint32_t seen);
  [[nodiscard]] bool wanted_elsewhere() const {
    return use_.over() || cell().leave.load(std::memory_order_relaxed) != 0;
  }

  Family& family_;
  Segment& segment_;
  PoolControl& control_;
  Tag owner_;
  std::uint32_t slot_;
  ResultArea results_;
  bool spins_;
  WorkerUse use_;
  MemoryLimit memory_;
  Meter meter_;
  TimelineRow* timeline_ = nullptr;
  std::chrono::nanoseconds idle_timeout_;
  Deadline idle_until_ = Deadline::never();
  bool has_worked_ = false;  // since it was idle
  Deadline keeps_freed_until_ = Deadline::never();
  bool keeps_freed_ = true;
  struct Known {
    FunctionId id{};
    void* address = nullptr;
  };
  Known last_;
  ErrorRecord error_;
};

bool Worker::initialize(const WorkerStart& start) {
  if (start.cpus > 0) share_cpus(start.cpus);
  if (start.tells != 0) {
    ErrorRecord error;
    const bool done = run_catching(
        [&] {
          if (start.niceness != 0) set_niceness(niceness() + start.niceness);
          if (start.pinned != 0) pin_to_cpu(slot_);
          if (start.initializer.offset != 0) {
            call(start.initializer, start.initializer_at, start.initializer_bytes);
          }
          if (start.sandbox) enter_sandbox(*start.sandbox);
        },
        error);
    if (!done) {
      const Encoded place = write_error(results_, error);
      cell().error_at.store(place.at);
      cell().error_bytes.store(place.bytes);
      cell().status.store(WorkerCell::kInitializerFailed);
      announce(segment_.header());
      return false;
    }
  }
  meter_.row().started(start.started_at);
  cell().status.store(WorkerCell::kReady);
  if (start.tells != 0) announce(segment_.header());
  return true;
}

void Worker::finalize(const WorkerStart& start) {
  if (start.finalizer.offset != 0) {
    call(start.finalizer, start.finalizer_at, start.finalizer_bytes);
  }
  if (cell().status.load() == WorkerCell::kReady) cell().status.store(WorkerCell::kDone);
}

void Worker::call(FunctionId function, std::uint64_t at, std::uint64_t bytes) {
  const auto thunk = reinterpret_cast<ProcessThunk>(resolve_thunk(function, ThunkKind::process));
  std::span<const std::byte> encoded;
  if (bytes > 0) encoded = {segment_.checked(at, bytes), bytes};
  ByteSource source(encoded);
  thunk(source, [] {});
}

void* Worker::resolve(FunctionId id, ThunkKind kind) {
  if (last_.address == nullptr || last_.id.module != id.module || last_.id.offset != id.offset) {
    last_ = {id, resolve_thunk(id, kind)};
  }
  return last_.address;
}

bool Worker::work() {
  for (;;) {
    const std::uint32_t seen = control_.work.load(std::memory_order_seq_cst);
    const std::uint32_t stop = control_.stop.load(std::memory_order_seq_cst);
    if (stop == PoolControl::kNow || orphaned()) return false;
    if (wanted_elsewhere()) {
      cell().status.store(WorkerCell::kRetired);
      return true;
    }
    if (look_for_work()) {
      idle_until_ = Deadline::never();
      has_worked_ = true;
      keeps_freed_until_ = Deadline::never();
      keeps_freed_ = true;
      continue;
    }
    if (stop == PoolControl::kWhenDone) return true;
    if (idle_timeout_.count() > 0 && idle_until_.is_never()) {
      idle_until_ = Deadline::after(idle_timeout_);
    }
    if (has_worked_) keeps_freed_until_ = Deadline::after(kKeepFreed);
    has_worked_ = false;
    if (!idle(seen)) {
      cell().status.store(WorkerCell::kIdle);
      return true;
    }
  }
}

bool Worker::look_for_work() {
  // What is most urgent first, of that the oldest.
  struct Found {
    std::int32_t priority;
    std::uint64_t sequence;
    std::uint32_t index;
    bool operator<(const Found& other) const {
      return priority != other.priority ? priority > other.priority : sequence < other.sequence;
    }
  };
  std::array<Found, PoolControl::kMaxJobs> found;
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < PoolControl::kMaxJobs; ++i) {
    const std::uint64_t word = control_.jobs[i].load(std::memory_order_acquire);
    if (word == 0) continue;
    found[count++] = {control_.priorities[i].load(std::memory_order_relaxed),
                      JobWord::sequence(word), i};
  }
  std::sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count));
  bool worked = false;
  for (std::size_t i = 0; i < count; ++i) {
    if (enter(found[i].index)) worked = true;
    if (control_.stop.load(std::memory_order_relaxed) == PoolControl::kNow) return true;
    if (wanted_elsewhere()) return true;
    if (worked && control_.top.load(std::memory_order_relaxed) > found[i].priority) return true;
  }
  return worked;
}

bool Worker::enter(std::uint32_t index) {
  const std::uint64_t word = control_.jobs[index].load(std::memory_order_acquire);
  if (word == 0) return false;
  // SUBTLE: announce, then look again. Either the owner, which takes the job off the table and then
  // looks at the announcements, sees this one and keeps the memory, or this worker sees that the
  // job is off the table.
  cell().job.store(word, std::memory_order_seq_cst);
  bool worked = false;
  if (control_.jobs[index].load(std::memory_order_seq_cst) == word) {
    auto& job =
        *reinterpret_cast<JobHeader*>(segment_.checked(JobWord::offset(word), sizeof(JobHeader)));
    JobRun run{.segment = segment_,
               .job = job,
               .board = RangeBoard<>::attach(segment_.checked(job.board_at, job.board_bytes),
                                             job.board_bytes),
               .slot = slot_,
               .results = results_,
               .control = control_,
               .use = use_,
               .leave = cell().leave,
               .memory = memory_,
               .meter = meter_,
               .timeline = timeline_,
               .word = word};
    // A job from before the pool grew has no place for this worker.
    if (slot_ >= run.board.slots()) {
      cell().job.store(0, std::memory_order_release);
      return false;
    }
    const RunScope scope(run);
    if (job.kind == JobHeader::kMap) {
      run_map(run);
    } else {
      run_tasks(run);
    }
    meter_.pause();
    worked = run.worked;
    // Who waits for a certain task is woken by its end.
    const bool any = job.waiting.load(std::memory_order_relaxed) == JobHeader::kAnyItem;
    if (!run.left_early && run.board.leave(slot_)) {
      if (run.board.wants_owner()) {
        call_owner(job);
      } else if (any) {
        wake_owner(job);
      }
    }
  }
  memory_.end();
  cell().job.store(0, std::memory_order_release);  // pairs with the owner's acquire before reuse
  return worked;
}

void Worker::run_map(JobRun& run) {
  ErrorRecord error;
  // The items' exceptions are caught inside; this is for a callable that cannot be decoded here,
  // which then is the failure of every item that this worker takes.
  if (run_catching(
          [&] { reinterpret_cast<MapThunk>(resolve(run.job.function, ThunkKind::map))(run); },
          error)) {
    return;
  }
  for (Range chunk = run.take(); chunk;) {
    run.mark_worked();
    if (run.job.asks_owner != 0) chunk.end = chunk.begin + 1;
    for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) run.fail(i, error);
    chunk = run.next(chunk, run.job.asks_owner != 0);
  }
}

void Worker::run_tasks(JobRun& run) {
  auto* tasks = reinterpret_cast<TaskRecord*>(
      segment_.checked(run.job.output_at, std::uint64_t{run.board.items()} * sizeof(TaskRecord)));
  const bool asks = run.job.asks_owner != 0;
  for (Range chunk = run.take(); chunk;) {
    run.mark_worked();
    if (run.unwanted()) {
      run.drop(chunk);
      chunk = run.next(chunk);
      continue;
    }
    bool ask = false;
    for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) {
      if (run_task(run, i, tasks[i]) == ItemState::kException && asks) {
        chunk.end = i + 1;
        ask = true;
      }
      // SUBTLE: the item's state, stored before, against the look at the waiters; those who wait
      // store themselves before they look at the state. One of the two sees the other.
      std::atomic_thread_fence(std::memory_order_seq_cst);
      const std::uint32_t waiting = run.job.waiting.load(std::memory_order_relaxed);
      if (waiting == i + 1 || waiting == JobHeader::kAnyItem) wake_owner(run.job);
      if (run.job.sweep_at.load(std::memory_order_relaxed) == i + 1) call_owner(run.job);
    }
    chunk = run.next(chunk, ask);
  }
}

ItemState Worker::run_task(JobRun& run, std::uint32_t item, TaskRecord& task) {
  results_.let_go();
  ItemScope::current_begins_again();
  const auto marks = run.board.marks(slot_);
  marks.begin(item);
  // SUBTLE: the mark, then the look; who withdraws the task stores its state and then looks at the
  // marks. One of the two sees the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (const ItemState state = run.board.state(item); is_final(state)) return state;
  if (task.result.at == TaskRecord::kStamped) {
    SubmitClock::Stamp stamp;
    std::memcpy(&stamp, task.inline_result.data(), sizeof stamp);
    task.result = {};
    meter_.waited_since(stamp.time, stamp.times);
  }
  if (timeline_ != nullptr) timeline_->begin(run.word, item, 1);
  const bool done = run_catching(
      [&] {
        std::span<const std::byte> bytes;
        if (task.arguments.at != 0) {
          bytes = {segment_.checked(task.arguments.at, task.arguments.bytes), task.arguments.bytes};
        } else {
          bytes =
              std::span<const std::byte>(task.inline_arguments)
                  .first(std::min<std::size_t>(task.arguments.bytes, task.inline_arguments.size()));
        }
        ByteSource call(bytes);
        TaskOutput output(task, results_);
        reinterpret_cast<TaskThunk>(resolve(task.function, ThunkKind::task))(call, output);
      },
      error_);
  if (!done) {
    memory_.explain(error_);
    task.result = write_error(results_, error_);
    memory_.begin_again();
  }
  if (timeline_ != nullptr) timeline_->end();
  const ItemState state = done ? ItemState::kValue : ItemState::kException;
  marks.finish(item, state);
  return state;
}

bool Worker::idle(std::uint32_t seen) {
  if (spins_ && spin_while(control_.work, seen, kIdleSpin)) return true;
  if (keeps_freed_until_.passed()) {
    if (may_keep_freed_memory()) give_back_freed_memory();
    family_.heap().give_back_large();
    keeps_freed_until_ = Deadline::never();
    keeps_freed_ = false;
  }
  // Again after each sleep, which lasts a second at most: the owner may have read them meanwhile.
  results_.trim(keeps_freed_ ? std::numeric_limits<std::size_t>::max() : kKeepResults);
  const Family::Glance glance = family_.look();
  const std::uint32_t event = cell().event.load(std::memory_order_seq_cst);
  std::atomic<std::uint64_t>& sleepers = control_.sleepers[slot_ / 64];
  const std::uint64_t bit = std::uint64_t{1} << slot_ % 64;
  sleepers.fetch_or(bit, std::memory_order_seq_cst);
  // SUBTLE: the bit, then the look; whoever makes work counts it first and then looks for bits. One
  // of the two sees the other. If the waker dies or the one that it woke does, its death ends the
  // sleep of all.
  if (control_.work.load(std::memory_order_seq_cst) == seen &&
      control_.stop.load(std::memory_order_seq_cst) == PoolControl::kRun &&
      cell().leave.load(std::memory_order_seq_cst) == 0 && !orphaned()) {
    const std::array<FutexWord, 2> words{FutexWord{&cell().event, event},
                                         family_.registry().life(owner_).watch()};
    meter_.row().begin_idling();
    // It ends for many reasons (a process was born, another one died), of which none is work.
    if (!orphaned()) family_.sleep(glance, words, idle_until_.sooner(keeps_freed_until_));
    meter_.row().end_idling();
  }
  sleepers.fetch_and(~bit, std::memory_order_seq_cst);
  // Whoever took the bit made work, and counted it first.
  return control_.work.load(std::memory_order_seq_cst) != seen || !idle_until_.passed();
}

/// Who this is, for errors: "brood-worker-2 (pid 123)".
std::string& own_name() {
  static auto* name = new std::string;
  return *name;
}
void sign(ErrorRecord& error) {
  if (error.process.empty()) error.process = own_name();
}

void take_stderr(DescriptorInbox* from) {
  const Fd fd = from != nullptr ? from->take(0) : Fd();
  if (!fd.valid()) throw DecodeError("a worker's stderr did not come");
  set_standard_streams(std::array{0, 1, fd.get()});
}

/// The main function of a worker's process.
void run_worker(ByteSource& source, void (*decoded)()) {
  const auto start = decode<WorkerStart>(source);
  if (start.own_stderr != 0) take_stderr(source.inbox());
  adopt_orphans();     // so that what an item has started is found when the item is stopped
  ignore_interrupt();  // Ctrl-C is the parent's to handle, for all of its workers at once
  Family& family = *Family::current();
  own_name() = fmt::format("{} (pid {})", family.registry().name(family.self()), current_pid());
  Record& record = family.registry().record(family.self());
  record.pool_slot.store(start.slot);
  record.pool_at.store(start.control_at);
  leave_crash_note_at(family.segment(), start.crash_note_at);
  // A copy that came back from its task would go on as a second worker in the same slot: it would
  // run items twice, and write results of its own.
  guard_against_copies(
      family.segment().at(0), family.segment().size(),
      "brood: a copy of a worker, made by fork() in a task, came back from the task "
      "or touched shared memory: it must end by _exit() or exec()\n");
  // Where somebody counts what the worker has, that is its own choice.
  if (start.max_growth == 0 && !start.sandbox) keep_freed_memory();
  Worker worker(family, start);
  WorkerStates states;
  const WorkerStates::Use use(states);
  decoded();
  if (worker.initialize(start) && worker.work()) worker.finalize(start);
}

}  // namespace

FunctionId worker_function() { return thunk_id<&run_worker, ThunkKind::process>(); }

void wake_owner(JobHeader& job) noexcept {
  job.event.fetch_add(1, std::memory_order_seq_cst);
  if (job.waiting.load(std::memory_order_seq_cst) != JobHeader::kNobody) {
    futex_wake_all(job.event);
  }
}

void call_owner(JobHeader& job) noexcept {
  job.calls.fetch_add(1, std::memory_order_seq_cst);
  job.event.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(job.calls);
  futex_wake_all(job.event);
}

void wake_workers(PoolControl& control, std::uint32_t count) noexcept {
  control.work.fetch_add(1, std::memory_order_seq_cst);
  wake_sleepers(control, count);
}

void wake_sleepers(PoolControl& control, std::uint32_t count) noexcept {
  const std::uint32_t words = (control.slots + 63) / 64;
  for (std::uint32_t i = 0; i < words && count > 0; ++i) {
    std::uint64_t bits = control.sleepers[i].load(std::memory_order_seq_cst);
    while (bits != 0 && count > 0) {
      const std::uint64_t bit = bits & (~bits + 1);
      // Who takes the bit wakes: so each call wakes another worker.
      const std::uint64_t before = control.sleepers[i].fetch_and(~bit, std::memory_order_seq_cst);
      if ((before & bit) != 0) {
        WorkerCell& cell =
            control.cells()[i * 64 + static_cast<std::uint32_t>(std::countr_zero(bit))];
        cell.event.fetch_add(1, std::memory_order_seq_cst);
        futex_wake_all(cell.event);
        --count;
      }
      bits = before & ~bit;
    }
  }
}

Encoded write_error(ResultArea& results, ErrorRecord& error) noexcept {
  try {
    sign(error);
    std::vector<std::byte> encoded;
    encode_error(encoded, error);
    ResultArea::Writer writer(results);
    writer.write(encoded.data(), encoded.size());
    return writer.commit();
  } catch (...) {
    return {};  // no memory for the reason: the owner says so instead
  }
}

WorkerUse::WorkerUse(std::uint64_t tasks, std::uint64_t growth, std::chrono::nanoseconds age)
    : limited_(tasks != 0 || growth != 0 || age.count() != 0),
      tasks_left_(tasks != 0 ? tasks : UINT64_MAX),
      most_bytes_(growth != 0 ? private_memory() + growth : 0),
      end_(age.count() != 0 ? Deadline::after(age) : Deadline::never()) {}

void WorkerUse::count(std::uint32_t items) {
  if (!limited_) return;
  tasks_left_ -= std::min<std::uint64_t>(items, tasks_left_);
  over_ = over_ || tasks_left_ == 0 || end_.passed() ||
          (most_bytes_ != 0 && private_memory() > most_bytes_);
}

void JobRun::wake_next() const {
  // Who sleeps fell asleep before the job was published, or found nothing in it: the count of work
  // stays as it is, so that idle workers do not look in vain.
  if (job.kind == JobHeader::kMap) wake_sleepers(control, 1);
}

void JobRun::prepare(Range chunk) const {
  if (job.memory != 0) memory.begin(job.memory);
  if (timeline != nullptr && chunk && job.kind == JobHeader::kMap) {
    timeline->begin(word, chunk.begin, chunk.size());
  }
}

void JobRun::drop(Range chunk) const {
  meter.drop();
  const auto marks = board.marks(slot);
  for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) {
    if (board.state(i) == ItemState::kPending) marks.finish(i, ItemState::kCancelled);
  }
}

void JobRun::fail(std::uint32_t item, ErrorRecord& error) const {
  memory.explain(error);
  try {
    sign(error);
    auto* chain = reinterpret_cast<std::atomic<std::uint64_t>*>(
                      segment.checked(job.errors_at, (slot + 1) * sizeof(std::uint64_t))) +
                  slot;
    std::vector<std::byte> encoded;
    encode_error(encoded, error);
    const ErrorNote note{.previous = chain->load(std::memory_order_relaxed),
                         .item = item,
                         .time = steady_nanoseconds(),
                         .bytes = encoded.size()};
    ResultArea::Writer writer(results);
    writer.write(&note, sizeof note);
    writer.write(encoded.data(), encoded.size());
    // Linked before the item is final: whoever sees that it failed finds the note.
    chain->store(writer.commit().at, std::memory_order_release);
  } catch (const std::exception&) {
    // NOTE: no memory for the reason: the owner finds no note for the item and says so.
  }
  memory.begin_again();
  board.marks(slot).finish(item, ItemState::kException);
  ItemScope::current_begins_again();
}

}  // namespace brood::detail
