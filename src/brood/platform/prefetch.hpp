#pragma once

namespace brood::detail {

/// Asks the processor for the cache line of `address`, to be written soon: taken away from others
/// before it is needed. Does nothing else, for any address.
inline void prefetch_to_write(const void* address) noexcept {
#if defined(__x86_64__)
  // __builtin_prefetch(address, 1) asks for a copy to read unless the compiler may assume
  // PREFETCHW, which the baseline of x86-64 has not; processors without it take it for a nop.
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
  __builtin_prefetch(address, 1);
#endif
}

}  // namespace brood::detail
