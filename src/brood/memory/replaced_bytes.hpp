#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <brood/memory/tag.hpp>

namespace brood::detail {

/// A few bytes in shared memory, at most `kMost`: read without a lock, replaced by one instruction.
///
/// Two places; the word says which one counts, whether somebody writes to the other, and who. A
/// writer that dies leaves the old bytes and its tag, which the next writer replaces by its own.
/// Who is killed before the commit has changed nothing; see docs/design/connections.md.
template <std::size_t kMost>
class ReplacedBytes {
 public:
  static constexpr std::size_t kMostBytes = kMost;
  static_assert(kMost % sizeof(std::uint64_t) == 0);

  /// Before anybody else can see it.
  void begin(std::span<const std::byte> key) { put(places_[0], as_text(key)); }

  /// Another number for each that was written: what read() gives afterwards is at least as new.
  [[nodiscard]] std::uint64_t generation() const {
    return Word::from_bits(word_.load()).generation();
  }

  [[nodiscard]] std::string read() const {
    for (;;) {
      const Word before = Word::from_bits(word_.load());
      std::string key = get(places_[before.place()]);
      // SUBTLE: the place that counts is written to only after another has come to count, and gone.
      if (Word::from_bits(word_.load()).generation() == before.generation()) return key;
    }
  }

  /// False if somebody who is not `dead` writes just now. The key has at most kMostBytes.
  template <class Dead>
  [[nodiscard]] bool try_write(std::string_view key, Tag self, Dead dead) {
    std::uint64_t bits = word_.load();
    Word word = Word::from_bits(bits);
    if (const Tag writer = word.writer(); !writer.none() && !dead(writer)) return false;
    const std::uint64_t mine = Word(word.generation(), self).bits();
    if (!word_.compare_exchange_strong(bits, mine)) return false;
    put(places_[1 - word.place()], key);
    // The commit. Nobody else changes the word while the tag in it is a living one's.
    word_.store(Word(word.generation() + 1, Tag()).bits());
    return true;
  }

 private:
  /// The lowest bit of the generation says which place counts.
  class Word {
   public:
    Word(std::uint64_t generation, Tag writer) : generation_(generation), writer_(writer) {}
    static Word from_bits(std::uint64_t bits) {
      return {bits >> 32U, Tag::from_bits(static_cast<std::uint32_t>(bits))};
    }
    [[nodiscard]] std::uint64_t bits() const { return generation_ << 32U | writer_.bits(); }
    [[nodiscard]] std::uint64_t generation() const { return generation_; }
    [[nodiscard]] std::size_t place() const { return generation_ & 1U; }
    [[nodiscard]] Tag writer() const { return writer_; }

   private:
    std::uint64_t generation_;
    Tag writer_;
  };

  // Atomics, as a reader may look while a later writer writes; what it saw then is dropped.
  struct Place {
    std::atomic<std::uint64_t> bytes;
    std::array<std::atomic<std::uint64_t>, kMostBytes / sizeof(std::uint64_t)> words;
  };

  static std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  static void put(Place& place, std::string_view key) {
    std::array<std::uint64_t, kMostBytes / sizeof(std::uint64_t)> words{};
    if (!key.empty()) std::memcpy(words.data(), key.data(), key.size());
    place.bytes.store(key.size());
    for (std::size_t i = 0; i < words.size(); ++i) place.words[i].store(words[i]);
  }
  static std::string get(const Place& place) {
    std::array<std::uint64_t, kMostBytes / sizeof(std::uint64_t)> words{};
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = place.words[i].load();
    // Others may write anything to shared memory.
    const std::size_t bytes = std::min<std::uint64_t>(place.bytes.load(), kMostBytes);
    return {reinterpret_cast<const char*>(words.data()), bytes};
  }

  std::atomic<std::uint64_t> word_;
  std::array<Place, 2> places_;
};

/// The family's authkey.
using AuthKeyCell = ReplacedBytes<256>;
static_assert(sizeof(AuthKeyCell) == 8 + 2 * (8 + AuthKeyCell::kMostBytes));

}  // namespace brood::detail
