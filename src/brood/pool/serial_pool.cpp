#include <brood/pool/serial_pool.hpp>

#include <brood/platform/process_handle.hpp>

namespace brood::detail {

void SerialPool::close() noexcept {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (computing_ != 0) return;  // the last call does it
  }
  finalize();
}

bool SerialPool::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

WorkerStates& SerialPool::states() {
  const std::lock_guard lock(mutex_);
  return states_[std::this_thread::get_id()];
}

void SerialPool::end() {
  // What they hold is destroyed without the mutex: it is the user's.
  std::map<std::thread::id, WorkerStates> ended;
  std::function<void()> finalizer;
  const std::lock_guard lock(mutex_);
  closed_ = true;
  ended.swap(states_);
  finalizer.swap(finalizer_);
}

WorkerStates& SerialPool::begin() {
  const std::lock_guard lock(mutex_);
  if (closed_) throw PoolClosed("the pool is closed: it takes no more work");
  WorkerStates& states = states_[std::this_thread::get_id()];
  ++computing_;
  return states;
}

void SerialPool::ended() noexcept {
  {
    const std::lock_guard lock(mutex_);
    --computing_;
    if (!closed_ || computing_ != 0) return;
  }
  finalize();
}

void SerialPool::finalize() noexcept {
  std::function<void()> finalizer;
  {
    const std::lock_guard lock(mutex_);
    finalizer.swap(finalizer_);
  }
  if (!finalizer) return;
  try {
    ErrorRecord error;
    const WorkerStates::Use use(states());
    if (!run_catching(finalizer, error)) report_uncaught(2, name_, current_pid(), error);
  } catch (...) {
    return;  // no memory for the report
  }
}

}  // namespace brood::detail
