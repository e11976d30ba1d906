#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <brood/memory/tag.hpp>
#include <brood/platform/named_memory.hpp>

namespace brood::detail {

enum class NameState : std::uint8_t { free = 0, claimed = 1, registered = 2, published = 3 };

/// What is known of a name and whose it is, in one word.
struct NameWord {
  NameState state = NameState::free;
  bool dies_with_owner = false;
  std::uint32_t generation = 0;  // 0: the entry was never used
  Tag owner;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{owner.bits()} | std::uint64_t{static_cast<std::uint8_t>(state)} << 28U |
           std::uint64_t{dies_with_owner} << 30U | std::uint64_t{generation} << 32U;
  }
  static constexpr NameWord unpack(std::uint64_t word) {
    return {.state = static_cast<NameState>(word >> 28U & 3U),
            .dies_with_owner = (word >> 30U & 1U) != 0,
            .generation = static_cast<std::uint32_t>(word >> 32U),
            .owner = Tag::from_bits(word)};
  }
};

/// One name that the family must take away. Atomics throughout: entries are read while others fill
/// them anew, and the word tells.
struct alignas(64) NameEntry {
  static constexpr std::size_t kWords = (kLongestMemoryName + 8) / 8;  // NUL-terminated

  std::atomic<std::uint64_t> word;  // NameWord
  std::atomic<std::uint64_t> device;
  std::atomic<std::uint64_t> inode;  // 0: whatever has the name, which nobody else could guess
  std::array<std::atomic<std::uint64_t>, kWords> name;
};
static_assert(sizeof(NameEntry) == 320);

/// The names that must not survive the family: those in /dev/shm, and paths of sockets, which begin
/// with a slash.
///
///     state      | the name                         | next, by whom
///     -----------|----------------------------------|----------------------------------------------
///     free       | -                                | claimed, by a creator
///     claimed    | does not exist                   | registered, by the creator
///     registered | may exist any moment             | published, or free when that failed: creator
///     published  | exists, or was taken away        | free, by whoever takes the name away
///
/// A creator builds the object without a name, registers which file will have the name, and only
/// then publishes it. So a name that exists is registered, wherever its creator was killed; and
/// what is taken away is that file's name, never a stranger's who had it before or got it since.
/// (A socket has its path before anybody can know its file: one that is left between the two is
/// replaced by whoever listens there next.)
///
/// Any process of the family may use it at once. Words change by compare-and-swap from exactly what
/// was read, generation included. Taking away is idempotent: who is killed at it is followed by
/// another. Entries of the dead that have not come to `published` are put right by unlink_of().
class NameRegister {
 public:
  NameRegister(NameEntry* entries, std::size_t count) : entries_(entries), count_(count) {}

  /// An entry as its creator holds it.
  struct Registration {
    std::size_t index = 0;
    std::uint64_t word = 0;  // 0: none
  };

  /// Before the name exists. Throws SharedMemoryFull.
  Registration add(Tag owner, std::string_view name, FileIdentity identity, bool dies_with_owner);
  /// The name exists.
  void confirm(Registration& registration) noexcept;
  /// The name does not exist, or not any more.
  void remove(Registration registration) noexcept;
  /// Somebody took this file's name away, whoever made it.
  void forget(std::string_view name, FileIdentity identity) noexcept;

  /// A member is dead: takes away what dies with it and frees what it left half registered.
  void unlink_of(Tag dead) noexcept;
  /// The family is over: takes all names away.
  void unlink_all() noexcept;

  /// Whose names are registered, at this moment; some several times.
  [[nodiscard]] std::vector<Tag> owners() const;
  /// How many names are registered.
  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] std::size_t capacity() const noexcept { return count_; }

 private:
  struct Content {
    FileIdentity identity;
    std::array<std::uint64_t, NameEntry::kWords> name;
    [[nodiscard]] std::string text() const;
  };
  template <class Visit>
  void for_each(Visit visit) const noexcept;
  /// What the entry says, if its word is `word` all the while.
  bool read(const NameEntry& entry, std::uint64_t word, Content& content) const noexcept;
  void unlink_entry(NameEntry& entry, std::uint64_t word) noexcept;
  /// Frees entries whose names were taken away by others. True if there were any.
  bool reclaim() noexcept;

  NameEntry* entries_;
  std::size_t count_;
};

}  // namespace brood::detail
