#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <brood/sync/lock_word.hpp>

namespace brood::detail {

/// A trivially copyable value in shared memory that is changed as a whole, under its lock: two
/// copies, and a number that says which of them counts.
///
/// Who may touch it at once: any threads of the family; write() needs the lock, read() does not and
/// gives what was last committed, never a mixture. Where its bytes live: where it is placed; zero
/// bytes are one whose value is zero bytes. When a writer dies: before the commit, which is one
/// store, the value is what it was. Across fork: nothing. Memory ordering: what was done before a
/// commit is visible to who reads what it committed.
///
///     committed.lock.lock();
///     committed.write(next);
///     committed.lock.unlock();
template <class T>
struct Committed {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr std::size_t kWords = (sizeof(T) + 7) / 8;

  LockWord<> lock;
  std::uint32_t reserved = 0;
  std::atomic<std::uint64_t> version{0};
  std::array<std::array<std::atomic<std::uint64_t>, kWords>, 2> copies{};

  [[nodiscard]] T read() const {
    std::array<std::uint64_t, kWords> words;
    for (;;) {
      // acquire: pairs with the release in write(): the copy is there.
      const std::uint64_t now = version.load(std::memory_order_acquire);
      const auto& copy = copies[now % 2];
      for (std::size_t i = 0; i != kWords; ++i) words[i] = copy[i].load(std::memory_order_relaxed);
      // SUBTLE: the copy is overwritten only after the next commit. If that is seen not to have
      // happened, after the copy was read (the fence), nobody wrote to it meanwhile.
      std::atomic_thread_fence(std::memory_order_acquire);
      if (version.load(std::memory_order_relaxed) == now) break;
    }
    alignas(T) std::array<std::byte, kWords * 8> bytes;
    std::memcpy(bytes.data(), words.data(), bytes.size());
    return *reinterpret_cast<const T*>(bytes.data());
  }

  void write(const T& value) {
    std::array<std::uint64_t, kWords> words{};
    std::memcpy(words.data(), &value, sizeof(T));
    const std::uint64_t now =
        version.load(std::memory_order_relaxed);  // who has the lock writes it
    // Pairs with the fence in read(): who sees one of these words sees the last commit.
    std::atomic_thread_fence(std::memory_order_release);
    auto& copy = copies[(now + 1) % 2];
    for (std::size_t i = 0; i != kWords; ++i) copy[i].store(words[i], std::memory_order_relaxed);
    version.store(now + 1, std::memory_order_release);  // the commit; pairs with read()
  }
};

}  // namespace brood::detail
