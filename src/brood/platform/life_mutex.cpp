#include <brood/platform/life_mutex.hpp>

#include <linux/futex.h>

#include <cerrno>
#include <cstring>

namespace brood::detail {

static_assert(sizeof(decltype(pthread_mutex_t::__data.__lock)) == sizeof(std::uint32_t));

bool LifeMutex::lock_for_life() noexcept {
  static_assert(kOwnerDied == FUTEX_OWNER_DIED && kTidMask == FUTEX_TID_MASK);
  pthread_mutexattr_t attributes;
  int rc = pthread_mutexattr_init(&attributes);
  if (rc == 0) rc = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (rc == 0) rc = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (rc == 0) rc = pthread_mutex_init(&mutex_, &attributes);
  pthread_mutexattr_destroy(&attributes);
  if (rc == 0) rc = pthread_mutex_lock(&mutex_);
  if (rc != 0) {
    errno = rc;
    return false;
  }
  // NOTE: the kernel wakes a sleeper at death only if FUTEX_WAITERS is set. Sleepers watch the word
  // through futex_waitv, which does not set it, so it is set here, once, for life.
  auto* futex = reinterpret_cast<std::atomic<std::uint32_t>*>(&mutex_.__data.__lock);
  futex->fetch_or(FUTEX_WAITERS, std::memory_order_release);  // pairs with load()
  return true;
}

void LifeMutex::release() noexcept { pthread_mutex_unlock(&mutex_); }

}  // namespace brood::detail
