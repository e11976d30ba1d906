#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <brood/errors.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/life_mutex.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {

/// The life word of one participant; see LifeMutex for why nothing else shares its page.
struct alignas(64) Life {
  LifeMutex mutex;
};
static_assert(sizeof(Life) == 64);

/// The states of a record and what may happen to it:
///
///     state      | who reads it as his   | next, by whom
///     -----------|-----------------------|---------------------------------------------------
///     free       | nobody                | reserved, by who wants to start a process
///     reserved   | the holder: starter   | live, by the child; ended or free, by the reaper
///     live       | the child             | ended, by who learns that the child is gone
///     ended      | the holder            | free, by the holder, or the watchdog when it is gone
enum class RecordState : std::uint8_t { free = 0, reserved = 1, live = 2, ended = 3 };

/// State, generation and holder of a record, in one word.
struct RecordWord {
  RecordState state = RecordState::free;
  std::uint32_t generation = 0;
  Tag holder;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{holder.bits()} | std::uint64_t{static_cast<std::uint8_t>(state)} << 28U |
           std::uint64_t{generation} << 32U;
  }
  static constexpr RecordWord unpack(std::uint64_t word) {
    return {.state = static_cast<RecordState>(word >> 28U & 3U),
            .generation = static_cast<std::uint32_t>(word >> 32U) & Tag::kMaxGeneration,
            .holder = Tag::from_bits(word)};
  }
};

/// What a process is to the family.
enum class Role : std::uint32_t { process, worker, watchdog, root };

/// One participant: a process of the family, from before it is started until its end was noted.
struct alignas(64) Record {
  static constexpr std::size_t kNameBytes = 64;

  std::atomic<std::uint64_t> word;      // RecordWord
  std::atomic<std::uint32_t> event;     // changes with the word; to sleep on
  std::atomic<std::int32_t> pid;        // 0 until it is known
  std::atomic<std::int32_t> exit_code;  // written before the word says `ended`
  std::atomic<std::int32_t> own_code;   // what the process itself said before it exited, or kNoCode
  std::atomic<std::uint32_t> started;   // it has read what it shall run: start_at is free again
  std::atomic<std::uint32_t> gone;      // the watchdog has seen it end, whatever the word says
  std::uint32_t role;                   // Role
  std::uint32_t parent;                 // Tag of the starter
  std::uint32_t dies_with_parent;       // 1 for daemons and pool workers
  std::atomic<std::uint32_t> objects;   // ObjectSlot: whose bits stand in the table of objects
  std::uint64_t start_at;               // offset and size of what it shall run
  std::uint64_t start_bytes;
  std::array<char, kNameBytes> name;  // NUL-terminated
  // What it had used, by the process that reaped it, before the end is noted; 0: not known.
  std::atomic<std::uint64_t> peak_bytes;
  std::atomic<std::uint64_t> user_microseconds;
  std::atomic<std::uint64_t> system_microseconds;
  // Of a pool's worker, for who looks from outside: the pool's place (0: none) and its slot there.
  std::atomic<std::uint64_t> pool_at;
  std::atomic<std::uint32_t> pool_slot;

  static constexpr std::int32_t kNoCode = INT32_MIN;
};
static_assert(sizeof(Record) == 192);

/// What a thread's slot is in. Only `taken` may be alive:
///
///     state    | its life word is       | next, by whom
///     ---------|------------------------|---------------------------------------------------------
///     free     | nobody's               | claimed, by a thread that wants it
///     claimed  | about to be claimant's | taken or free, by the claimant; claimed, once it is dead
///     taken    | the thread's           | free, by the thread; claimed, once it is dead
enum class ThreadState : std::uint8_t { free = 0, claimed = 1, taken = 2 };

/// State and generation of a thread's slot, and its process, in one word.
struct ThreadWord {
  ThreadState state = ThreadState::free;
  std::uint32_t generation = 0;
  Tag process;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{process.bits()} |
           std::uint64_t{static_cast<std::uint8_t>(state)} << Tag::kBits |
           std::uint64_t{generation} << 32U;
  }
  static constexpr ThreadWord unpack(std::uint64_t word) {
    return {.state = static_cast<ThreadState>(word >> Tag::kBits & 3U),
            .generation = static_cast<std::uint32_t>(word >> 32U) & Tag::kMaxGeneration,
            .process = Tag::from_bits(word)};
  }
};

/// The slots of threads; zero bytes are an empty table.
struct alignas(64) ThreadTable {
  std::atomic<std::uint32_t> next;  // where the next search begins: slots are reused in turn
  alignas(64) std::array<std::atomic<std::uint64_t>, Tag::kThreadSlots> words;  // ThreadWord
};

/// The participants of a family: who they are, who lives, how they ended.
///
/// Any process may use it at once. Whether a participant lives is a fact of the kernel (Life), not
/// a belief; the record's word says what was noted of it. A record is taken and given back by one
/// compare-and-swap of its word. Who is killed in between leaves a record whose holder is dead,
/// which the watchdog frees.
///
/// Threads other than the one that joined for its process have a slot and a life word of their own,
/// and no record. Who is killed while it takes one leaves a slot whose claimant or owner is dead,
/// which the next one that looks for a slot takes over.
class Registry {
 public:
  static constexpr std::size_t kSlots = Tag::kProcessSlots;

  /// `lives`: one for each slot that is used, those of processes first. Without `threads` there are
  /// processes only.
  Registry(Life* lives, Record* records, ThreadTable* threads = nullptr)
      : lives_(lives), records_(records), threads_(threads) {}

  /// Takes a free record for a process that `holder` will start; its fields are reset. Not one of
  /// which the last process may still be found in shared objects, unless there is no other. Throws
  /// SharedMemoryFull when all are taken.
  Tag reserve(Tag holder, Role role, std::string_view name);
  /// The child itself: from now on its life is watched. False when it is not expected any more (its
  /// starter died, or gave up). Throws SystemError.
  bool join(Tag tag, int pid);
  /// Notes the end of a process; the first to note it wins. True for that one.
  bool note_ended(Tag tag, int exit_code) noexcept;
  /// Before that: what it had used. By the process that reaped it.
  void note_usage(Tag tag, const ResourceUsage& usage) noexcept;
  /// Of an ended process; nullopt where nobody could know.
  [[nodiscard]] std::optional<ResourceUsage> usage(Tag tag) const noexcept;
  /// The holder does not need the record any more: of an ended process, or of one that was never
  /// started.
  void free(Tag tag) noexcept;

  /// As free() for one that nobody has joined as; false if somebody has.
  bool withdraw(Tag tag) noexcept;

  /// The word of the record, if it still is of this generation.
  [[nodiscard]] std::optional<RecordWord> word(Tag tag) const noexcept;
  [[nodiscard]] RecordState state(Tag tag) const noexcept;
  /// Whether the thread runs (of a process: the one that joined): the kernel's word. Two loads.
  /// False for ever once it is over; false also before it joined.
  [[nodiscard]] bool alive(Tag tag) const noexcept;
  /// Whether no thread of it runs any more, nor will: what it was at may be taken over. Asks the
  /// kernel about the whole process where alive() knows of its first thread only.
  [[nodiscard]] bool over(Tag tag) const noexcept;
  /// The process of a member that lives (not of the root, which may have joined by any thread); not
  /// valid when it has ended. Found by the kernel's word: in a record that somebody wrote over, the
  /// id may be a stranger's, who is not to be signalled. Throws SystemError.
  [[nodiscard]] ProcessHandle open(Tag tag) const;
  /// Not known to be over: reserved and about to be started, or alive.
  [[nodiscard]] bool expected(Tag tag) const noexcept;

  /// A slot and a life word for the calling thread of `process`. Throws SharedMemoryFull when all
  /// are taken by threads that live.
  Tag take_thread(Tag process);
  /// The thread that took it does not need it any more: from here on the tag is a dead one's.
  void give_back_thread(Tag tag) noexcept;
  /// The process that a thread belongs to; the tag itself if it is a process's.
  [[nodiscard]] Tag process_of(Tag tag) const noexcept;

  [[nodiscard]] Record& record(Tag tag) const noexcept {
    return records_[tag.slot() % Tag::kProcessSlots];  // whatever the bits are: one of the table
  }
  [[nodiscard]] const LifeMutex& life(Tag tag) const noexcept { return lives_[tag.slot()].mutex; }
  /// Lets go of the life word, in order.
  void leave(Tag tag) noexcept;
  [[nodiscard]] std::string name(Tag tag) const;

  /// Calls `visit(tag)` for every process that may still be found in shared objects.
  template <class Visit>
  void for_each_in_objects(Visit visit) const {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      if (RecordWord::unpack(records_[slot].word.load()).generation == 0) break;
      const Tag tag = Tag::from_bits(records_[slot].objects.load());
      if (!tag.none()) visit(tag);
    }
  }

  /// Calls `visit(thread, process)` for every slot that a thread has taken.
  template <class Visit>
  void for_each_thread(Visit visit) const {
    if (threads_ == nullptr) return;
    for (std::uint32_t i = 0; i < Tag::kThreadSlots; ++i) {
      const ThreadWord word = ThreadWord::unpack(threads_->words[i].load());
      if (word.state == ThreadState::taken) {
        visit(Tag(Tag::kProcessSlots + i, word.generation), word.process);
      }
    }
  }

  /// Calls `visit(tag, word)` for every record that is not free.
  template <class Visit>
  void for_each(Visit visit) const {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      // The records after the first that was never used are untouched pages.
      const RecordWord word = RecordWord::unpack(records_[slot].word.load());
      if (word.generation == 0) break;
      if (word.state != RecordState::free) visit(Tag(slot, word.generation), word);
    }
  }

 private:
  bool change(Tag tag, RecordState from, RecordState to) noexcept;
  [[nodiscard]] bool thread_alive(Tag tag) const noexcept;

  Life* lives_;
  Record* records_;
  ThreadTable* threads_;
};

}  // namespace brood::detail
