#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <brood/memory/handle.hpp>
#include <brood/memory/heap.hpp>
#include <brood/memory/member.hpp>
#include <brood/memory/object_kind.hpp>
#include <brood/sync/lock_word.hpp>

namespace brood::detail {

/// A word of a container. Loads are relaxed: who has the lock reads and writes, and the lock
/// orders. Stores are release, each in the order in which it is written here: whoever takes over
/// from the dead, which is ordered by the lock too, must find no later one without an earlier one.
using SharedWord = std::atomic<std::uint64_t>;

/// How the records of a container are laid out.
struct RecordLayout {
  std::uint8_t key_words = 0;
  std::uint8_t value_words = 0;
  bool key_in_cell = false;
  bool value_in_cell = false;
  bool hashed = false;  // a word in front says {live, hash}, and there is an index

  [[nodiscard]] constexpr std::size_t key_at() const { return hashed ? 1 : 0; }
  [[nodiscard]] constexpr std::size_t value_at() const { return key_at() + key_words; }
  [[nodiscard]] constexpr std::size_t stride() const { return value_at() + value_words; }
  [[nodiscard]] constexpr bool has_cells() const { return key_in_cell || value_in_cell; }
  [[nodiscard]] constexpr std::uint32_t pack() const {
    return key_words | std::uint32_t{value_words} << 8U | std::uint32_t{key_in_cell} << 16U |
           std::uint32_t{value_in_cell} << 17U | std::uint32_t{hashed} << 18U | 1U << 31U;
  }
  static constexpr RecordLayout unpack(std::uint32_t word) {
    return {.key_words = static_cast<std::uint8_t>(word),
            .value_words = static_cast<std::uint8_t>(word >> 8U),
            .key_in_cell = (word >> 16U & 1U) != 0,
            .value_in_cell = (word >> 17U & 1U) != 0,
            .hashed = (word >> 18U & 1U) != 0};
  }
};

/// Bytes of any length as three words of a record: up to 23 in place, behind their number; more in
/// a block.
struct Cell {
  static constexpr std::size_t kWords = 3;
  static constexpr std::size_t kInPlace = 23;
  static constexpr unsigned char kInBlock = 255;
  using Words = std::array<std::uint64_t, kWords>;

  static Words in_place(std::span<const std::byte> bytes);
  static Words in_block(std::uint64_t at, std::uint64_t length) {
    Words words{0, at, length};
    *reinterpret_cast<unsigned char*>(words.data()) = kInBlock;
    return words;
  }
  static bool is_in_block(const std::uint64_t& first) {
    return *reinterpret_cast<const unsigned char*>(&first) == kInBlock;
  }
};

/// What stands in front of the bytes of a cell in its block; behind them are ObjectLinks.
struct CellHead {
  std::uint64_t links;
  std::uint64_t bytes;

  static constexpr std::size_t links_at(std::size_t bytes) {
    return sizeof(CellHead) +
           (bytes + sizeof(ObjectLink<>) - 1) / sizeof(ObjectLink<>) * sizeof(ObjectLink<>);
  }
};

/// A key or a value on its way into a record: its words, and the block that they name, which is the
/// caller's until it is given to the container.
struct Part {
  static constexpr std::size_t kMostWords = 8;
  std::array<std::uint64_t, kMostWords> words;  // as many as the layout says
  Block block = {};
};

/// What a container's object says: all of it lies in the descriptor.
struct RecordsHeader {
  LockWord<> lock;
  std::uint32_t layout;  // RecordLayout; 0: never finished
  SharedWord body;       // offset, 0: none
  SharedWord fresh;      // one that is to become it
  SharedWord stale;      // one that was it
  std::array<std::uint64_t, 4> reserved;
};
static_assert(sizeof(RecordsHeader) == 64);

/// How many records the first body has, and the largest empty one that is kept.
inline constexpr std::uint64_t kFirstRecords = 8;
inline constexpr std::uint64_t kKeptRecords = 1024;

/// What stands in front of the records of a body.
struct RecordsBody {
  std::uint64_t capacity;    // records
  std::uint64_t index_bits;  // of a hashed one; places = 2^bits
  SharedWord counts;         // {garbage behind the end 32, records 32}
  SharedWord live;           // derived: records that are not dead
  SharedWord top;            // derived: no record from here on is live; may be too high
  SharedWord doomed;         // 1 + the record whose blocks are to be freed once it is dead
  SharedWord stirred;        // 1: what is derived may be wrong
  // A change of several words, done from here.
  SharedWord change;  // how many words; 0: none
  SharedWord target;  // its first word, counted from the first record
  SharedWord old_block;
  SharedWord new_block;
  std::array<SharedWord, Part::kMostWords> words;
  std::array<std::uint64_t, 5> reserved;

  static constexpr std::uint64_t pack(std::uint64_t count, std::uint64_t tail) {
    return tail << 32U | count;
  }
  static constexpr std::uint64_t kMost = 0xffff'fff0;
};
static_assert(sizeof(RecordsBody) == 192);

/// The records of a container, held: has the lock from its construction to its end, and whatever a
/// dead holder left has been settled. What Dict, List, Set and Namespace do, they do through it.
///
/// Who may touch it at once: one thread, briefly; it waits for the lock, without a limit.
/// Where its bytes live: the header in the object's descriptor, all else in blocks of the heap.
/// When the holder dies: the next one finds what was last committed. See docs/design/dict.md.
/// Across fork: nothing; handles as ever.
/// Memory ordering: as the lock's.
/// Errors: StateError when this thread holds them already; DecodeError when the bytes make no
/// sense;
///   SharedMemoryFull where something is made: then nothing has changed.
///
///     HeldRecords records(handle, layout);
///     records.size();
class HeldRecords {
 public:
  /// A new, empty one. Throws SharedMemoryFull.
  static Handle create(ObjectType type, RecordLayout layout);
  /// Throws DecodeError unless the object's records are laid out so.
  static void require_layout(const Handle& handle, RecordLayout layout);

  HeldRecords(const Handle& handle, RecordLayout layout)
      : layout_(layout),
        member_(&handle.member()),
        ref_(handle.ref()),
        header_(reinterpret_cast<RecordsHeader*>(handle.payload().data())) {
    LockWord<>& lock = header_->lock;
    if (lock.held_by_self()) [[unlikely]]
      throw_own();
    lock.lock();
    if (const std::uint64_t at = load(header_->body); at != 0) open_or_unlock(at);
    if (lock.owner_died()) [[unlikely]]
      settle();
  }
  HeldRecords(const HeldRecords&) = delete;
  HeldRecords& operator=(const HeldRecords&) = delete;
  ~HeldRecords() {
    if (locked_) unlock();
  }

  [[nodiscard]] Heap& heap() const { return member_->heap(); }
  /// Records, dead ones too.
  [[nodiscard]] std::uint64_t count() const { return body_ == nullptr ? 0 : low(counts()); }

  // Of a value in a record.
  using Word = SharedWord;
  [[nodiscard]] Word* record(std::uint64_t i) const { return records_ + i * layout_.stride(); }
  /// The bytes of a cell; those in place are copied to `place`. Throws DecodeError.
  [[nodiscard]] std::span<const std::byte> bytes_of(const Word* cell, Cell::Words& place) const;
  /// Sets the words at `at`, of a cell or not, as one step.
  void assign(Word* at, std::size_t words, bool in_cell, const Part& part);

  /// At the end of an object: see Objects::at_end.
  static void at_end(ObjectRef ref, std::span<std::byte> payload) noexcept;

 protected:
  static constexpr std::uint64_t low(std::uint64_t counts) { return counts & 0xffff'ffff; }
  static constexpr std::uint64_t high(std::uint64_t counts) { return counts >> 32U; }
  [[nodiscard]] std::uint64_t counts() const {
    return body_->counts.load(std::memory_order_relaxed);
  }
  void set_counts(std::uint64_t count, std::uint64_t tail) {
    store(body_->counts, RecordsBody::pack(count, tail));
  }
  static std::uint64_t load(const Word& word) { return word.load(std::memory_order_relaxed); }
  static void store(Word& word, std::uint64_t value) {
    word.store(value, std::memory_order_release);
  }

  using Place = std::atomic<std::uint32_t>;
  [[nodiscard]] static Place* index_of(RecordsBody* body, RecordLayout layout) {
    return reinterpret_cast<Place*>(reinterpret_cast<Word*>(body + 1) +
                                    body->capacity * layout.stride());
  }
  [[nodiscard]] static std::size_t bytes_of(std::uint64_t capacity, std::uint64_t index_bits,
                                            RecordLayout layout) {
    return sizeof(RecordsBody) + capacity * layout.stride() * sizeof(Word) +
           (layout.hashed ? sizeof(Place) << index_bits : 0);
  }
  [[nodiscard]] std::uint32_t place(std::uint64_t i) const {
    return index_[i].load(std::memory_order_relaxed);  // see SharedWord, here and below
  }
  void set_place(std::uint64_t i, std::uint64_t record) {
    index_[i].store(static_cast<std::uint32_t>(record), std::memory_order_release);
  }
  static constexpr std::uint64_t kLive = std::uint64_t{1} << 63U;
  [[nodiscard]] bool is_live(std::uint64_t i) const {
    return !layout_.hashed || (load(*record(i)) & kLive) != 0;
  }

  /// A body of this process's, without records. Throws SharedMemoryFull.
  [[nodiscard]] Block make_body(std::uint64_t capacity, std::uint64_t index_bits) const;
  /// It becomes the container's, in the place of the one that was; empty: none does.
  void install(Block body);
  static void copy(const Word* from, Word* to, std::size_t words) {
    for (std::size_t i = 0; i != words; ++i) store(to[i], load(from[i]));
  }
  /// Puts the words of a part where nobody looks yet.
  static void put(Word* at, std::size_t words, const Part& part) {
    for (std::size_t i = 0; i != words; ++i) store(at[i], part.words[i]);
  }
  /// What the part names is the container's from here on. Something that settle() looks at names
  /// it.
  void give(const Part& part);
  void free_cells(std::uint64_t i) noexcept;
  /// Frees what [count, count + tail) names.
  void clear_tail() noexcept;
  /// Index, live and top from the records.
  void derive() noexcept;
  void settle() noexcept;

  RecordsBody* body_ = nullptr;  // null: there are none
  Word* records_ = nullptr;
  Place* index_ = nullptr;
  RecordLayout layout_;

 private:
  HeldRecords(Member& member, ObjectRef ref, RecordsHeader& header)
      : layout_(RecordLayout::unpack(header.layout)),
        member_(&member),
        ref_(ref),
        header_(&header),
        locked_(false) {}

  [[noreturn]] static void throw_own();
  /// Finds the body. Throws DecodeError, and then has given the lock back.
  void open_or_unlock(std::uint64_t at);
  void unlock() noexcept;
  void open_at(std::uint64_t at);
  [[nodiscard]] SharedOwner owner() const { return SharedOwner{ref_.index + 1}; }
  void settle_bodies() noexcept;
  void settle_change() noexcept;
  void free_block(std::uint64_t at) noexcept;

  Member* member_;
  ObjectRef ref_;
  RecordsHeader* header_;
  bool locked_ = true;
};

/// What must be known before an object of one of these kinds ends.
struct RecordsKinds {
  static const bool kKnown;
};

}  // namespace brood::detail
