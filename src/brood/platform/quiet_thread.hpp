#pragma once

#include <functional>
#include <thread>

namespace brood::detail {

/// A thread of the library's own: signals of the process never interrupt it, other threads get
/// them. Throws SystemError.
std::thread start_quiet_thread(std::function<void()> body);

}  // namespace brood::detail
