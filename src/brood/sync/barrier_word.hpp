#pragma once

// Length: one algorithm, whose steps are argued against each other.

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <type_traits>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/environment.hpp>

namespace brood::detail {

/// A barrier: threads wait until so many have arrived, then all go on, again and again. Each one
/// that has arrived holds a cell, which says for which generation and who.
///
/// Who may touch it at once: any threads of the family, also more than there are parties: those
///   too many wait for the next generation.
/// Where its bytes live: `bytes_needed(parties)` of them, in memory of the family, made by
///   format(); it needs no destruction.
/// When a party dies: one that waits at it, or that has enlisted, breaks it; the error of the
///   others names the dead. Who has been let go and dies before it returns breaks nothing. A party
///   that is stopped is waited for.
/// Across fork: the child has not arrived and is not enlisted.
/// Memory ordering: what each did before it arrived is visible to all that are let go.
/// Errors: BrokenBarrierError from waiting; StateError for no parties, or when more enlist than
///   there are parties; what Environment::self throws.
///
///     const std::uint32_t index = barrier->arrive_and_wait();  // another one for each, from 0
///     if (index == 0) report();
///
/// With an action, one of those who have one runs it when all have come, and before any is let go.
/// While it runs deadlines pass as before, and that one's death is a party's. If it throws, the
/// barrier is broken and the exception goes on.
///
/// It stays broken until reset(). The algorithm and its kill windows: docs/design/sync.md.
template <class Env = Environment>
class BarrierWord {
  using Cell = typename Env::template Atom<std::uint64_t>;
  using Word = typename Env::Word;

 public:
  static constexpr std::size_t bytes_needed(std::uint32_t parties) {
    return sizeof(BarrierWord) + std::size_t{parties} * (sizeof(Cell) + sizeof(Word));
  }
  /// `memory` is as large as bytes_needed() says, and aligned for 8 bytes.
  static BarrierWord* format(void* memory, std::uint32_t parties) {
    if (parties == 0) throw StateError("a barrier for no parties: nobody could pass it");
    auto* barrier = new (memory) BarrierWord(parties);
    for (std::uint32_t i = 0; i != parties; ++i) {
      new (barrier->cells() + i) Cell(0);
      new (barrier->enlisted() + i) Word(0);
    }
    return barrier;
  }

  struct NoAction {
    void operator()() const {}
  };

  std::uint32_t arrive_and_wait() { return arrive_and_wait_until(Deadline::never()); }
  /// Which of the parties this one is: 0 to parties() - 1, each once. Breaks the barrier when the
  /// deadline passes first.
  template <class Action = NoAction>
  std::uint32_t arrive_and_wait_until(Deadline deadline, Action&& action = Action());

  /// From now on the calling thread's death breaks the barrier also when it has not arrived.
  /// Its end, too: a thread that will not come any more withdraws.
  void enlist();
  void withdraw();

  /// Breaks it. Who waits, or comes, has a BrokenBarrierError.
  void abort() {
    while (!break_it(state_.load(), Status::kAborted)) continue;
  }
  /// As new: not broken, nobody waits. Who waits has a BrokenBarrierError; the enlisted who have
  /// died are struck off.
  void reset();

  [[nodiscard]] bool broken() const {
    const State state = State::unpack(state_.load());
    return state.status != Status::kWhole || !dead_party(state.generation).none();
  }
  /// How many wait for the others; 0 when it is broken.
  [[nodiscard]] std::uint32_t n_waiting() const;
  [[nodiscard]] std::uint32_t parties() const { return parties_; }

 private:
  enum class Status : std::uint8_t { kWhole = 0, kAborted = 1, kTimedOut = 2, kDied = 3 };
  static constexpr std::uint32_t kGenerationBits = 64 - Tag::kBits;
  static constexpr std::uint32_t kAgoBits = Tag::kBits - 2;

  /// {how many generations ago one was let go, generation, status}
  struct State {
    Status status = Status::kWhole;
    std::uint64_t generation = 1;
    std::uint64_t ago = 0;  // 0: never, or too long ago to matter

    [[nodiscard]] std::uint64_t pack() const {
      return ago << (64 - kAgoBits) | generation << 2U | static_cast<std::uint8_t>(status);
    }
    static State unpack(std::uint64_t bits) {
      return {.status = static_cast<Status>(bits & 3U),
              .generation = wrapped(bits >> 2U),
              .ago = bits >> (64 - kAgoBits)};
    }
    [[nodiscard]] State after_letting_go() const {
      return {.generation = wrapped(generation + 1), .ago = 1};
    }
    [[nodiscard]] State after_reset() const {
      const bool forgotten = ago == 0 || ago + 1 == std::uint64_t{1} << kAgoBits;
      return {.generation = wrapped(generation + 1), .ago = forgotten ? 0 : ago + 1};
    }
    [[nodiscard]] bool was_let_go(std::uint64_t of) const {
      return ago != 0 && wrapped(generation - ago) == of;
    }
    static std::uint64_t wrapped(std::uint64_t generation) {
      return generation & ((std::uint64_t{1} << kGenerationBits) - 1);
    }
  };
  static std::uint64_t cell_of(std::uint64_t generation, Tag tag) {
    return generation << Tag::kBits | tag.bits();
  }
  static std::uint64_t generation_of(std::uint64_t cell) { return cell >> Tag::kBits; }

  static constexpr std::uint32_t kBlocked = 1U << 31U;  // of bell_; the rest of it counts
  static constexpr std::size_t kMostWatched = 100;

  /// Some of those whose death would change something: as many as a sleep has room for.
  struct Watched {
    std::array<Tag, kMostWatched> tags;
    std::size_t count = 0;
    void add(Tag tag) {
      if (!tag.none() && count != kMostWatched) tags[count++] = tag;
    }
    [[nodiscard]] std::span<const Tag> span() const { return {tags.data(), count}; }
  };
  struct Arrival {
    std::uint64_t generation;
    std::uint32_t index;
  };

  explicit BarrierWord(std::uint32_t parties) : parties_(parties), state_(State{}.pack()) {}

  [[nodiscard]] Cell* cells() const {
    return reinterpret_cast<Cell*>(const_cast<BarrierWord*>(this) + 1);
  }
  [[nodiscard]] Word* enlisted() const { return reinterpret_cast<Word*>(cells() + parties_); }

  Arrival arrive(Tag me, Deadline deadline);
  void leave(Tag me, Arrival arrival);
  /// All have come in the state `seen`. True when it is for `me` to run the action.
  bool claim_action(Tag me, std::uint64_t seen);
  /// False when the state has changed meanwhile.
  bool break_it(std::uint64_t seen, Status why);
  void ring();
  /// Somebody who is dead and waits in this generation, or is enlisted.
  [[nodiscard]] Tag dead_party(std::uint64_t generation) const;
  [[noreturn]] void throw_broken(Status why, std::uint64_t generation) const;
  [[noreturn]] static void throw_reset() {
    throw BrokenBarrierError("this barrier was reset while this thread waited at it");
  }

  std::uint32_t parties_;  // constant
  Word bell_{0};           // changes when there is something to see
  Cell state_;
  Cell actor_{0};  // who ran the action last, or runs it, and in which generation
};

template <class Env>
template <class Action>
std::uint32_t BarrierWord<Env>::arrive_and_wait_until(Deadline deadline, Action&& action) {
  constexpr bool kActs = !std::is_same_v<std::remove_cvref_t<Action>, NoAction>;
  const Tag me = Env::self();
  bool acted = !kActs;
  const Arrival arrival = arrive(me, deadline);
  for (;;) {
    const typename Env::Glance glance = Env::look();
    const std::uint32_t bell = bell_.load();
    const std::uint64_t seen = state_.load();
    const State state = State::unpack(seen);
    if (state.generation != arrival.generation || state.status != Status::kWhole) {
      // SUBTLE: no generation after this one can have been let go, as long as the cell is held.
      const bool let_go = state.was_let_go(arrival.generation);
      leave(me, arrival);
      if (let_go) return arrival.index;
      if (state.generation == arrival.generation) throw_broken(state.status, state.generation);
      throw_reset();
    }
    Watched watched;
    std::uint32_t here = 0;
    bool died = false;
    for (std::uint32_t i = 0; i != parties_; ++i) {
      const std::uint64_t cell = cells()[i].load();
      const Tag waiting = Tag::from_bits(cell);
      const Tag expected = Tag::from_bits(enlisted()[i].load());
      if (generation_of(cell) == arrival.generation && !waiting.none()) {
        ++here;
        died = died || (waiting != me && Env::dead(waiting));
        if (waiting != me) watched.add(waiting);
      }
      died = died || (!expected.none() && expected != me && Env::dead(expected));
      if (expected != me) watched.add(expected);
    }
    const bool all = here == parties_;
    if (died) {
      break_it(seen, Status::kDied);
    } else if (all && !acted && claim_action(me, seen)) {
      std::exception_ptr failure;
      try {
        action();
      } catch (...) {
        failure = std::current_exception();
      }
      acted = true;
      if (failure) {
        break_it(seen, Status::kAborted);
        leave(me, arrival);
        std::rethrow_exception(failure);
      }
    } else if (all && acted) {
      // The commit. SUBTLE: a cell is left only after the state has changed, so all of them are
      // held still if this succeeds.
      std::uint64_t old = seen;
      if (state_.compare_exchange_strong(old, state.after_letting_go().pack())) ring();
    } else if (Env::passed(deadline)) {
      break_it(seen, Status::kTimedOut);
    } else {
      Env::sleep(glance, bell_, bell, watched.span(), deadline);
    }
  }
}

// A cell that is free, or whose holder has died, and not of this generation.
template <class Env>
typename BarrierWord<Env>::Arrival BarrierWord<Env>::arrive(Tag me, Deadline deadline) {
  for (;;) {
    const typename Env::Glance glance = Env::look();
    const std::uint32_t bell = bell_.load();
    const std::uint64_t seen = state_.load();
    const State state = State::unpack(seen);
    if (state.status != Status::kWhole) throw_broken(state.status, state.generation);
    Watched watched;
    bool again = false;
    for (std::uint32_t i = 0; i != parties_ && !again; ++i) {
      std::uint64_t cell = cells()[i].load();
      // SUBTLE: the cell was read while the state was this one, so it is not of a later generation;
      // and when this one has been let go, all cells have changed, so the compare-and-swap fails.
      again = state_.load() != seen;
      if (again) break;
      const Tag holder = Tag::from_bits(cell);
      const bool gone = holder.none() || Env::dead(holder);
      if (generation_of(cell) != state.generation && gone) {
        if (cells()[i].compare_exchange_strong(cell, cell_of(state.generation, me))) {
          return {state.generation, i};
        }
        again = true;
      } else if (generation_of(cell) == state.generation && gone) {
        break_it(seen, Status::kDied);
        again = true;
      } else {
        watched.add(holder);
      }
    }
    if (again) continue;
    if (Env::passed(deadline)) {
      break_it(seen, Status::kTimedOut);
      continue;
    }
    if ((bell & kBlocked) == 0) {
      // Marked, then the cells are read again: who leaves one that was read sees the mark.
      std::uint32_t old = bell;
      bell_.compare_exchange_strong(old, bell | kBlocked);
      continue;
    }
    Env::sleep(glance, bell_, bell, watched.span(), deadline);
  }
}

template <class Env>
void BarrierWord<Env>::leave(Tag me, Arrival arrival) {
  std::uint64_t mine = cell_of(arrival.generation, me);
  cells()[arrival.index].compare_exchange_strong(mine, cell_of(arrival.generation, Tag()));
  if ((bell_.load() & kBlocked) != 0) ring();
}

// SUBTLE: who claims in a state that is over meanwhile has claimed nothing, as it looks again; and
// it has not taken it away from the next generation, whose claim would have changed the cell.
template <class Env>
bool BarrierWord<Env>::claim_action(Tag me, std::uint64_t seen) {
  const std::uint64_t generation = State::unpack(seen).generation;
  std::uint64_t actor = actor_.load();
  return generation_of(actor) != generation &&
         actor_.compare_exchange_strong(actor, cell_of(generation, me)) && state_.load() == seen;
}

template <class Env>
bool BarrierWord<Env>::break_it(std::uint64_t seen, Status why) {
  State state = State::unpack(seen);
  if (state.status != Status::kWhole) return true;
  state.status = why;
  if (!state_.compare_exchange_strong(seen, state.pack())) return false;
  ring();
  return true;
}

template <class Env>
void BarrierWord<Env>::ring() {
  std::uint32_t old = bell_.load();
  while (!bell_.compare_exchange_weak(old, (old + 1) & ~kBlocked)) continue;
  Env::wake_all(bell_);
}

template <class Env>
void BarrierWord<Env>::reset() {
  for (;;) {
    std::uint64_t seen = state_.load();
    const State state = State::unpack(seen);
    if (state.status == Status::kWhole && !dead_party(state.generation).none()) {
      // Broken before the dead are struck off: killed in between, the others still learn of them.
      break_it(seen, Status::kDied);
      continue;
    }
    if (state.status != Status::kWhole) {
      for (std::uint32_t i = 0; i != parties_; ++i) {
        std::uint32_t party = enlisted()[i].load();
        const Tag tag = Tag::from_bits(party);
        if (!tag.none() && Env::dead(tag)) enlisted()[i].compare_exchange_strong(party, 0);
      }
    }
    if (!state_.compare_exchange_strong(seen, state.after_reset().pack())) continue;
    ring();
    return;
  }
}

template <class Env>
void BarrierWord<Env>::enlist() {
  const std::uint32_t me = Env::self().bits();
  for (std::uint32_t i = 0; i != parties_; ++i) {
    if (enlisted()[i].load() == me) return;
  }
  for (std::uint32_t i = 0; i != parties_; ++i) {
    std::uint32_t free = 0;
    if (enlisted()[i].compare_exchange_strong(free, me)) return;
  }
  throw StateError(
      fmt::format("this barrier is for {} parties, which have enlisted already; "
                  "reset() strikes off those who died",
                  parties_));
}

template <class Env>
void BarrierWord<Env>::withdraw() {
  for (std::uint32_t i = 0; i != parties_; ++i) {
    std::uint32_t me = Env::self().bits();
    if (enlisted()[i].compare_exchange_strong(me, 0)) return;
  }
}

template <class Env>
std::uint32_t BarrierWord<Env>::n_waiting() const {
  const State state = State::unpack(state_.load());
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i != parties_ && state.status == Status::kWhole; ++i) {
    const std::uint64_t cell = cells()[i].load();
    if (generation_of(cell) == state.generation && !Tag::from_bits(cell).none()) ++count;
  }
  return count;
}

template <class Env>
Tag BarrierWord<Env>::dead_party(std::uint64_t generation) const {
  for (std::uint32_t i = 0; i != parties_; ++i) {
    const std::uint64_t cell = cells()[i].load();
    const Tag waiting = Tag::from_bits(cell);
    if (generation_of(cell) == generation && !waiting.none() && Env::dead(waiting)) return waiting;
    const Tag expected = Tag::from_bits(enlisted()[i].load());
    if (!expected.none() && Env::dead(expected)) return expected;
  }
  return {};
}

template <class Env>
void BarrierWord<Env>::throw_broken(Status why, std::uint64_t generation) const {
  if (why == Status::kAborted) {
    const bool acting = generation_of(actor_.load()) == generation;
    throw BrokenBarrierError(acting ? "this barrier's action failed, or it was aborted while it "
                                      "ran; reset() makes it as new"
                                    : "this barrier was aborted; reset() makes it as new");
  }
  if (why == Status::kTimedOut) {
    throw BrokenBarrierError(
        "this barrier is broken: a party's deadline passed before all had come; reset() makes it "
        "as new");
  }
  Watched dead;  // first, as memory of others may change meanwhile
  const auto note = [&dead](Tag tag) {
    if (tag.none() || !Env::dead(tag)) return;
    for (std::size_t i = 0; i != dead.count; ++i) {
      if (dead.tags[i] == tag) return;
    }
    dead.add(tag);
  };
  for (std::uint32_t i = 0; i != parties_; ++i) {
    const std::uint64_t cell = cells()[i].load();
    if (generation_of(cell) == generation) note(Tag::from_bits(cell));
    note(Tag::from_bits(enlisted()[i].load()));
  }
  std::string names;
  for (const Tag tag : dead.span()) {
    if (!names.empty()) names += ", ";
    names += Env::describe(tag);
  }
  throw BrokenBarrierError(
      fmt::format("this barrier is broken: {} died; reset() makes it as new",
                  names.empty() ? std::string("a party that was struck off since") : names));
}

}  // namespace brood::detail
