// expect: a thread, lock, condition variable, atomic, future or stream belongs to its process
#include <brood/bind.hpp>

#include <thread>
#include <vector>

void refused() { brood::detail::require_sendable<std::vector<std::thread>>(); }
