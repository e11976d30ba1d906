// Layer: platform
// Names of signals, for messages.
#pragma once

#include <string>

namespace brood::detail {

/// "SIGSEGV" for 11, "SIGRTMIN+3" for a real-time signal, "signal 99" for what is none.
std::string signal_name(int signal);

}  // namespace brood::detail
