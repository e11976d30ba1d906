#pragma once
// The least that two processes need to map a function over a vector: memory that they share, into
// which the caller copies the items, and from which it copies the results; three counters, and a
// futex to wake and to wait. Nothing survives a death, nobody is told of an exception, every type
// is one of four bytes. What a pool costs on top of it is the pool's.

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <brood/platform/prefetch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace bench {

// The part that does not depend on the function.
class BareWorkers {
 public:
  static constexpr std::uint32_t kWorkers = 2;
  static constexpr std::uint32_t kChunk = 4096;  // items that a worker takes, and that are copied

  BareWorkers(const BareWorkers&) = delete;
  BareWorkers& operator=(const BareWorkers&) = delete;

  // At most as many items as the constructor was told.
  std::vector<std::uint32_t> map(const std::vector<std::uint32_t>& items);

 protected:
  using Run = void (*)(const std::uint32_t* items, std::uint32_t* results, std::uint32_t count);

  BareWorkers(std::uint32_t most, Run run);  // forks; throws std::system_error
  ~BareWorkers();

 private:
  struct alignas(64) Counter {
    std::atomic<std::uint32_t> value;
  };
  struct Shared {
    Counter round;   // grows when there is work: workers sleep on it
    Counter count;   // items of the round
    Counter copied;  // of them are there
    Counter taken;   // by workers
    Counter done;    // workers that found nothing more: the caller sleeps on it
  };

  [[noreturn]] void work(Run run);

  std::size_t bytes_;
  Shared* shared_ = nullptr;
  std::uint32_t* items_ = nullptr;
  std::uint32_t* results_ = nullptr;
  std::array<pid_t, kWorkers> pids_{};
};

template <class Function>
class BareMap : public BareWorkers {
 public:
  explicit BareMap(std::uint32_t most) : BareWorkers(most, run) {}

 private:
  static void run(const std::uint32_t* items, std::uint32_t* results, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      // What the caller read last time is taken out of its processor's cache early.
      if (i % 16 == 0) brood::detail::prefetch_to_write(results + i + 256);
      results[i] = Function{}(items[i]);
    }
  }
};

}  // namespace bench
