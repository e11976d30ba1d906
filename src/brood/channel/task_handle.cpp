#include <brood/channel/task_handle.hpp>

#include <brood/channel/callback_threads.hpp>
#include <brood/errors.hpp>

namespace brood::detail {

TaskHandle& TaskHandle::operator=(TaskHandle&& other) noexcept {
  if (this != &other) {
    release();
    remote_ = std::move(other.remote_);
    local_ = std::move(other.local_);
  }
  return *this;
}

void TaskHandle::require() const {
  if (!valid()) throw StateError("this future has no result, or it has been fetched already");
}

bool TaskHandle::wait(Deadline deadline) const {
  return local_ ? local_->wait(deadline) : remote_->wait(deadline);
}

bool TaskHandle::cancel() const { return local_ ? local_->cancel() : remote_->stop(); }

std::shared_ptr<Watch> TaskHandle::watch() const {
  return local_ ? local_->watch() : remote_->watch(remote_);
}

void TaskHandle::when_ready(std::function<void()> callback) const {
  if (local_) {
    local_->when_ready(std::move(callback));
  } else {
    remote_->when_ready(remote_, std::move(callback));
  }
}

void TaskHandle::call_when_ready(std::function<void()> callback) const {
  auto expected = std::make_shared<const ExpectedCallback>();
  when_ready([callback = std::move(callback), expected = std::move(expected)]() mutable {
    post_callback([callback = std::move(callback), expected = std::move(expected)] { callback(); });
  });
}

void TaskHandle::resume_when_ready(std::coroutine_handle<> coroutine) const {
  call_when_ready([coroutine] { coroutine.resume(); });
}

std::size_t TaskHandle::result_bytes() const noexcept {
  try {
    return local_ ? 0 : remote_->result().size();
  } catch (...) {
    return 0;  // it failed
  }
}

void TaskHandle::release() noexcept {
  if (remote_) remote_->release();
  remote_.reset();
  local_.reset();
}

}  // namespace brood::detail
