// Length: one protocol on one set of words, whose parts are understood only together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <brood/memory/granule_run.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood::detail {

/// The number of a shared object that owns blocks: 28 bits, not 0. Not used again for another
/// object while somebody may still be freeing the blocks of the first.
enum class SharedOwner : std::uint32_t {};

/// The state of a block, in the word of its first unit: kind and who in one word.
///
///     free          nobody's: in a private list of the page's holder, or not cut yet
///     owned(tag)    of the process `tag`, which also holds its page; freed when that dies
///     shared(owner) of a shared object: freed by whoever ends the object, and by no death
///     returned      was shared; free, but the holder of the page has not noticed yet
struct BlockWord {
  static constexpr std::uint32_t kFree = 0;
  static constexpr std::uint32_t kReturned = 3U << 28U;
  static constexpr std::uint32_t owned(Tag tag) { return 1U << 28U | tag.bits(); }
  static constexpr std::uint32_t shared(SharedOwner owner) {
    return 2U << 28U | static_cast<std::uint32_t>(owner);
  }
  static constexpr bool is_shared(std::uint32_t word) { return word >> 28U == 2U; }
};

/// What is noted of a granule that is a page of the heap.
template <template <class> class Atom>
struct PageNote {
  Atom<std::uint32_t> returned;  // 1: some block may be `returned`
  Atom<std::uint32_t> cut;  // blocks [0, cut) may have been handed out; no word beyond was used
};

/// The part of the heap that processes share: who holds which granule and which block. See
/// docs/design/heap.md for the protocol, its kill windows, and the names of the invariants.
///
/// All processes work on it at once, and may be killed at any instruction. It is all words, no
/// pointers and no lists: of directory, states and notes, which the segment lays out, and which are
/// zero at first. What says "holder" below is for the process that holds the page or block.
template <template <class> class Atom = std::atomic>
class HeapBoard {
 public:
  static constexpr std::uint32_t kPage = 0x40000000;      // | kSettling | size class
  static constexpr std::uint32_t kSettling = 0x00000100;  // who holds it cleans up after the dead
  static constexpr std::uint32_t kLarge = 0x80000000;     // | position in its run
  static constexpr std::uint32_t kClasses = 14;
  static_assert(kPage >= kHeapGroups);

  struct Tables {
    Atom<std::uint64_t>* directory;  // a word per granule
    Atom<std::uint64_t>* high_water;
    Atom<std::uint32_t>* states;  // a word per unit of 64 bytes
    PageNote<Atom>* notes;        // one per granule
    std::size_t granules;
    std::size_t units;          // per granule
    std::byte* data = nullptr;  // null: there are no pages to give back to the system
  };
  static constexpr std::size_t kUnit = 64;

  explicit HeapBoard(const Tables& tables) : t_(tables) {}

  [[nodiscard]] std::size_t granules() const { return t_.granules; }
  [[nodiscard]] std::uint32_t blocks_per_page(std::uint32_t size_class) const {
    return static_cast<std::uint32_t>(t_.units >> size_class);
  }

  // Pages: granules cut into blocks of one size.

  /// Takes a fresh page; kNoRun when there is none.
  std::size_t take_page(std::uint32_t size_class, Tag me) noexcept {
    return take_run(t_.directory, t_.granules, *t_.high_water, 1,
                    granule_word(me, kPage | size_class), 0);
  }
  /// Takes a page that a dead process left, with shared blocks in it; kNoRun when there is none.
  std::size_t adopt_page(std::uint32_t size_class, Tag me) noexcept {
    const std::uint64_t orphan = granule_word(Tag(), kPage | size_class);
    for (std::size_t g = 0, end = taken_below(); g < end; ++g) {
      std::uint64_t expected = orphan;
      // acquire: pairs with the release in settle(). relaxed: only whether it is worth trying.
      if (t_.directory[g].load(std::memory_order_relaxed) == orphan &&
          t_.directory[g].compare_exchange_strong(expected, granule_word(me, kPage | size_class),
                                                  std::memory_order_acquire)) {
        return g;
      }
    }
    return kNoRun;
  }
  /// Holder: before blocks below `cut` are handed out.
  void publish_cut(std::size_t granule, std::uint32_t cut) noexcept {
    t_.notes[granule].cut.store(cut, std::memory_order_relaxed);  // read after our death only
  }
  [[nodiscard]] std::uint32_t cut(std::size_t granule, std::uint32_t size_class) const noexcept {
    // Bounded, so that a number which somebody overwrote cannot lead outside. relaxed: by the
    // holder, or after it died, which orders everything.
    return std::min(t_.notes[granule].cut.load(std::memory_order_relaxed),
                    blocks_per_page(size_class));
  }
  /// Holder: whether sweep() might find something; if so it is to be called.
  [[nodiscard]] bool take_note(std::size_t granule) noexcept {
    // seq_cst: pairs with give_back(). Either that sees 0 here and stores 1, or sweep() sees the
    // block. relaxed: for a look only; a note that is missed is seen at the next.
    return t_.notes[granule].returned.load(std::memory_order_relaxed) != 0 &&
           t_.notes[granule].returned.exchange(0, std::memory_order_seq_cst) != 0;
  }
  /// Holder: calls `found(block)` for each block of the page that came back. `adopted`: for each
  /// that is not shared.
  template <class Found>
  void sweep(std::size_t granule, std::uint32_t size_class, bool adopted, Found found) noexcept {
    const std::uint32_t end = cut(granule, size_class);
    for (std::uint32_t block = 0; block < end; ++block) {
      Atom<std::uint32_t>& state =
          t_.states[granule * t_.units + (std::size_t{block} << size_class)];
      // seq_cst: see take_note(); it also acquires what who returned it did to the block.
      const std::uint32_t word = state.load(std::memory_order_seq_cst);
      if (word == BlockWord::kReturned) {
        state.store(BlockWord::kFree, std::memory_order_relaxed);  // of interest to us alone
      } else if (!adopted || BlockWord::is_shared(word)) {
        continue;
      }
      found(block);
    }
  }
  /// Holder: gives the page back to all; none of its blocks is in use.
  void release_page(std::size_t granule) noexcept {
    // relaxed: the release of the last store covers them.
    t_.notes[granule].returned.store(0, std::memory_order_relaxed);
    t_.notes[granule].cut.store(0, std::memory_order_relaxed);
    discard(granule, 1);
    t_.directory[granule].store(0, std::memory_order_release);  // pairs with take_run()
  }

  // Large blocks: a run of granules; the word of its first unit says whose it is.

  /// Takes a run; kNoRun when there is none. The caller populates it, then calls own(). `huge`:
  /// one that begins where a huge page can, if it has room for one.
  std::size_t take_large(std::size_t granules, Tag me, bool huge = false) noexcept {
    RunStart start;
    if (huge && t_.data != nullptr) {
      start = huge_page_start(t_.data, t_.units * kUnit, granules);
    }
    return take_run(t_.directory, t_.granules, *t_.high_water, granules, granule_word(me, kLarge),
                    std::uint64_t{1} << 32U, start);
  }
  [[nodiscard]] std::size_t run_length(std::size_t first) const noexcept {
    // relaxed: the caller holds the run, or only counts.
    std::size_t length = 1;
    while (first + length < t_.granules && group_of(t_.directory[first + length].load(
                                               std::memory_order_relaxed)) == (kLarge | length)) {
      ++length;
    }
    return length;
  }
  /// Holder: gives the run back to all. Its first word says `holder`, its block is free or owned.
  void release_large(std::size_t first) noexcept {
    const std::size_t length = run_length(first);
    discard(first, length);
    // All release: they pair with take_run(), and with recover() where it reads the state.
    for (std::size_t k = length - 1; k > 0; --k) {
      t_.directory[first + k].store(0, std::memory_order_release);
    }
    t_.states[first * t_.units].store(BlockWord::kFree, std::memory_order_release);
    t_.directory[first].store(0, std::memory_order_release);
  }

  // Blocks, by their first unit.

  /// Holder of the page: of a free block.
  void own(std::size_t unit, Tag me) noexcept {
    // relaxed: read by nobody else while we live, but for statistics.
    t_.states[unit].store(BlockWord::owned(me), std::memory_order_relaxed);
  }
  /// Owner.
  void disown(std::size_t unit) noexcept {
    t_.states[unit].store(BlockWord::kFree, std::memory_order_relaxed);  // as own()
  }
  /// Owner: the block is the object's from this one store on.
  void give(std::size_t unit, SharedOwner owner) noexcept {
    // release: pairs with the acquire in give_back().
    t_.states[unit].store(BlockWord::shared(owner), std::memory_order_release);
  }
  [[nodiscard]] bool owns(std::size_t unit, Tag me) const noexcept {
    return t_.states[unit].load(std::memory_order_relaxed) == BlockWord::owned(me);  // as own()
  }

  /// Whether the block is `owner`'s, which nobody but who speaks for `owner` changes.
  [[nodiscard]] bool is_shared(std::size_t unit, SharedOwner owner) const noexcept {
    if (unit / t_.units >= t_.granules) return false;
    // acquire: pairs with give().
    return t_.states[unit].load(std::memory_order_acquire) == BlockWord::shared(owner);
  }

  enum class GivenBack { nothing, small, large };
  /// Anybody: frees a block if it is `owner`'s; the compare-and-swap is the commit. A large one is
  /// afterwards the caller's own, as if it had allocated it.
  GivenBack give_back(std::size_t unit, SharedOwner owner, Tag by) noexcept {
    const std::size_t granule = unit / t_.units;
    if (granule >= t_.granules) return GivenBack::nothing;
    // acquire: pairs with the release of who took or cut it; the caller was told of the block.
    const std::uint64_t word = t_.directory[granule].load(std::memory_order_acquire);
    Atom<std::uint32_t>& state = t_.states[unit];
    std::uint32_t expected = BlockWord::shared(owner);
    if (is_page(word)) {
      // seq_cst: see take_note().
      if (!state.compare_exchange_strong(expected, BlockWord::kReturned,
                                         std::memory_order_seq_cst)) {
        return GivenBack::nothing;
      }
      // Killed here, the note is missing: recover() makes up for it.
      note_returned(granule);
      return GivenBack::small;
    }
    if (group_of(word) != kLarge || unit % t_.units != 0) return GivenBack::nothing;
    // acquire: pairs with give(). release: pairs with recover().
    if (!state.compare_exchange_strong(expected, BlockWord::owned(by), std::memory_order_acq_rel)) {
      return GivenBack::nothing;
    }
    // Nobody else touches it while the state is ours. release: pairs with recover().
    t_.directory[granule].store(granule_word(by, kLarge), std::memory_order_release);
    return GivenBack::large;
  }

  // After a death.

  /// Frees all that `dead` owned and held; `by` is the caller. What is shared stays, in pages that
  /// are nobody's (see adopt_page). Any number may run it at once, be killed, and run it again:
  /// what a caller was at then is found under its own tag. Returns granules freed.
  std::size_t recover(Tag dead, Tag by) noexcept {
    std::size_t freed = 0;
    for (std::size_t g = 0, end = taken_below(); g < end; ++g) {
      // acquire: pairs with give_back() and settle().
      std::uint64_t word = t_.directory[g].load(std::memory_order_acquire);
      if (is_page(word)) {
        if (Tag::from_bits(word) == dead) {
          freed += claim_page(g, word, by);
        } else {
          note_returned(g);  // which the dead did not come to
        }
      } else if (group_of(word) == kLarge) {
        freed += recover_large(g, word, dead, by);
      }
    }
    return freed;
  }
  /// Frees pages of the dead in which nothing is shared any more. Returns granules freed.
  std::size_t reclaim_orphans(Tag by) noexcept {
    std::size_t freed = 0;
    for (std::size_t g = 0, end = taken_below(); g < end; ++g) {
      const std::uint64_t word = t_.directory[g].load(std::memory_order_relaxed);  // worth trying?
      if (is_page(word) && Tag::from_bits(word).none()) freed += claim_page(g, word, by);
    }
    return freed;
  }

  /// Calls `visit(tag)` for each word that says whose a granule or a large block is, the heap's or
  /// not; with tags of no process too. A look while others work.
  template <class Visit>
  void for_each_holder(Visit visit) const noexcept {
    for (std::size_t g = 0, end = taken_below(); g < end; ++g) {
      // acquire: pairs with who took it. Only tags of the dead are of interest, who change nothing.
      const std::uint64_t word = t_.directory[g].load(std::memory_order_acquire);
      if (word == 0) continue;
      visit(Tag::from_bits(word));
      if (group_of(word) != kLarge) continue;
      // Killed between the two, who freed it for an object is named here only.
      const std::uint32_t state = t_.states[g * t_.units].load(std::memory_order_acquire);
      const Tag owner = Tag::from_bits(state);
      if (state == BlockWord::owned(owner)) visit(owner);
    }
  }
  /// Calls `visit(holder, shared, units)` for every granule in use: to whom its units are counted,
  /// and how many of them belong to shared objects. A look while others work.
  template <class Visit>
  void for_each_in_use(Visit visit) const noexcept {
    Tag of_run;
    bool run_is_shared = false;
    for (std::size_t g = 0, end = taken_below(); g < end; ++g) {
      // relaxed, here and below: numbers for people.
      const std::uint64_t word = t_.directory[g].load(std::memory_order_relaxed);
      if (word == 0) continue;
      if (is_page(word)) {
        const std::uint32_t size_class = class_of(word);
        std::size_t shared = 0;
        for (std::uint32_t block = 0, all = cut(g, size_class); block < all; ++block) {
          const auto state = t_.states[g * t_.units + (std::size_t{block} << size_class)].load(
              std::memory_order_relaxed);
          if (BlockWord::is_shared(state)) shared += std::size_t{1} << size_class;
        }
        visit(Tag::from_bits(word), shared, t_.units);
        continue;
      }
      if (group_of(word) == kLarge) {
        const auto state = t_.states[g * t_.units].load(std::memory_order_relaxed);
        run_is_shared = BlockWord::is_shared(state);
        of_run = Tag::from_bits(word);
      }
      const bool in_run = (group_of(word) & kLarge) != 0;
      visit(in_run ? of_run : Tag::from_bits(word), in_run && run_is_shared ? t_.units : 0,
            t_.units);
    }
  }

 private:
  static constexpr bool is_page(std::uint64_t word) {
    return (group_of(word) & (kPage | kLarge)) == kPage;
  }
  /// Bounded: see cut().
  static constexpr std::uint32_t class_of(std::uint64_t word) {
    return std::min(group_of(word) & 0xffU, kClasses - 1);
  }
  [[nodiscard]] std::size_t taken_below() const noexcept {
    return std::min<std::size_t>(t_.high_water->load(std::memory_order_seq_cst), t_.granules);
  }
  void note_returned(std::size_t granule) noexcept {
    // seq_cst: see take_note(). Looked at first, as others' lines are dear to write.
    Atom<std::uint32_t>& note = t_.notes[granule].returned;
    if (note.load(std::memory_order_seq_cst) == 0) note.store(1, std::memory_order_seq_cst);
  }
  void discard(std::size_t first, std::size_t count) noexcept {
    if (t_.data == nullptr) return;
    discard_pages(t_.data + first * t_.units * kUnit, count * t_.units * kUnit);
  }

  /// Takes the page from who left it, if the word still says so, and settles it.
  std::size_t claim_page(std::size_t granule, std::uint64_t word, Tag by) noexcept {
    const std::uint32_t size_class = class_of(word);
    // acquire: as in adopt_page().
    if (!t_.directory[granule].compare_exchange_strong(
            word, granule_word(by, kPage | kSettling | size_class), std::memory_order_acquire)) {
      return 0;
    }
    return settle(granule, size_class);
  }
  /// The page is the caller's, but none of its blocks: whatever in it is not shared is free.
  std::size_t settle(std::size_t granule, std::uint32_t size_class) noexcept {
    bool shared = false;
    for (std::uint32_t block = 0, end = cut(granule, size_class); block < end; ++block) {
      Atom<std::uint32_t>& state =
          t_.states[granule * t_.units + (std::size_t{block} << size_class)];
      // acquire: pairs with give_back(). Plain stores suffice: only what is shared can change here.
      const std::uint32_t word = state.load(std::memory_order_acquire);
      if (BlockWord::is_shared(word)) {
        shared = true;
      } else if (word != BlockWord::kFree) {
        state.store(BlockWord::kFree, std::memory_order_relaxed);  // released by the word below
      }
    }
    if (!shared) {
      release_page(granule);
      return 1;
    }
    // release: pairs with adopt_page() and claim_page().
    t_.directory[granule].store(granule_word(Tag(), kPage | size_class), std::memory_order_release);
    return 0;
  }

  /// `word`: of the first granule of a run.
  // SUBTLE: two things say that the run is the dead's. (1) The state is owned(dead): it had the
  // block, or was freeing what a shared object had. (2) The directory says the dead and the state
  // is free: it was taking or giving back the run. Where the directory says the dead and the state
  // is somebody else's, the dead had given the block away, and the word is merely old.
  // (2) cannot be mistaken: whoever makes the state free first makes the directory say himself, and
  // releases that before; so if the state was made free by another, the compare-and-swap fails.
  std::size_t recover_large(std::size_t first, std::uint64_t word, Tag dead, Tag by) noexcept {
    Atom<std::uint32_t>& state = t_.states[first * t_.units];
    std::uint32_t now = state.load(std::memory_order_acquire);  // pairs with release_large()
    if (now == BlockWord::owned(dead)) {
      // acquire, release: as in give_back().
      if (!state.compare_exchange_strong(now, BlockWord::owned(by), std::memory_order_acq_rel)) {
        return 0;
      }
      t_.directory[first].store(granule_word(by, kLarge), std::memory_order_release);
    } else if (now != BlockWord::kFree || Tag::from_bits(word) != dead ||
               !t_.directory[first].compare_exchange_strong(word, granule_word(by, kLarge),
                                                            std::memory_order_acq_rel)) {
      return 0;
    }
    const std::size_t length = run_length(first);
    release_large(first);
    return length;
  }

  Tables t_;
};

}  // namespace brood::detail
