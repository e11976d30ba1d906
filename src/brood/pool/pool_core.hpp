// Length: one class, all of whose parts have one mutex.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/channel/heap_sink.hpp>
#include <brood/channel/pending_result.hpp>
#include <brood/channel/watch.hpp>
#include <brood/cpu_count.hpp>
#include <brood/memory/heap.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/process_tree.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/crash_board.hpp>
#include <brood/pool/pool_job.hpp>
#include <brood/pool/timeline.hpp>
#include <brood/pool/worker_stderr.hpp>
#include <brood/pool_counts.hpp>
#include <brood/pool_stats.hpp>
#include <brood/process/child_process.hpp>
#include <brood/process/family.hpp>
#include <brood/sandbox.hpp>
#include <brood/start_method.hpp>

namespace brood::detail {

/// An encoded call: of an initializer or a finalizer.
struct EncodedCall {
  FunctionId function{};
  std::vector<std::byte> bytes;
  std::vector<Handle> kept;  // what they name
};

struct PoolSetup {
  std::uint32_t workers = 1;      // at first
  std::uint32_t max_workers = 1;  // the slots of boards
  std::optional<StartMethod> method{};
  std::string name{};
  std::optional<EncodedCall> initializer{};
  std::optional<EncodedCall> finalizer{};
  std::uint64_t max_tasks = 0;
  std::uint64_t max_growth = 0;
  std::chrono::nanoseconds max_age{0};
  std::chrono::nanoseconds idle_timeout{0};
  int cpus = 0;  // of a worker; 0: left alone
  bool pinned = false;
  int niceness = 0;
  std::string timeline{};  // a path; empty: none
  std::optional<Sandbox> sandbox{};
  std::size_t stderr_tail = 0;  // bytes; 0: workers have this process's stderr

  /// Workers do what may fail before their first task.
  [[nodiscard]] bool can_fail() const { return initializer || pinned || niceness != 0 || sandbox; }
};

/// The part of a pool that does not depend on types: workers, jobs, deaths, waiting.
///
/// One per pool, in the process that made it, kept alive by the pool and its futures. Any thread of
/// that process may call it at once. Whoever waits for a result does what is to be done meanwhile:
/// notice deaths, recover, replace workers, see to limits. Where nobody may be waiting, because
/// there are tasks or callbacks, a thread of its own does the same (pool_keeper.cpp). What limits
/// mean is in pool_limits.cpp.
class PoolCore : public std::enable_shared_from_this<PoolCore> {
 public:
  /// Starts the workers. With an initializer it waits until all have run it, and throws what it
  /// threw. Throws StartError, SystemError, SharedMemoryFull.
  explicit PoolCore(PoolSetup setup);
  PoolCore(const PoolCore&) = delete;
  PoolCore& operator=(const PoolCore&) = delete;
  ~PoolCore();

  [[nodiscard]] Family& family() const { return *family_; }
  [[nodiscard]] Segment& segment() const { return family_->segment(); }
  [[nodiscard]] Heap& heap() const { return family_->heap(); }
  [[nodiscard]] std::uint32_t workers() const { return wanted_.load(); }
  /// More workers, or fewer: those go when their chunk is done. Throws ArgumentError beyond what
  /// the pool was made for.
  void resize(std::uint32_t workers);
  [[nodiscard]] std::vector<int> worker_pids();
  [[nodiscard]] PoolCounts counts();
  [[nodiscard]] PoolStats stats();

  /// Shared memory for a job of `items`, with a board; not published yet. `output_bytes`: per item.
  std::shared_ptr<PoolJob> make_job(JobHeader::Kind kind, std::uint32_t items, std::uint32_t chunk,
                                    std::size_t output_bytes,
                                    std::shared_ptr<const CallLimits> limits = nullptr);
  /// Lets the workers have it. Throws PoolClosed.
  void publish(PoolJob& job);
  /// The same for a map whose inputs, `bytes` of them for an item, are yet to be written: workers
  /// begin while `write` is called for one range of items after the other, without locks. It must
  /// not throw. Returns when all are there.
  void feed(PoolJob& job, std::size_t bytes, const std::function<void(Range)>& write);
  /// Waits until all its items are final. `tick` is called now and then meanwhile, without locks.
  /// Throws what made the pool unusable, and whatever `tick` throws.
  void wait_all(PoolJob& job, const std::function<void(std::size_t done)>& tick);
  /// A look at whether all items of a map are final, by who waits for several of them. It does what
  /// wait_all() does. Ends before the job is retired.
  [[nodiscard]] std::shared_ptr<Watch> watch(const std::shared_ptr<PoolJob>& job);
  /// Whether all items of a map are final; costs a lock.
  [[nodiscard]] bool settled_now(PoolJob& job);
  /// How often items of it were computed again, and how often one took its worker along.
  struct Attempts {
    std::uint64_t again = 0;
    std::uint64_t deaths = 0;
  };
  [[nodiscard]] Attempts attempts_of(PoolJob& job);
  /// Gives back what the workers left for the items of a finished map: `results`, and the notes on
  /// failures.
  void consume_map(PoolJob& job, std::span<const Encoded> results) noexcept;
  /// Takes it off the table and gives its memory back as soon as nobody looks at it.
  void retire(const std::shared_ptr<PoolJob>& job) noexcept;
  /// The reason of an item that is final without a value; throws nothing.
  std::exception_ptr failure_of(PoolJob& job, std::uint32_t item);

  /// A submitted task.
  struct Task {
    std::shared_ptr<PoolJob> batch;
    std::uint32_t item = 0;
  };
  /// `kept`: what the call names.
  Task submit(FunctionId function, std::span<const std::byte> call, std::vector<Handle> kept,
              const std::shared_ptr<const CallLimits>& limits);
  /// Ends it with TaskCancelled: it is not begun, or its worker is stopped. False if it has ended.
  bool cancel(const Task& task);
  /// Calls `run` when the task has ended: at once, or later on the keeper's thread, which must only
  /// hand over there.
  void when_ready(const Task& task, std::function<void()> run);
  bool wait(const Task& task, Deadline deadline);
  [[nodiscard]] static bool ready(const Task& task);
  [[nodiscard]] std::shared_ptr<Watch> watch(const Task& task);
  /// The same as what a Future has.
  [[nodiscard]] std::shared_ptr<PendingResult> pending(Task task);
  /// The bytes of a task that ended with a value; valid until released. Otherwise throws why not.
  std::span<const std::byte> result(const Task& task);
  /// Nobody wants the result any more.
  void release(const Task& task) noexcept;

  /// Throws StateError when it has none, SystemError.
  void write_timeline(const std::string& path);

  void close();
  /// After close or terminate: waits until the workers are gone.
  void join();
  void terminate() noexcept;

 private:
  class TaskWatch;
  class PendingTask;
  class JobWatch;
  using Time = Deadline::Clock::time_point;
  /// Why a worker is being killed: it is in the item of a job that is to be ended.
  struct Intent {
    std::uint64_t job;  // JobWord
    std::uint32_t item;
    std::exception_ptr reason;
  };
  /// What a worker was seen in, and since when.
  struct Seen {
    std::uint64_t job = 0;  // JobWord; 0: nothing
    std::uint32_t item = 0;
    Time since{};
    std::optional<std::chrono::nanoseconds> cpu;  // of its process, then
  };
  struct Member {
    std::unique_ptr<ChildProcess> process;
    std::uint32_t group = 0;
    Seen seen{};
    std::optional<Intent> intent{};
    std::optional<TreeKill> kill{};  // under way, with what its item has started
    std::optional<Time> kill_at{};   // to be finished then at the latest
  };
  /// Something that is to be done at a time.
  struct Due {
    enum What : std::uint8_t { again, deadline, deadline_of_all } what;
    std::weak_ptr<PoolJob> job;
    std::uint32_t item;
  };
  /// A failure that the caller's predicate is to be asked about.
  struct Question {
    std::shared_ptr<PoolJob> job;
    std::uint32_t item;
    std::exception_ptr error;
    RetryIf retry_if;
  };
  struct Keeper;
  using Lock = std::unique_lock<std::mutex>;

  void require_here(const char* call) const;
  void start_worker(std::uint32_t slot);
  [[nodiscard]] bool add_stderr(std::uint32_t slot, DescriptorOutbox& to) noexcept;
  void await_initializers();
  bool wait_for(PoolJob* job, std::uint32_t item, Deadline deadline,
                const std::function<bool()>& done, const std::function<void(std::size_t)>& tick);
  std::vector<FutexWord> death_words() const;
  static void keep(PoolCore* core, const std::shared_ptr<Keeper>& keeper);
  void stop_keeper() noexcept;
  /// Without the mutex: the predicate is the user's.
  void answer(const std::vector<Question>& questions);

  // All below: with the mutex held.
  void tend();
  [[nodiscard]] bool died(ChildProcess& process) const;
  void tend_death(std::uint32_t slot);
  void inherit(const ChildProcess& process) noexcept;
  void recover(PoolJob& job, std::uint32_t slot, const Crash& crash, const Intent* intent);
  void see_to_limits();
  void look_at_running(Time now);
  void do_what_is_due(Time now);
  [[nodiscard]] Deadline next_look();
  void stop_item(std::uint32_t slot, const PoolJob& job, std::uint32_t item,
                 std::exception_ptr reason);
  bool end_task(PoolJob& job, std::uint32_t item, const std::exception_ptr& reason);
  static void begin_kill(Member& member, Time end) noexcept;
  void expire(PoolJob& job, const std::exception_ptr& reason);
  void ask_about_failures(PoolJob& job);
  void settle(PoolJob& job, std::uint32_t item, FailureKind kind, std::exception_ptr error);
  void end_item(PoolJob& job, std::uint32_t item, FailureKind kind,
                const std::exception_ptr& error);
  void try_again(PoolJob& job, std::uint32_t item, FailureKind kind);
  void run_again(PoolJob& job, std::uint32_t item);
  [[nodiscard]] bool settled(PoolJob& job);
  [[nodiscard]] PoolJob* job_of(std::uint64_t word) const;
  void add_due(Time when, Due due);
  void watch_limits(const CallLimits& limits);
  void ensure_keeper();
  void kick_keeper() noexcept;
  void replace(std::uint32_t slot);
  void fill_up();
  void give_up(std::exception_ptr reason);
  void cancel_job(PoolJob& job);
  void set_waiting(PoolJob& job);
  void unpublish(PoolJob& job) noexcept;
  void free_retired(bool all) noexcept;
  void free_dead_groups() noexcept;
  void free_task(PoolJob& job, std::uint32_t item) noexcept;
  void sweep_abandoned(PoolJob& job) noexcept;
  std::shared_ptr<PoolJob> open_batch(const CallLimits* limits);
  void set_top() noexcept;
  [[nodiscard]] bool work_is_left() const;
  [[nodiscard]] StartMethod method() const;
  [[nodiscard]] bool results_are_left() const;
  void sweep_batches() noexcept;
  void free_blocks(PoolJob& job) noexcept;
  void publish_locked(PoolJob& job);
  void publish(PoolJob& job, bool inputs_follow);
  void rouse(const PoolJob& job) noexcept;
  std::optional<ErrorRecord> error_of(PoolJob& job, std::uint32_t item);
  void reap_workers(bool kill) noexcept;
  void write_timeline_once() noexcept;

  std::shared_ptr<Family> family_;
  Tag creator_;
  PoolSetup setup_;
  CrashBoard crashes_;
  std::unique_ptr<WorkerStderr> worker_stderr_;  // null: they have this process's
  std::unique_ptr<Timeline> timeline_;
  Block control_block_;
  PoolControl* control_ = nullptr;
  Block initializer_block_;
  Block finalizer_block_;
  std::atomic<std::uint32_t> wanted_;  // workers

  std::mutex mutex_;
  std::vector<Member> members_;
  std::vector<PoolJob*> active_;
  std::vector<std::shared_ptr<PoolJob>> retired_;
  std::vector<std::shared_ptr<PoolJob>> batches_;
  std::vector<std::uint32_t> dead_groups_;
  std::vector<Handle> inherited_;  // what results in dead groups may name
  std::uint64_t next_sequence_ = 0;
  std::uint32_t last_batch_size_ = 0;
  unsigned early_deaths_ = 0;  // of workers before they could take work, one after the other
  unsigned early_kills_ = 0;   // the same, by SIGKILL
  bool short_of_workers_ = false;
  bool left_to_callers_ = false;  // a worker whom the keeper's thread may not start
  std::multimap<Time, Due> dues_;
  std::vector<Question> questions_;
  std::optional<Time> next_sample_;           // of what the workers are in
  std::chrono::nanoseconds sample_pause_{0};  // between two of them
  std::minstd_rand random_{std::random_device()()};
  std::shared_ptr<Keeper> keeper_;
  PoolCounts counts_;
  const Time made_ = Deadline::Clock::now();
  SubmitClock submit_clock_;
  bool terminated_ = false;
  bool timeline_written_ = false;
  std::uint32_t tended_epoch_ = 0;
  std::exception_ptr broken_;
  const int cpu_count_ = cpu_count();
  std::string start_error_;
};

}  // namespace brood::detail
