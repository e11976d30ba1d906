// What futures see of tasks, and waiting for tasks together with other things.
#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include <brood/pool/pool_core.hpp>

namespace brood::detail {

/// A waiter of a task, from its first look on: the worker that ends the task wakes it, and it does
/// meanwhile what all who wait for a pool do.
class PoolCore::TaskWatch final : public Watch {
 public:
  TaskWatch(std::shared_ptr<PoolCore> core, Task task)
      : core_(std::move(core)), task_(std::move(task)) {}
  TaskWatch(const TaskWatch&) = delete;
  TaskWatch& operator=(const TaskWatch&) = delete;
  ~TaskWatch() override {
    if (!entered_ || core_->creator_ != core_->family_->self()) return;
    const Lock lock(core_->mutex_);
    PoolJob& job = *task_.batch;
    job.waiters.erase(std::find(job.waiters.begin(), job.waiters.end(), task_.item + 1));
    if (!job.blocks.empty()) core_->set_waiting(job);
  }

  bool look(std::vector<FutexWord>& words, Deadline& /*soon*/) override {
    if (done_) return true;
    core_->require_here("wait");
    const Lock lock(core_->mutex_);
    PoolJob& job = *task_.batch;
    // Its memory is gone when somebody has fetched the result.
    if (job.blocks.empty()) return done_ = true;
    if (!std::exchange(entered_, true)) {
      job.waiters.push_back(task_.item + 1);
      core_->set_waiting(job);
    }
    const FutexWord event{&job.header->event, job.header->event.load()};
    core_->tend();
    if (ready(task_)) return done_ = true;
    words.push_back(event);
    const std::vector<FutexWord> deaths = core_->death_words();
    words.insert(words.end(), deaths.begin(), deaths.end());
    return false;
  }

 private:
  std::shared_ptr<PoolCore> core_;
  Task task_;
  bool entered_ = false;
  bool done_ = false;
};

/// The same for all items of a map.
class PoolCore::JobWatch final : public Watch {
 public:
  JobWatch(std::shared_ptr<PoolCore> core, std::shared_ptr<PoolJob> job)
      : core_(std::move(core)), job_(std::move(job)) {}
  JobWatch(const JobWatch&) = delete;
  JobWatch& operator=(const JobWatch&) = delete;
  ~JobWatch() override {
    if (!entered_ || core_->creator_ != core_->family_->self()) return;
    const Lock lock(core_->mutex_);
    job_->waiters.erase(std::find(job_->waiters.begin(), job_->waiters.end(), JobHeader::kAnyItem));
    if (!job_->blocks.empty()) core_->set_waiting(*job_);
  }

  bool look(std::vector<FutexWord>& words, Deadline& soon) override {
    for (;;) {
      std::vector<Question> questions;
      {
        const Lock lock(core_->mutex_);
        if (!std::exchange(entered_, true)) {
          job_->waiters.push_back(JobHeader::kAnyItem);
          core_->set_waiting(*job_);
        }
        const FutexWord event{&job_->header->event, job_->header->event.load()};
        core_->tend();
        if (core_->left_to_callers_) core_->fill_up();
        if (core_->settled(*job_)) return true;
        questions.swap(core_->questions_);
        if (questions.empty()) {
          words.push_back(event);
          const std::vector<FutexWord> deaths = core_->death_words();
          words.insert(words.end(), deaths.begin(), deaths.end());
          soon = soon.sooner(core_->next_look());
          return false;
        }
      }
      core_->answer(questions);
    }
  }

 private:
  std::shared_ptr<PoolCore> core_;
  std::shared_ptr<PoolJob> job_;
  bool entered_ = false;
};

class PoolCore::PendingTask final : public PendingResult {
 public:
  PendingTask(std::shared_ptr<PoolCore> core, Task task)
      : core_(std::move(core)), task_(std::move(task)) {}
  PendingTask(const PendingTask&) = delete;
  PendingTask& operator=(const PendingTask&) = delete;
  ~PendingTask() override { PendingTask::release(); }

  [[nodiscard]] bool ready() const override { return PoolCore::ready(task_); }
  bool wait(Deadline deadline) override { return core_->wait(task_, deadline); }
  std::span<const std::byte> result() override { return core_->result(task_); }
  void when_ready(std::shared_ptr<PendingResult> /*self*/, std::function<void()> run) override {
    core_->when_ready(task_, std::move(run));
  }
  bool stop() override { return core_->cancel(task_); }
  void release() noexcept override {
    if (core_) core_->release(task_);
    core_.reset();
    task_ = {};
  }
  std::shared_ptr<Watch> watch(std::shared_ptr<PendingResult> /*self*/) override {
    return core_->watch(task_);
  }

 private:
  std::shared_ptr<PoolCore> core_;
  Task task_;
};

std::shared_ptr<PendingResult> PoolCore::pending(Task task) {
  return std::make_shared<PendingTask>(shared_from_this(), std::move(task));
}

std::shared_ptr<Watch> PoolCore::watch(const Task& task) {
  return std::make_shared<TaskWatch>(shared_from_this(), task);
}

std::shared_ptr<Watch> PoolCore::watch(const std::shared_ptr<PoolJob>& job) {
  require_here("wait");
  return std::make_shared<JobWatch>(shared_from_this(), job);
}

bool PoolCore::settled_now(PoolJob& job) {
  std::vector<Question> questions;
  bool done = false;
  {
    const Lock lock(mutex_);
    if (segment().header().death_epoch.load() != tended_epoch_) tend();
    done = settled(job);
    questions.swap(questions_);
  }
  if (!questions.empty()) answer(questions);
  return done;
}

PoolCore::Attempts PoolCore::attempts_of(PoolJob& job) {
  const Lock lock(mutex_);
  Attempts all;
  for (const auto& [item, failed] : job.attempts) {
    // A failure that was the last word is no attempt that was followed by another.
    all.again += failed - (job.verdicts.contains(item) ? 1 : 0);
  }
  all.deaths = job.deaths;
  return all;
}

}  // namespace brood::detail
