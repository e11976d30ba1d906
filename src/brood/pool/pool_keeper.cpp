// The thread that tends a pool while nobody waits for it.
#include <atomic>
#include <utility>

#include <brood/platform/futex.hpp>
#include <brood/platform/service_thread.hpp>
#include <brood/pool/pool_core.hpp>

namespace brood::detail {

/// Outlives the pool's core for as long as the thread runs.
struct PoolCore::Keeper {
  std::atomic<std::uint32_t> kick{0};
  std::atomic<bool> stop{false};
  std::unique_ptr<ServiceThread> thread;
};

void PoolCore::ensure_keeper() {
  if (keeper_) return;
  auto keeper = std::make_shared<Keeper>();
  keeper->thread = std::make_unique<ServiceThread>([this, keeper] { keep(this, keeper); });
  keeper_ = std::move(keeper);
}

void PoolCore::kick_keeper() noexcept {
  if (!keeper_) return;
  keeper_->kick.fetch_add(1);
  futex_wake_all(keeper_->kick);
}

void PoolCore::stop_keeper() noexcept {
  std::shared_ptr<Keeper> keeper;
  {
    const Lock lock(mutex_);
    keeper = std::move(keeper_);
  }
  if (!keeper) return;
  if (creator_ != family_->self()) {
    keeper->thread->abandon();  // of the original
    return;
  }
  keeper->stop.store(true);
  keeper->kick.fetch_add(1);
  futex_wake_all(keeper->kick);
  keeper->thread.reset();
}

void PoolCore::keep(PoolCore* core, const std::shared_ptr<Keeper>& keeper) {
  for (;;) {
    const std::uint32_t kick = keeper->kick.load();
    if (keeper->stop.load()) return;
    const Family::Glance glance = core->family_->look();
    std::vector<FutexWord> words{{&keeper->kick, kick}};  // first: there may be too many
    std::vector<Question> questions;
    std::vector<std::function<void()>> ready;
    Deadline next = Deadline::never();
    bool swept = false;
    {
      // SUBTLE: first the pool's mutex, then the right to work: who forks has the mutex.
      const Lock lock(core->mutex_);
      const ServiceWork work;
      for (PoolJob* job : core->active_) {
        words.push_back({&job->header->calls, job->header->calls.load()});
        if (!job->continuations.empty()) {
          words.push_back({&job->header->event, job->header->event.load()});
        }
      }
      try {
        core->tend();
      } catch (...) {
        // No memory, no descriptors: whoever waits for a result is told, and the next death or call
        // tries again.
        static_cast<void>(core);
      }
      for (PoolJob* job : core->active_) {
        std::erase_if(job->continuations, [&](PoolJob::Continuation& continuation) {
          if (!job->decided(continuation.item)) return false;
          ready.push_back(std::move(continuation.run));
          return true;
        });
        if (job->continuations.empty()) core->set_waiting(*job);
        if (!job->only_abandoned()) continue;
        core->sweep_abandoned(*job);
        swept = swept || job->unreleased == 0;
      }
      if (swept) core->sweep_batches();
      questions.swap(core->questions_);
      const std::vector<FutexWord> deaths = core->death_words();
      words.insert(words.end(), deaths.begin(), deaths.end());
      next = core->next_look();
    }
    if (!questions.empty()) {
      core->answer(questions);
      continue;
    }
    if (!ready.empty()) {
      for (const std::function<void()>& run : ready) run();
      ready.clear();
      // What they held may have been the last to hold the pool.
      continue;
    }
    core->family_->sleep(glance, words, next);
  }
}

void PoolCore::when_ready(const Task& task, std::function<void()> run) {
  require_here("then");
  {
    const Lock lock(mutex_);
    PoolJob& job = *task.batch;
    if (!job.decided(task.item)) {
      ensure_keeper();
      job.continuations.push_back({.item = task.item, .run = std::move(run)});
      set_waiting(job);
      kick_keeper();
      return;
    }
  }
  run();
}

}  // namespace brood::detail
