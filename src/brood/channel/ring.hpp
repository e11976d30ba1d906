// Layer: channel
// Slots in shared memory through which messages pass, first in, first out. Who uses it includes
// ring_steps.hpp.
// Length: one algorithm, whose steps are argued against each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include <brood/errors.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// What Ring needs of the machine; tests have others, which schedule and kill.
struct RingMachine {
  template <class T>
  using Atom = std::atomic<T>;
  /// How far a lone user may be ahead of the cursor that all share.
  static constexpr std::uint64_t kStride = 16;
  /// But not a consumer of a queue of less than so many messages: the room there is too little.
  static constexpr std::uint64_t kLagsFrom = 128;
  /// Wakes up to `count` sleepers; returns how many there were.
  static int wake(const std::atomic<std::uint32_t>& word, int count) noexcept {
    return futex_wake(word, count);
  }
};

/// How a step of the ring ended.
enum class RingStep : std::uint8_t {
  done,
  wait,    ///< full; or empty, or the next message is being written: sleep on room() or items()
  closed,  ///< nobody may put any more; or the end: nothing is left, and nothing will come
  pended,  ///< the end, if those who hold messages do not die: sleep on items(), but not for long
  grow,    ///< there is room, but no slot: install a larger ring, or wait
  busy,    ///< somebody alive has a slot for a moment that is in the way: look again soon
};

/// What the bytes of a message are. Anything but `none` is the user's.
using RingKind = std::uint8_t;
inline constexpr RingKind kNoMessage = 0;

/// A queue between processes of which any may be killed at any instruction. This class has the
/// steps, none of which waits; see ring_wait.hpp for those that do.
///
/// Who may touch it at once: any number of threads of any number of processes; a view has no state.
/// Where its bytes live: header and rings in memory of the caller, found by offsets from a base
///   that each process has for itself. More rings come as the queue grows.
/// When a holder dies: `recover`, to be called when the family's death epoch has changed: a message
///   half put never was, one half taken is given to another. A stopped process is never robbed.
/// Across fork: nothing special, but parent and child need tags of their own.
/// Memory ordering: what was done before `commit` is visible to who takes the message; what was
///   done before `release` to who gets the slot next. All words are sequentially consistent unless
///   it says otherwise.
/// Errors: `attach` and steps that meet words which cannot be throw DecodeError.
///
///     Ring<> ring = Ring<>::format(base, at, slots_at, {.limit = 4, .first_bits = 6});
///     RingSlot<> slot;
///     if (ring.claim(me, slot) == RingStep::done) {
///       std::memcpy(slot.payload(), "hello", 5);
///       ring.commit(slot);
///     }
///
/// The algorithm, its invariants R1..R6 and its kill windows: docs/design/ring.md.
template <class Machine = RingMachine>
class Ring {
 public:
  template <class T>
  using Atom = typename Machine::template Atom<T>;

  static constexpr std::size_t kPayload = 52;
  static constexpr std::uint32_t kRings = 28;
  static constexpr std::uint32_t kLeastBits = 2;
  static constexpr std::uint32_t kMostBits = 30;
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};

  struct Shape {
    std::uint64_t limit = kUnlimited;  ///< messages at most
    std::uint32_t first_bits = 6;      ///< the first ring has 2 to that power slots
  };

  struct alignas(64) Slot {
    Atom<std::uint64_t> word;
    std::uint16_t size;       // the rest is written by who holds the slot
    RingKind kind;            // last of all, see R4
    std::uint8_t deliveries;  // how often it was taken
    std::byte payload[kPayload];
  };

  /// A slot that the caller holds, having claimed it or taken its message.
  struct Held {
    Slot* slot = nullptr;
    std::uint64_t position = 0;
    std::uint64_t word = 0;  // as the holder set it
  };

  /// What one user of one ring, who puts or takes, remembers of where he was, so that he need not
  /// touch the cursor that all share: that is brought up to date from time to time, and when others
  /// are seen. Private memory; threads may use one together. A fresh one is always right.
  class Hint {
   public:
    Hint() = default;
    Hint(const Hint& other) noexcept : next_(other.next()) {}
    Hint& operator=(const Hint& other) noexcept {
      set(other.next());
      return *this;
    }
    ~Hint() = default;

    /// All positions below it were claimed, or taken.
    // acquire, release: who gets a position from another thread sees the ring that it is in (R3).
    [[nodiscard]] std::uint64_t next() const { return next_.load(std::memory_order_acquire); }
    void set(std::uint64_t next) { next_.store(next, std::memory_order_release); }

   private:
    std::atomic<std::uint64_t> next_{0};
  };

  static constexpr std::size_t header_bytes() { return sizeof(Header); }
  static constexpr std::size_t slots_bytes(std::uint32_t bits) { return sizeof(Slot) << bits; }

  /// Makes an empty queue at offset `at` from `base`, with its first slots at offset `slots_at`;
  /// both aligned to 64 bytes.
  static Ring format(std::byte* base, std::uint64_t at, std::uint64_t slots_at, Shape shape) {
    auto* header = new (base + at) Header{};
    header->limit = shape.limit;
    header->first_bits = shape.first_bits;
    clear_slots(base + slots_at, shape.first_bits);
    header->rings[0].at.store(slots_at);
    for (std::uint32_t k = 1; k <= kRings; ++k) header->rings[k].base.store(kUnknown);
    header->magic = kMagic;
    return Ring(base, header);
  }
  /// The queue that `format` made. The caller has checked that the bytes are there.
  static Ring attach(std::byte* base, std::uint64_t at) {
    auto* header = reinterpret_cast<Header*>(base + at);
    if (header->magic != kMagic || header->first_bits < kLeastBits ||
        header->first_bits > kMostBits) {
      throw DecodeError("there is no queue where one is expected in shared memory");
    }
    return Ring(base, header);
  }
  /// Makes slots of raw memory, for install().
  static void clear_slots(std::byte* memory, std::uint32_t bits) {
    for (std::size_t i = 0; i != std::size_t{1} << bits; ++i) {
      auto* slot = reinterpret_cast<Slot*>(memory) + i;
      new (&slot->word) Atom<std::uint64_t>(0);
      slot->kind = kNoMessage;
    }
  }

  // Putting ----------------------------------------------------------------------------------

  /// Claims one slot if nothing is in the way; false: claim() tells what is.
  [[gnu::always_inline]] [[nodiscard]] bool claim_one(Tag me, Held& out, Hint& hint) const;
  /// Claims up to `out.size()` slots in a row; `got` says how many. `done` if there is one at
  /// least.
  /// `thorough`: false for who looks again soon: `wait` may be said when there is some room, but
  /// not for long; the slots at which consumers work are left alone.
  RingStep claim(Tag me, std::span<Held> out, std::size_t& got, Hint& hint,
                 bool thorough = true) const;
  RingStep claim(Tag me, Held& out) const {
    std::size_t got = 0;
    Hint hint;
    return claim(me, {&out, 1}, got, hint);
  }
  /// The messages in `slots`, claimed in one call, are whole: from here on they are put.
  void commit(std::span<const Held> slots) const;
  [[gnu::always_inline]] void commit(const Held& slot) const;
  /// The message will not be put after all.
  void abandon(const Held& slot) const;

  // Taking -----------------------------------------------------------------------------------

  /// Takes the next message if nothing is in the way; false: take() tells what is.
  [[gnu::always_inline]] [[nodiscard]] bool take_one(Tag me, Held& out, bool lease,
                                                     Hint& hint) const;
  /// Takes up to `out.size()` messages; `lease`: for longer than a moment. As claim().
  RingStep take(Tag me, std::span<Held> out, std::size_t& got, bool lease, Hint& hint) const;
  RingStep take(Tag me, Held& out, bool lease = false) const {
    std::size_t got = 0;
    Hint hint;
    return take(me, {&out, 1}, got, lease, hint);
  }
  /// What take() would find: `done` if there is a message. Nothing is taken, but tombstones in the
  /// way are removed.
  RingStep peek(Tag me) const;
  /// For who was woken on items() and takes nothing: the wake-up goes to another.
  void pass_on(RingStep found) const;
  /// The message is taken, but there is still something of it to be freed; release() follows.
  void finish(Held& slot) const { slot.word = change(slot, kDone); }
  /// The message is taken; the slot is free.
  [[gnu::always_inline]] void release(const Held& slot) const;
  /// It is to be given to another.
  void give_back(const Held& slot) const;

  // All --------------------------------------------------------------------------------------

  /// The ring after the one of `tail`.
  struct Growth {
    std::uint32_t ring;
    std::uint32_t bits;  ///< it has 2 to that power slots
    bool missing;        ///< nobody has installed it
    bool possible;       ///< the queue may be that long
  };
  [[nodiscard]] Growth growth() const;
  /// Installs memory, cleared by clear_slots(), as that ring; stop() follows. False: somebody was
  /// faster, or the queue is closed, and the memory is still the caller's.
  bool install(Growth growth, std::uint64_t slots_at) const;
  /// Makes producers go on in the next ring, or, if that is the end, makes the end effective. False
  /// when somebody alive has the slot in question for a moment.
  bool stop() const;
  /// Ends the queue: whatever is put is before that, or is refused. As stop().
  bool close() const;
  [[nodiscard]] bool closing() const { return header_->closing.load() != 0; }

  /// From now on whoever releases a message wakes those who sleep on items().
  void tell_of_releases() const { header_->joiners.store(1); }

  /// Whether what the dead hold must be looked for: `epoch` is the family's.
  [[nodiscard]] bool must_recover(std::uint32_t epoch) const {
    return header_->seen_epoch.load() != epoch;
  }
  /// Converts what the dead hold. `dead(tag)` is the kernel's word; `clean(held)` frees what a
  /// message names, whose `kind` says what that is, and may be called again for the same if the
  /// caller dies; `epoch` was read before.
  /// `settled()` is asked last: false when somebody is dying and must be looked for again.
  template <class Dead, class Clean, class Settled>
  void recover(Tag me, std::uint32_t epoch, const Dead& dead, const Clean& clean,
               const Settled& settled) const;

  /// Whether the message that was put by `held` has been taken for good.
  [[nodiscard]] static bool gone(const Held& held) {
    return lap_of(held.slot->word.load()) != lap_of(held.word);
  }
  /// How many messages are in it: exact as long as nobody is in the middle of anything.
  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] bool full() const { return !has_room(first_unclaimed(header_->tail.load())); }
  [[nodiscard]] std::uint64_t limit() const { return header_->limit; }
  /// Messages taken or leased, not released, and those that came back.
  struct Holds {
    std::size_t mine = 0;
    std::size_t others = 0;
  };
  [[nodiscard]] Holds holds(Tag me) const;

  /// The offsets of all rings, to be freed with the queue: `visit(slots_at, bits)`.
  template <class Visit>
  void for_each_ring(const Visit& visit) const {
    for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
      visit(header_->rings[k].at.load(), bits_of(k));
    }
  }

  /// All slots, when nobody uses it any more: `visit(held)`.
  template <class Visit>
  void for_each_slot(const Visit& visit) const {
    for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
      for (std::size_t i = 0; i != std::size_t{1} << bits_of(k); ++i) {
        Slot& slot = slots_of(k)[i];
        const std::uint64_t word = slot.word.load();
        visit(Held{&slot, position_of(k, i, lap_of(word)), word});
      }
    }
  }

  /// The words on which consumers and producers sleep.
  [[nodiscard]] Atom<std::uint32_t>& items() const { return header_->items; }
  [[nodiscard]] Atom<std::uint32_t>& room() const { return header_->room; }
  /// To be called before looking once more and sleeping; returns what to sleep on.
  static std::uint32_t announce_sleep(Atom<std::uint32_t>& event);
  static void wake(Atom<std::uint32_t>& event, int count);
  static void wake_all(Atom<std::uint32_t>& event);

 private:
  friend struct RingPeek;  // tests look inside through it

  static constexpr std::uint64_t kMagic = 0x3130'474e'4952'4242;  // "BBRING01"
  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
  static constexpr std::uint64_t kClosedHere = 1;  // no offset: those are aligned
  static constexpr std::uint32_t kWaiting = 1;
  static constexpr std::uint32_t kChange = 2;
  static constexpr std::uint32_t kMark = 1;  // in the tag's place: READY again
  static constexpr int kPrefetch = 8;        // slots ahead

  struct Entry {
    Atom<std::uint64_t> at;    // offset of the slots; 0: none yet; kClosedHere: never
    Atom<std::uint64_t> base;  // its first position; kUnknown: not published yet
  };
  struct alignas(64) Header {
    std::uint64_t magic;
    std::uint64_t limit;
    std::uint32_t first_bits;
    Atom<std::uint32_t> seen_epoch;
    Atom<std::uint32_t> late;
    Atom<std::uint32_t> late_done;
    Atom<std::uint64_t> last_tomb;  // above all positions of tombstones
    Atom<std::uint32_t> closing;    // 1: close() was called; the end itself is a STOP
    Atom<std::uint32_t> newest;     // a hint: the ring of `tail`
    Atom<std::uint32_t> joiners;    // 1: somebody waits until nothing is in it, nor held
    alignas(64) Atom<std::uint64_t> tail;
    Atom<std::uint64_t> head_seen;  // what a producer saw of `head`, and beyond
    alignas(64) Atom<std::uint64_t> head;
    alignas(64) Atom<std::uint32_t> items;
    Atom<std::uint32_t> room;
    alignas(64) Entry rings[kRings + 1];
  };
  static_assert(sizeof(Slot) == 64, "the layout is shared by processes");
  static_assert(Atom<std::uint64_t>::is_always_lock_free &&
                    Atom<std::uint32_t>::is_always_lock_free,
                "a lock inside an atomic would not survive its holder");

  // The word of a slot.
  enum State : std::uint64_t {
    kFree = 0,
    kClaimed = 1,
    kReady = 2,
    kTaking = 3,
    kLeased = 4,
    kDone = 5,
    kTomb = 6
  };
  static constexpr std::uint64_t kStop = std::uint64_t{1} << 31U;
  static constexpr std::uint64_t make(std::uint32_t lap, State state, std::uint32_t tag,
                                      std::uint64_t stop) {
    return std::uint64_t{lap} << 32U | stop | state << Tag::kBits | tag;
  }
  static constexpr State state_of(std::uint64_t word) {
    return static_cast<State>(word >> Tag::kBits & 7U);
  }
  static constexpr std::uint32_t lap_of(std::uint64_t word) {
    return static_cast<std::uint32_t>(word >> 32U);
  }
  static constexpr bool is_taken(State state) {
    return state == kTaking || state == kLeased || state == kDone;
  }
  /// The same lap and STOP with another state.
  static constexpr std::uint64_t with(std::uint64_t word, State state, std::uint32_t tag) {
    return make(lap_of(word), state, tag, word & kStop);
  }
  static constexpr std::uint64_t freed(std::uint64_t word) {
    return make(lap_of(word) + 1, kFree, 0, word & kStop);
  }

  /// Whether the word of the slot in which a position of `lap` would be says that it is not.
  static constexpr bool stops(std::uint64_t word, std::uint32_t lap) {
    if ((word & kStop) == 0) return false;
    return lap_of(word) == lap ? state_of(word) == kFree : lap_of(word) == lap - 1;
  }

  /// Where a position is.
  struct Place {
    std::uint32_t ring;
    std::uint32_t lap;
    Slot* slot;
    Slot* next;  // a slot that will be needed soon
  };

  Ring(std::byte* base, Header* header) : base_(base), header_(header) {}

  [[nodiscard]] std::uint32_t bits_of(std::uint32_t ring) const {
    return header_->first_bits + ring;
  }
  [[nodiscard]] Slot* slots_of(std::uint32_t ring) const {
    return reinterpret_cast<Slot*>(base_ + header_->rings[ring].at.load());
  }
  [[nodiscard]] Place place_of(std::uint64_t position) const;
  [[gnu::always_inline]] [[nodiscard]] Place place_in(std::uint32_t ring, std::uint64_t base,
                                                      std::uint64_t position) const;
  [[gnu::always_inline]] [[nodiscard]] bool is_in_newest(std::uint64_t position,
                                                         Place& place) const;
  [[nodiscard]] std::uint64_t position_of(std::uint32_t ring, std::size_t index,
                                          std::uint32_t lap) const;
  [[nodiscard]] std::uint32_t last_ring() const;
  [[nodiscard]] std::uint64_t first_unclaimed(std::uint64_t position) const;
  [[nodiscard]] std::uint64_t first_untaken(std::uint64_t position) const;
  [[nodiscard]] bool has_room(std::uint64_t position, bool thorough = true) const;
  [[nodiscard]] bool go_beyond(std::uint32_t ring, std::uint64_t position) const;
  bool stop_in(std::uint32_t ring) const;
  /// What is at a position that take() comes to.
  enum class Passing : std::uint8_t { over, again, no };
  Passing pass(Place place, std::uint64_t word) const;
  void tell_of_room(std::uint64_t head, std::uint64_t taken) const;
  void pass_on_room(std::uint64_t next) const;
  void pass_on_item(std::uint64_t next) const;
  /// How far a lone consumer may be ahead of `head`: little where that is much of what may be
  /// inside.
  [[nodiscard]] std::uint64_t head_stride() const {
    return header_->limit >= Machine::kLagsFrom ? Machine::kStride : 1;
  }
  static void count_delivery(Slot& slot) {
    if (slot.deliveries != UINT8_MAX) ++slot.deliveries;
  }
  [[nodiscard]] static bool is_awaited(const Atom<std::uint32_t>& event) {
    return (event.load() & kWaiting) != 0;
  }
  static bool advance(Atom<std::uint64_t>& cursor, std::uint64_t from, std::uint64_t to);
  static void raise(Atom<std::uint64_t>& mark, std::uint64_t to);
  [[nodiscard]] bool has_late() const;
  std::size_t take_late(Tag me, std::span<Held> out, bool lease) const;
  std::uint64_t change(const Held& held, State state) const;
  void tell_of_release() const {
    if (closing() || header_->joiners.load() != 0) wake_all(header_->items);
  }
  [[noreturn]] static void refuse() {
    throw DecodeError("a queue's words in shared memory make no sense: somebody wrote over them");
  }

  std::byte* base_;
  Header* header_;
};

template <class Machine = RingMachine>
using RingSlot = typename Ring<Machine>::Held;

}  // namespace brood::detail
