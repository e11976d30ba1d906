// Layer: platform
#include <brood/platform/signal_name.hpp>

#include <csignal>
#include <cstring>

namespace brood::detail {

std::string signal_name(int signal) {
  // Real-time numbers are not constants: the C library keeps the first few for itself.
  if (signal >= SIGRTMIN && signal <= SIGRTMAX) {
    const int offset = signal - SIGRTMIN;
    return offset == 0 ? "SIGRTMIN" : "SIGRTMIN+" + std::to_string(offset);
  }
  if (const char* name = ::sigabbrev_np(signal)) return std::string("SIG") + name;
  return "signal " + std::to_string(signal);
}

}  // namespace brood::detail
