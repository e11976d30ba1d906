#include <brood/platform/service_thread.hpp>

#include <atomic>
#include <new>
#include <shared_mutex>
#include <utility>

#include <brood/platform/quiet_thread.hpp>

namespace brood::detail {
namespace {

// Never destroyed: service threads may outlive static objects.
std::shared_mutex& gate() {
  alignas(std::shared_mutex) static std::byte place[sizeof(std::shared_mutex)];
  static auto* mutex = new (place) std::shared_mutex;
  return *mutex;
}

std::atomic<int> threads{0};
thread_local bool is_service = false;

}  // namespace

ServiceThread::ServiceThread(std::function<void()> body) {
  gate();
  threads.fetch_add(1);
  try {
    thread_ = start_quiet_thread([body = std::move(body)] {
      is_service = true;
      body();
      // Before the thread is gone: a fork that counts it a moment longer is refused, no more.
      threads.fetch_sub(1);
    });
  } catch (...) {
    threads.fetch_sub(1);
    throw;
  }
}

ServiceThread::~ServiceThread() {
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void ServiceThread::abandon() noexcept {
  if (thread_.joinable()) thread_.detach();
}

int ServiceThread::count() noexcept { return threads.load(); }

bool ServiceThread::here() noexcept { return is_service; }

ServiceWork::ServiceWork() { gate().lock_shared(); }
ServiceWork::~ServiceWork() { gate().unlock_shared(); }

ServicePause::ServicePause() { gate().lock(); }
ServicePause::~ServicePause() { gate().unlock(); }

void ServicePause::in_child() noexcept {
  threads.store(0);
  is_service = false;
  // The lock's owner was the thread of the parent: unlocked in its name it would be in disorder.
  new (&gate()) std::shared_mutex;
  gate().lock();
}

}  // namespace brood::detail
