#include <brood/platform/life_mutex.hpp>

#include <linux/futex.h>

#include <cerrno>

namespace brood::detail {

static_assert(sizeof(decltype(pthread_mutex_t::__data.__lock)) == sizeof(std::uint32_t));

bool LifeMutex::lock_for_life() noexcept {
  static_assert(kOwnerDied == FUTEX_OWNER_DIED && kTidMask == FUTEX_TID_MASK);
  pthread_mutexattr_t attributes;
  int rc = pthread_mutexattr_init(&attributes);
  if (rc == 0) rc = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (rc == 0) rc = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_t fresh;
  if (rc == 0) rc = pthread_mutex_init(&fresh, &attributes);
  pthread_mutexattr_destroy(&attributes);
  // SUBTLE: never initialised as a whole: it may be somebody's at this moment. Zero bytes differ
  // from a fresh mutex by its kind only, and all who try store the same kind.
  if (rc == 0) {
    std::atomic_ref(mutex_.__data.__kind).store(fresh.__data.__kind, std::memory_order_relaxed);
    rc = pthread_mutex_trylock(&mutex_);
  }
  if (rc == EOWNERDEAD) rc = pthread_mutex_consistent(&mutex_);
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
