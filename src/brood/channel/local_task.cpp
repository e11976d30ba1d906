#include <brood/channel/local_task.hpp>

#include <brood/platform/futex.hpp>

namespace brood::detail {

bool LocalTask::wait(Deadline deadline) const {
  if (ready()) return true;
  struct Sleeper {
    std::atomic<std::uint32_t>& count;
    explicit Sleeper(std::atomic<std::uint32_t>& sleepers) : count(sleepers) { ++count; }
    ~Sleeper() { --count; }
  } const sleeper(sleepers_);
  for (;;) {
    // SUBTLE: counted, then looked; settled() stores, then looks at the count: one sees the other.
    const std::uint32_t state = state_.load();
    if (state == kSettled) return true;
    if (deadline.passed()) return false;
    futex_wait({&state_, state}, deadline);
  }
}

bool LocalTask::begin() {
  std::uint32_t expected = kWaiting;
  return state_.compare_exchange_strong(expected, kRunning);
}

void LocalTask::settled() {
  std::vector<std::function<void()>> callbacks;
  {
    const std::lock_guard lock(mutex_);
    state_.store(kSettled);
    callbacks.swap(callbacks_);
    stop_ = std::stop_source(std::nostopstate);
  }
  if (sleepers_.load() != 0) futex_wake_all(state_);
  for (const auto& callback : callbacks) callback();
}

void LocalTask::when_ready(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!ready()) {
      callbacks_.push_back(std::move(callback));
      return;
    }
  }
  callback();
}

bool LocalTask::fail_with(std::exception_ptr error) {
  if (!begin()) return false;
  set_outcome(std::move(error));
  settled();
  return true;
}

bool LocalTask::cancel() {
  if (fail_with(std::make_exception_ptr(TaskCancelled("the task was cancelled before it began")))) {
    cancel_source();
    return true;
  }
  std::stop_source stop = [&] {
    const std::lock_guard lock(mutex_);
    return ready() ? std::stop_source(std::nostopstate) : stop_;
  }();
  if (!stop.stop_possible()) return false;
  stop.request_stop();  // without the mutex: it calls back
  return true;
}

std::stop_token LocalTask::stop_token() {
  const std::lock_guard lock(mutex_);
  if (!stop_.stop_possible()) stop_ = std::stop_source();
  return stop_.get_token();
}

class LocalTask::LocalWatch final : public Watch {
 public:
  explicit LocalWatch(std::shared_ptr<LocalTask> task) : task_(std::move(task)) {
    ++task_->sleepers_;
  }
  LocalWatch(const LocalWatch&) = delete;
  LocalWatch& operator=(const LocalWatch&) = delete;
  ~LocalWatch() override { --task_->sleepers_; }

  bool look(std::vector<FutexWord>& words, Deadline& /*soon*/) override {
    const std::uint32_t state = task_->state_.load();
    if (state == kSettled) return true;
    words.push_back({&task_->state_, state});
    return false;
  }

 private:
  std::shared_ptr<LocalTask> task_;
};

std::shared_ptr<Watch> LocalTask::watch() {
  return std::make_shared<LocalWatch>(shared_from_this());
}

}  // namespace brood::detail
