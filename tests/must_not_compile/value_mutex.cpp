// expect: a thread, lock, condition variable, atomic, future or stream belongs to its process
#include <brood/bind.hpp>

#include <mutex>

struct Guarded {
  std::mutex mutex;
  int value;
};

void refused() { brood::detail::require_sendable<Guarded>(); }
