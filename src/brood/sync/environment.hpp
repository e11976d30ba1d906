#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include <brood/memory/member.hpp>
#include <brood/memory/this_thread.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// What the words of this layer need of the world: who am I, who is dead, and the one way to sleep.
///
/// The words are templates on it, so that tests can put a scheduler that they control, or memory of
/// their own, in its place. This is the real one: the family of this process. The words live in the
/// memory of that family.
///
/// To sleep without missing anything: look() first, then check what you wait for, then sleep(),
/// then check again. A sleep ends when the word changes or is woken, when one of `holders` dies,
/// when anybody's death is announced, at the deadline, or for no reason.
struct Environment {
  template <class T>
  using Atom = std::atomic<T>;
  using Word = Atom<std::uint32_t>;
  using Glance = Member::Glance;

  static Tag self() { return ThisThread::tag(); }
  /// Whether the thread that held this tag is over. For ever, once it is true.
  static bool dead(Tag tag) noexcept;

  /// "brood-worker-2 (pid 123)", for the text of an error; of a thread, that of its process.
  static std::string describe(Tag tag);

  static Glance look();
  /// Whether somebody died, or was born, since; or may have, as nobody announces deaths now.
  static bool may_have_died(Glance since);
  static void sleep(Glance glance, const Word& word, std::uint32_t expected,
                    std::span<const Tag> holders, Deadline deadline);
  static void sleep(Glance glance, const Word& word, std::uint32_t expected, Tag holder,
                    Deadline deadline) {
    sleep(glance, word, expected, std::span(&holder, holder.none() ? 0 : 1), deadline);
  }
  static bool passed(Deadline deadline) { return deadline.passed(); }
  /// Wakes up to `count` of those who sleep on the word; returns how many.
  static int wake(const Word& word, int count) noexcept { return futex_wake(word, count); }
  static int wake_all(const Word& word) noexcept { return futex_wake_all(word); }
  /// A death was noticed: everybody looks again at what they wait for.
  static void announce() noexcept;

  /// How often it is worth to look again before sleeping: 0 where there is one processor only.
  static int spins() noexcept;
  static void relax() noexcept { cpu_relax(); }
};

}  // namespace brood::detail
