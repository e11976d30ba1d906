#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
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
#include <brood/pool/control.hpp>
#include <brood/pool/pool_job.hpp>
#include <brood/process/child_process.hpp>
#include <brood/process/family.hpp>
#include <brood/start_method.hpp>

namespace brood::detail {

/// An encoded call: of an initializer.
struct EncodedCall {
  FunctionId function{};
  std::vector<std::byte> bytes;
  std::vector<Handle> kept;  // what they name
};

struct PoolSetup {
  std::uint32_t workers = 1;
  std::optional<StartMethod> method;
  std::string name;
  std::optional<EncodedCall> initializer;
};

/// The part of a pool that does not depend on types: workers, jobs, deaths, waiting.
///
/// One per pool, in the process that made it, kept alive by the pool and its futures. Any thread of
/// that process may call it at once; there is no thread of its own: whoever waits for a result does
/// what is to be done meanwhile (notice deaths, recover, replace workers).
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
  [[nodiscard]] std::uint32_t workers() const { return setup_.workers; }
  [[nodiscard]] std::vector<int> worker_pids();

  /// Shared memory for a job of `items`, with a board; not published yet. `output_bytes`: per item.
  std::shared_ptr<PoolJob> make_job(JobHeader::Kind kind, std::uint32_t items, std::uint32_t chunk,
                                    std::size_t output_bytes);
  /// Lets the workers have it. Throws PoolClosed.
  void publish(PoolJob& job);
  /// Waits until all its items are final. `tick` is called now and then meanwhile, without locks.
  /// Throws what made the pool unusable, and whatever `tick` throws.
  void wait_all(PoolJob& job, const std::function<void(std::size_t done)>& tick);
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
              unsigned retries);
  bool wait(const Task& task, Deadline deadline);
  [[nodiscard]] static bool ready(const Task& task);
  [[nodiscard]] std::shared_ptr<Watch> watch(const Task& task);
  /// The same as what a Future has.
  [[nodiscard]] std::shared_ptr<PendingResult> pending(Task task);
  /// The bytes of a task that ended with a value; valid until released. Otherwise throws why not.
  std::span<const std::byte> result(const Task& task);
  /// Nobody wants the result any more.
  void release(const Task& task) noexcept;

  void close();
  /// After close or terminate: waits until the workers are gone.
  void join();
  void terminate() noexcept;

 private:
  class TaskWatch;
  class PendingTask;
  struct Member {
    std::unique_ptr<ChildProcess> process;
    std::uint32_t group = 0;
  };
  using Lock = std::unique_lock<std::mutex>;

  void require_here(const char* call) const;
  void start_worker(std::uint32_t slot);
  void await_initializers();
  template <class Done>
  bool wait_for(PoolJob* job, std::uint32_t item, Deadline deadline, Done done,
                const std::function<void(std::size_t)>& tick);
  std::vector<FutexWord> death_words() const;

  // All below: with the mutex held.
  void tend();
  [[nodiscard]] bool died(ChildProcess& process) const;
  void tend_death(std::uint32_t slot);
  void inherit(const ChildProcess& process) noexcept;
  void recover(PoolJob& job, std::uint32_t slot, const Crash& crash);
  void replace(std::uint32_t slot);
  void fill_up();
  void give_up(std::exception_ptr reason);
  void cancel_job(PoolJob& job);
  void set_waiting(PoolJob& job);
  void unpublish(PoolJob& job) noexcept;
  void free_retired(bool all) noexcept;
  void free_dead_groups() noexcept;
  void free_task(PoolJob& job, std::uint32_t item) noexcept;
  std::shared_ptr<PoolJob> open_batch(unsigned retries);
  [[nodiscard]] bool work_is_left() const;
  [[nodiscard]] bool results_are_left() const;
  void sweep_batches() noexcept;
  void free_blocks(PoolJob& job) noexcept;
  void publish_locked(PoolJob& job);
  std::optional<ErrorRecord> error_of(PoolJob& job, std::uint32_t item);
  void reap_workers(bool kill) noexcept;

  std::shared_ptr<Family> family_;
  Tag creator_;
  PoolSetup setup_;
  Block control_block_;
  PoolControl* control_ = nullptr;
  Block initializer_block_;

  std::mutex mutex_;
  std::vector<Member> members_;
  std::vector<PoolJob*> active_;
  std::vector<std::shared_ptr<PoolJob>> retired_;
  std::vector<std::shared_ptr<PoolJob>> batches_;
  std::vector<std::uint32_t> dead_groups_;
  std::vector<Handle> inherited_;  // what results in dead groups may name
  std::uint32_t next_group_ = 0;
  std::uint64_t next_sequence_ = 0;
  std::uint32_t last_batch_size_ = 0;
  unsigned early_deaths_ = 0;  // of workers before they could take work, one after the other
  unsigned early_kills_ = 0;   // the same, by SIGKILL
  bool short_of_workers_ = false;
  bool terminated_ = false;
  std::uint32_t tended_epoch_ = 0;
  std::exception_ptr broken_;
  const int cpu_count_ = cpu_count();
  std::string start_error_;
};

}  // namespace brood::detail
