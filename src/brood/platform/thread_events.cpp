#include <brood/platform/thread_events.hpp>

#include <pthread.h>

#include <brood/errors.hpp>

namespace brood::detail {

static_assert(sizeof(pthread_key_t) == sizeof(unsigned));

AtThreadEnd::AtThreadEnd(void (*end)(void*)) {
  pthread_key_t key = 0;
  const int error = pthread_key_create(&key, end);
  if (error != 0) throw SystemError("pthread_key_create", "", error);
  key_ = key;
}

void AtThreadEnd::arm(void* argument) const noexcept { pthread_setspecific(key_, argument); }
void* AtThreadEnd::argument() const noexcept { return pthread_getspecific(key_); }

void on_fork(void (*before)(), void (*parent)(), void (*child)()) noexcept {
  pthread_atfork(before, parent, child);
}

}  // namespace brood::detail
