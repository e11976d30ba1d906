// Layer: memory
// The shared half of an object: that it is there, and which processes hold it. The algorithm, apart
// from where it runs; Objects is the one that processes use. See docs/design/objects.md.
// Length: one algorithm, whose steps are argued against each other.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <brood/memory/tag.hpp>

namespace brood::detail {

/// Names an object in the family, for ever: a place and how often it was used before. What a handle
/// is as bytes.
struct ObjectRef {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  friend constexpr auto operator<=>(const ObjectRef&, const ObjectRef&) = default;
};
static_assert(sizeof(ObjectRef) == 8, "it lies in messages");

/// What an object is, so that bytes that name another one are noticed: its class, and a number for
/// the type of its contents.
struct ObjectType {
  std::uint32_t kind = 0;
  std::uint32_t contents = 0;
  friend constexpr bool operator==(const ObjectType&, const ObjectType&) = default;
};

/// The states of a descriptor; in parentheses, who alone may write to it:
///
///     state        | is an object | next, by whom
///     -------------|--------------|---------------------------------------------------------
///     free         | no           | making(me), by who makes an object
///     making(tag)  | not yet      | live or free, by `tag`; making(me), when `tag` is dead
///     live         | yes          | changing(me), by who adds or removes a holder
///     changing(tag)| yes, if held | live or free, by `tag`; changing(me), when `tag` is dead
enum class ObjectState : std::uint8_t { free = 0, making = 1, live = 2, changing = 3 };

/// Generation, state and owner of a descriptor, in one word.
struct ObjectWord {
  std::uint32_t generation = 0;
  ObjectState state = ObjectState::free;
  Tag tag;

  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{generation} << 32U |
           std::uint64_t{static_cast<std::uint8_t>(state)} << Tag::kBits | tag.bits();
  }
  static constexpr ObjectWord unpack(std::uint64_t word) {
    return {.generation = static_cast<std::uint32_t>(word >> 32U),
            .state = static_cast<ObjectState>(word >> Tag::kBits & 3U),
            .tag = Tag::from_bits(word)};
  }
  /// Somebody is at it.
  [[nodiscard]] constexpr bool busy() const {
    return state == ObjectState::making || state == ObjectState::changing;
  }
};

/// A hold on an object by memory and not by a process: in a message, say, that names it. Whoever
/// has that memory makes and ends the hold, by ObjectTable::link and unlink.
template <template <class> class Atom = std::atomic>
struct ObjectLink {
  ObjectRef ref;
  Atom<std::uint32_t> held;  // 1: counted; written by who has the object's word
  std::uint32_t reserved;
};
static_assert(sizeof(ObjectLink<>) == 16, "it lies in messages");

/// A descriptor: 256 bytes that are never anything else. While it is free it has no holders.
template <template <class> class Atom = std::atomic>
struct alignas(64) ObjectEntry {
  static constexpr std::size_t kInlineBytes = 64;
  static constexpr std::size_t kHolderWords = Tag::kProcessSlots / 64;

  Atom<std::uint64_t> word;         // ObjectWord
  ObjectType type;                  // written while `making`, as all below
  std::uint64_t bytes;              // of the payload, as asked for
  std::uint64_t payload_at;         // its offset in the segment, or 0: it is inline
  std::uint64_t payload_capacity;   // bytes that it may grow to
  Atom<std::uint32_t> storage;      // where the payload comes from, before it is taken; 0: inline
  Atom<std::uint32_t> links;        // how many are `held`
  Atom<std::uint64_t> link_at;      // the one that is being changed, as an offset; 0: none
  Atom<std::uint32_t> other_links;  // how many others are held, while link_at is not 0
  std::uint32_t reserved;
  /// A bit for each slot of the registry whose process holds it.
  alignas(64) std::array<Atom<std::uint64_t>, kHolderWords> holders;
  alignas(64) std::array<std::byte, kInlineBytes> inline_payload;
};
static_assert(sizeof(ObjectEntry<>) == 256);

/// What the table has beside its descriptors. All but `high` are hints.
template <template <class> class Atom = std::atomic>
struct ObjectTableHeader {
  Atom<std::uint32_t> high;    // descriptors at or above it were never touched
  Atom<std::uint32_t> cursor;  // where a free one may be
  Atom<std::uint32_t> sweep;   // how far the search for others has come
};

/// Whose bits stand in the table for a slot of the registry; part of the slot's record. `cleaning`:
/// those of an earlier process may still be there.
struct ObjectSlot {
  static constexpr std::uint32_t kCleaning = 1U << Tag::kBits;
};

/// Objects: made, held by processes, gone with the last that held them, however it ended.
///
/// Any process may call it at once, from any thread. Whoever is killed in a call leaves a
/// descriptor whose word says so, and which the next one repairs, or release_all() of the dead.
/// Nobody repairs for a process that lives: who is stopped in one of these calls, which have no
/// system call in them but to give memory back, keeps others waiting for that object.
///
/// World, the rest of the family:
///
///     template <class T> using Atom;           // std::atomic, or a scheduler's
///     using Entry, Header;                     // ObjectEntry and ObjectTableHeader of them
///     Atom<std::uint32_t>& slot(Tag);          // ObjectSlot of the tag's record, 0 at first
///     bool dead(Tag);                          // no thread of it runs any more
///     void grow(std::uint32_t from, std::uint32_t to);  // makes descriptors usable; throws
///     // Room for `capacity` bytes, `bytes` of them usable at once and zero; throws.
///     void take_payload(Entry&, std::uint32_t index, std::size_t bytes, std::size_t capacity);
///     void free_payload(Entry&, std::uint32_t index);   // once more is harmless
///     ObjectLink<Atom>* link(std::uint64_t at);         // null when there cannot be one
///     void pause(unsigned turn);               // somebody alive is at it
///     void ended(std::uint32_t kind);          // optional: an object of this kind is gone
template <class World>
class ObjectTable {
  template <class T>
  using Atom = typename World::template Atom<T>;

 public:
  using Entry = typename World::Entry;
  using Header = typename World::Header;
  /// Descriptors that are made usable at once: a page.
  static constexpr std::uint32_t kStep = 16;

  ObjectTable(World& world, Entry* entries, std::uint32_t capacity, Header& header)
      : world_(&world), entries_(entries), capacity_(capacity), header_(&header) {}

  /// An object that `me` holds, with a payload of `bytes`, all zero, that may grow to `capacity`.
  /// Nothing when the table is full; throws what grow and take_payload throw.
  std::optional<ObjectRef> create(ObjectType type, std::size_t bytes, std::size_t capacity,
                                  Tag me) {
    claim(me, me);
    const std::optional<ObjectRef> ref = take_free(me);
    if (!ref) return ref;
    Entry& entry = entries_[ref->index];
    try {
      entry.type = type;
      entry.bytes = bytes;
      entry.payload_at = 0;
      entry.payload_capacity = Entry::kInlineBytes;
      entry.inline_payload = {};
      if (std::max(bytes, capacity) > Entry::kInlineBytes) {
        world_->take_payload(entry, ref->index, bytes, std::max(bytes, capacity));
      }
    } catch (...) {
      destroy(*ref);
      throw;
    }
    set_bit(entry, me.slot());
    // release: pairs with the acquire in enter(). The commit: from here on it is an object.
    entry.word.store(live(ref->generation), std::memory_order_release);
    return ref;
  }

  /// From now on `holder` holds it too. False when there is no such object any more. `by` is the
  /// caller. On behalf of another only if that one cannot end meanwhile unnoticed by the caller.
  bool adopt(ObjectRef ref, Tag holder, Tag by) {
    if (ref.index >= usable()) return false;
    claim(by, by);
    if (holder != by) claim(holder, by);
    if (!enter(ref, by)) return false;
    set_bit(entries_[ref.index], holder.slot());
    leave(ref);
    return true;
  }

  /// `holder` does not hold it any more; if nobody does, it is gone. Nothing happens when it does
  /// not exist.
  void drop(ObjectRef ref, Tag holder, Tag by) {
    if (ref.index >= usable()) return;
    claim(by, by);
    if (!enter(ref, by)) return;
    // Of an earlier process in that slot, whose bits have been taken away.
    if (is_owner(holder)) clear_bit(entries_[ref.index], holder.slot());
    leave(ref);
  }

  /// The link at `at`, whose `ref` names an object that the caller holds, holds it too. Again is
  /// harmless.
  void link(std::uint64_t at, Tag by) { change_link(at, true, by); }
  /// It does not any more; the object is gone if nobody does. Again is harmless. Whoever is killed
  /// in one of the two leaves a link that is held or not, and must be unlinked before its memory is
  /// used for anything else.
  void unlink(std::uint64_t at, Tag by) { change_link(at, false, by); }

  /// Takes the dead out of all objects and out of the calls that it was killed in. Any number may
  /// run it at once, be killed, and run it again. False: somebody alive is at one of them, so the
  /// same is to be called later once more.
  bool release_all(Tag dead, Tag by) {
    claim(by, by);
    return clean(dead, by);
  }

  /// Whether `holder` holds it, at this moment.
  [[nodiscard]] bool held(ObjectRef ref, Tag holder) const {
    if (ref.index >= usable() || !is_owner(holder)) return false;
    const Entry& entry = entries_[ref.index];
    const ObjectWord word = ObjectWord::unpack(entry.word.load());
    return word.generation == ref.generation && word.state != ObjectState::free &&
           (entry.holders[holder.slot() / 64].load() & bit_of(holder.slot())) != 0;
  }

  /// Whether it is gone for good. One load.
  [[nodiscard]] bool gone(ObjectRef ref) const {
    if (ref.index >= usable()) return true;
    const ObjectWord word = ObjectWord::unpack(entries_[ref.index].word.load());
    return word.generation != ref.generation || word.state == ObjectState::free;
  }

  [[nodiscard]] Entry& entry(std::uint32_t index) const { return entries_[index]; }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  /// The number of descriptors that are not untouched pages. Bounded, so that a mark that somebody
  /// overwrote cannot lead outside.
  [[nodiscard]] std::uint32_t usable() const { return std::min(header_->high.load(), capacity_); }
  /// Calls `visit(ref, entry)` for every object. What it sees may change meanwhile.
  template <class Visit>
  void for_each(Visit visit) const {
    for (std::uint32_t index = 0, end = usable(); index < end; ++index) {
      const ObjectWord word = ObjectWord::unpack(entries_[index].word.load());
      if (word.state == ObjectState::free || word.state == ObjectState::making) continue;
      visit(ObjectRef{index, word.generation}, entries_[index]);
    }
  }

 private:
  static constexpr std::uint64_t live(std::uint32_t generation) {
    return ObjectWord{.generation = generation, .state = ObjectState::live, .tag = {}}.pack();
  }
  static constexpr std::uint64_t bit_of(std::uint32_t slot) {
    return std::uint64_t{1} << slot % 64;
  }
  // Only who has the word writes bits. Atomic, as clean() looks at them from outside; relaxed, as
  // it looks again when it has the word.
  static void set_bit(Entry& entry, std::uint32_t slot) {
    auto& word = entry.holders[slot / 64];
    word.store(word.load(std::memory_order_relaxed) | bit_of(slot), std::memory_order_relaxed);
  }
  static void clear_bit(Entry& entry, std::uint32_t slot) {
    auto& word = entry.holders[slot / 64];
    word.store(word.load(std::memory_order_relaxed) & ~bit_of(slot), std::memory_order_relaxed);
  }
  static bool has_bit(const Entry& entry, std::uint32_t slot) {
    return (entry.holders[slot / 64].load(std::memory_order_relaxed) & bit_of(slot)) != 0;
  }
  static bool unheld(const Entry& entry) {
    if (entry.links.load(std::memory_order_relaxed) != 0) return false;
    return std::all_of(entry.holders.begin(), entry.holders.end(),
                       [](const auto& word) { return word.load(std::memory_order_relaxed) == 0; });
  }

  /// The bits of the tag's slot are this process's.
  [[nodiscard]] bool is_owner(Tag tag) const { return world_->slot(tag).load() == tag.bits(); }

  // SUBTLE: a bit names a slot, and slots are used again. So before the first bit of a process is
  // set, and before its tag is in any word, its record says so (I3), and those that the slot's
  // earlier processes left are taken away. Whoever takes bits away looks at the record while it has
  // the word: either it sees that the slot has changed hands, or the new process, which needs the
  // word to set a bit, comes later.
  void claim(Tag tag, Tag by) {
    Atom<std::uint32_t>& slot = world_->slot(tag);
    for (unsigned turn = 0;; ++turn) {
      std::uint32_t owner = slot.load();
      if (owner == tag.bits()) return;
      if (owner == 0) {
        if (slot.compare_exchange_strong(owner, tag.bits())) return;
      } else if (owner != (tag.bits() | ObjectSlot::kCleaning)) {
        slot.compare_exchange_strong(owner, tag.bits() | ObjectSlot::kCleaning);
      } else if (sweep(owner, tag.slot(), by)) {
        if (slot.compare_exchange_strong(owner, tag.bits())) return;
      } else {
        world_->pause(turn);
      }
    }
  }

  bool clean(Tag dead, Tag by) {
    Atom<std::uint32_t>& slot = world_->slot(dead);
    std::uint32_t owner = slot.load();
    // The next process in that slot has taken it over, or there never was anything.
    if (Tag::from_bits(owner) != dead) return true;
    if (!sweep(owner, dead.slot(), by)) return false;
    slot.compare_exchange_strong(owner, 0);
    return true;
  }

  /// Takes what is left of dead processes in a slot out of all descriptors, as long as the slot's
  /// record says `owner`. False: not all of it.
  bool sweep(std::uint32_t owner, std::uint32_t slot, Tag by) {
    bool all = true;
    for (std::uint32_t index = 0, end = usable(); index < end; ++index) {
      Entry& entry = entries_[index];
      for (;;) {
        const std::uint64_t seen = entry.word.load(std::memory_order_acquire);
        const ObjectWord word = ObjectWord::unpack(seen);
        const bool theirs = word.busy() && word.tag != by && word.tag.slot() == slot;
        if (!theirs && !has_bit(entry, slot)) break;
        if (word.state == ObjectState::free) break;
        if (word.busy()) {
          if (!world_->dead(word.tag)) {
            all = false;
            break;
          }
          take_over(index, seen, by);
          continue;
        }
        std::uint64_t expected = seen;
        if (!entry.word.compare_exchange_strong(expected, changing(word.generation, by))) continue;
        if (world_->slot(Tag(slot, 1)).load() == owner) clear_bit(entry, slot);
        leave({index, word.generation});
        break;
      }
    }
    return all;
  }

  static constexpr std::uint64_t changing(std::uint32_t generation, Tag by) {
    return ObjectWord{.generation = generation, .state = ObjectState::changing, .tag = by}.pack();
  }

  /// Makes the word the caller's. False when the object does not exist.
  bool enter(ObjectRef ref, Tag by) {
    Entry& entry = entries_[ref.index];
    for (unsigned turn = 0;;) {
      // acquire: pairs with the release in create(), leave() and destroy(): what the last one did
      // to the descriptor is there.
      std::uint64_t seen = entry.word.load(std::memory_order_acquire);
      const ObjectWord word = ObjectWord::unpack(seen);
      if (word.generation != ref.generation) return false;
      switch (word.state) {
        case ObjectState::free:
          return false;
        case ObjectState::live:
          if (entry.word.compare_exchange_strong(seen, changing(ref.generation, by))) return true;
          break;
        case ObjectState::making:  // nobody has been told of it: the bytes are wrong
          return false;
        case ObjectState::changing:
          if (word.tag != by && world_->dead(word.tag)) {
            take_over(ref.index, seen, by);
          } else {
            world_->pause(turn++);
          }
          break;
      }
    }
  }

  void change_link(std::uint64_t at, bool held, Tag by) {
    auto* const link = world_->link(at);
    if (link == nullptr || link->ref.index >= usable()) return;
    claim(by, by);
    if (!enter(link->ref, by)) return;
    Entry& entry = entries_[link->ref.index];
    // SUBTLE: the mark and the count must change together. So the count is noted without this link
    // first, and is that and the mark from then on, for whoever comes after a death. release, here
    // and below: in this order, whatever the compiler would like; others look when they have the
    // word.
    if ((link->held.load(std::memory_order_relaxed) != 0) != held) {
      const std::uint32_t others = entry.links.load(std::memory_order_relaxed) - (held ? 0U : 1U);
      entry.other_links.store(others, std::memory_order_release);
      entry.link_at.store(at, std::memory_order_release);
      link->held.store(held ? 1 : 0, std::memory_order_release);  // the commit
      entry.links.store(others + (held ? 1U : 0U), std::memory_order_release);
      entry.link_at.store(0, std::memory_order_release);
    }
    leave(link->ref);
  }
  /// What a dead process left of that. The link is still one: who ends its memory enters the object
  /// before.
  void settle_link(Entry& entry) {
    const std::uint64_t at = entry.link_at.load(std::memory_order_relaxed);
    if (at == 0) return;
    const auto* const link = world_->link(at);
    const bool held = link != nullptr && link->held.load(std::memory_order_relaxed) != 0;
    const std::uint32_t others = entry.other_links.load(std::memory_order_relaxed);
    entry.links.store(others + (held ? 1U : 0U), std::memory_order_release);
    entry.link_at.store(0, std::memory_order_release);
  }

  /// Gives the word back: the object is live, or gone if nobody holds it.
  void leave(ObjectRef ref) {
    Entry& entry = entries_[ref.index];
    if (unheld(entry)) {
      destroy(ref);
    } else {
      entry.word.store(live(ref.generation), std::memory_order_release);  // see enter()
    }
  }

  /// The word is the caller's, and stays so until the payload has been given back.
  void destroy(ObjectRef ref) {
    Entry& entry = entries_[ref.index];
    for (auto& word : entry.holders) word.store(0, std::memory_order_relaxed);
    world_->free_payload(entry, ref.index);
    header_->cursor.store(ref.index, std::memory_order_relaxed);  // a hint
    const ObjectWord gone{.generation = ref.generation, .state = ObjectState::free, .tag = {}};
    // Whatever it was; a maker that was killed before it said so announces once too often.
    const std::uint32_t kind = entry.type.kind;
    entry.word.store(gone.pack(), std::memory_order_release);  // see enter() and try_take()
    if constexpr (requires { world_->ended(kind); }) world_->ended(kind);
  }

  /// What a dead process was at: an object that it was making never was; a change is there or not.
  void take_over(std::uint32_t index, std::uint64_t seen, Tag by) {
    ObjectWord word = ObjectWord::unpack(seen);
    word.tag = by;  // in the same state, so that nothing has changed if `by` is killed here
    if (!entries_[index].word.compare_exchange_strong(seen, word.pack())) return;
    if (word.state == ObjectState::making) {
      destroy({index, word.generation});
    } else {
      settle_link(entries_[index]);
      leave({index, word.generation});
    }
  }

  bool try_take(std::uint32_t index, Tag me, ObjectRef& ref) {
    Entry& entry = entries_[index];
    std::uint64_t seen = entry.word.load(std::memory_order_relaxed);
    ObjectWord word = ObjectWord::unpack(seen);
    if (word.state != ObjectState::free) return false;
    word.state = ObjectState::making;
    word.tag = me;
    if (++word.generation == 0) word.generation = 1;  // no reference is all zero
    // acquire: pairs with the release in destroy(): the last one's payload has been given back.
    if (!entry.word.compare_exchange_strong(seen, word.pack())) return false;
    header_->cursor.store(index + 1, std::memory_order_relaxed);
    ref = {index, word.generation};
    return true;
  }

  // Where one became free last, or was taken last; then a few of the others in turn; then one that
  // was never used. So a search looks at 80 descriptors at most, and the table grows by at most a
  // quarter of what it would need.
  std::optional<ObjectRef> take_free(Tag me) {
    constexpr std::uint32_t kLooks = 64;
    ObjectRef ref;
    for (;;) {
      const std::uint32_t end = usable();
      const std::uint32_t cursor = header_->cursor.load(std::memory_order_relaxed);
      for (std::uint32_t i = cursor; i < end && i - cursor < kStep; ++i) {
        if (try_take(i, me, ref)) return ref;
      }
      std::uint32_t at = header_->sweep.load(std::memory_order_relaxed);
      const bool full = end == capacity_;
      for (std::uint32_t i = 0; i < (full ? end : std::min(kLooks, end)); ++i, ++at) {
        if (at >= end) at = 0;
        if (!try_take(at, me, ref)) continue;
        header_->sweep.store(at, std::memory_order_relaxed);
        return ref;
      }
      header_->sweep.store(at, std::memory_order_relaxed);
      if (full) return std::nullopt;
      const std::uint32_t next = std::min(end + kStep, capacity_);
      world_->grow(end, next);
      std::uint32_t expected = end;
      if (header_->high.compare_exchange_strong(expected, next)) {
        header_->cursor.store(end, std::memory_order_relaxed);
      }
    }
  }

  World* world_;
  Entry* entries_;
  std::uint32_t capacity_;
  Header* header_;
};

}  // namespace brood::detail
