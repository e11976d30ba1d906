#include <brood/pool/thread_core.hpp>

#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/pool/item_context.hpp>

namespace brood::detail {
namespace {

/// Whose worker the calling thread is.
thread_local const ThreadCore* own_pool = nullptr;

}  // namespace

std::shared_ptr<ThreadCore> ThreadCore::start(Setup setup) {
  auto core = std::make_shared<ThreadCore>(std::move(setup));
  core->pid_ = current_pid();
  core->running_.resize(core->workers());
  core->threads_ = std::make_unique<std::vector<std::thread>>();
  std::exception_ptr error;
  try {
    for (std::uint32_t slot = 0; slot < core->workers(); ++slot) {
      core->threads_->emplace_back([core, slot] { core->work(slot); });
    }
  } catch (const std::system_error& e) {
    error = std::make_exception_ptr(
        StartError(fmt::format("thread {} of {} of a ThreadPool could not be started: {}",
                               core->threads_->size() + 1, core->workers(), e.what())));
  }
  if (!error && core->setup_.initializer) {
    std::unique_lock lock(core->mutex_);
    while (core->initialized_ < core->workers()) core->wake_.wait(lock);
    error = core->initializer_error_;
  }
  if (error) {
    core->terminate();
    std::rethrow_exception(error);
  }
  return core;
}

ThreadCore::~ThreadCore() {
  if (!threads_) return;
  // NOTE: in a copy of the process the handles are of threads that do not exist.
  if (current_pid() != pid_) {
    static_cast<void>(threads_.release());
    return;
  }
  // Only where one of them terminated the pool: this is the last of them, at its end.
  for (std::thread& thread : *threads_) {
    if (thread.joinable()) thread.detach();
  }
}

bool ThreadCore::is_worker() const { return own_pool == this; }

void ThreadCore::require_here(const char* call) const {
  if (current_pid() != pid_) {
    throw StateError(fmt::format("{}: a pool can be used only by the process that made it", call));
  }
}

void ThreadCore::require_open() const {
  require_here("submit or map");
  const std::lock_guard lock(mutex_);
  if (closed_) throw PoolClosed("the pool is closed: it takes no more work");
}

void ThreadCore::add(std::shared_ptr<ThreadJob> job, int priority) {
  require_here("submit or map");
  {
    const std::lock_guard lock(mutex_);
    if (closed_) throw PoolClosed("the pool is closed: it takes no more work");
    waiting_[priority].push_back(std::move(job));
  }
  wake_.notify_one();  // lint: condition_variable
}

void ThreadCore::work(std::uint32_t slot) {
  own_pool = this;
  WorkerStates states;
  const WorkerStates::Use use(states);
  std::exception_ptr error;
  if (setup_.initializer) {
    try {
      setup_.initializer();
    } catch (...) {
      error = std::current_exception();
    }
  }
  std::unique_lock lock(mutex_);
  if (error && !initializer_error_) initializer_error_ = error;
  if (++initialized_ == workers()) wake_.notify_all();  // lint: condition_variable
  for (;;) {
    while (waiting_.empty() && !closed_) wake_.wait(lock);
    if (waiting_.empty()) return;
    const auto first = waiting_.begin();
    std::shared_ptr<ThreadJob> job = std::move(first->second.front());
    first->second.pop_front();
    if (first->second.empty()) waiting_.erase(first);
    running_[slot] = job;
    lock.unlock();
    job->run();
    lock.lock();
    running_[slot].reset();
    lock.unlock();
    job.reset();  // what it holds may call us
    lock.lock();
  }
}

void ThreadCore::close() {
  require_here("close");
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  wake_.notify_all();  // lint: condition_variable
}

void ThreadCore::join_threads() noexcept {
  const std::lock_guard one(joining_);
  for (std::thread& thread : *threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ThreadCore::join() {
  require_here("join");
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) throw StateError("join: close or terminate the pool first");
  }
  if (is_worker()) throw StateError("join: a thread of the pool would wait for itself");
  join_threads();
}

void ThreadCore::terminate() noexcept {
  if (current_pid() != pid_) return;
  std::vector<std::shared_ptr<ThreadJob>> dropped;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (!std::exchange(terminated_, true)) {
      for (auto& [priority, jobs] : waiting_) {
        for (auto& job : jobs) dropped.push_back(std::move(job));
      }
      waiting_.clear();
      for (const auto& job : running_) {
        if (job) dropped.push_back(job);
      }
    }
  }
  wake_.notify_all();  // lint: condition_variable
  for (const auto& job : dropped) job->drop();
  dropped.clear();
  if (!is_worker()) join_threads();  // or it would wait for itself
}

}  // namespace brood::detail
