#pragma once

#include <string>

namespace brood::detail {

/// From now on SIGTERM and SIGINT call `stop`, in a signal handler: it may do what those may. Not
/// in programs that are executed.
void on_stop_signals(void (*stop)());

/// What this machine calls itself; "localhost" if it does not say.
std::string host_name();

}  // namespace brood::detail
