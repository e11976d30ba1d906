#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <brood/memory/handle.hpp>
#include <brood/memory/heap.hpp>
#include <brood/memory/objects.hpp>
#include <brood/memory/segment.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// This process as a member of its family: the shared segment, its own tag and heap, and a way to
/// sleep that no death outlasts. All that layers below `process` need to know of the family.
///
/// There is one per process, made and ended by the layer `process` (see Family, which is the only
/// kind there is). Any thread may use it.
class Member {
 public:
  /// This process's, or null when it is in no family.
  static std::shared_ptr<Member> current() noexcept;
  /// The same, but founds a family where that is safe without a Runtime. Throws StateError with the
  /// line to add to the program. Defined by the layer `process`, which alone can do it.
  static std::shared_ptr<Member> require();

  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  virtual ~Member();

  [[nodiscard]] Segment& segment() { return segment_; }
  [[nodiscard]] Registry& registry() { return segment_.registry(); }
  [[nodiscard]] Heap& heap() { return *heap_; }
  [[nodiscard]] Objects& objects() { return objects_; }
  /// What this process holds of them.
  [[nodiscard]] HandleTable& handles() { return handles_; }
  /// False in a copy that somebody made by fork(2) and that is no member.
  [[nodiscard]] bool is_this_process() const noexcept;
  /// The tag of this process; changes when a copy of it becomes a child.
  [[nodiscard]] Tag self() const { return self_; }

  /// To sleep without missing anything: look() first, then check what you wait for, then sleep().
  /// It ends when one of `words` changes, when a process is born or dies, or at the deadline; the
  /// caller looks again. Never sleeps longer than a backstop that covers a lost watchdog.
  class Glance {
    friend class Member;
    friend bool operator==(Glance, Glance) = default;
    std::uint32_t epoch_;
  };
  [[nodiscard]] Glance look() const;
  void sleep(Glance glance, std::span<const FutexWord> words, Deadline deadline) const;
  /// The same, and ends when one of `holders` dies (as many as there is room for; the watchdog
  /// announces the others). Returns at once when one is dead already. The kernel tells a death to
  /// one sleeper only: that one announces it, so that all hear of it.
  void sleep(Glance glance, std::span<const FutexWord> words, std::span<const Tag> holders,
             Deadline deadline) const;

  /// A process watches the family and announces deaths.
  [[nodiscard]] bool watched() const;
  /// Sees to it that a process watches, so that even this one's death by SIGKILL is noticed. Where
  /// none can be had, nothing happens.
  virtual void ensure_watched() noexcept {}

 protected:
  explicit Member(Segment segment);

  /// Where current() looks.
  static std::shared_ptr<Member>& the_member() noexcept;
  /// From now on this process is the participant `tag`. False if that is not wanted any more.
  bool join_as(Tag tag);
  /// Lets go of the life word, once: from then on the others take this process for gone, and its
  /// threads have no tags any more.
  void leave() noexcept;

 private:
  Segment segment_;
  Tag self_;
  int pid_ = 0;
  std::unique_ptr<Heap> heap_;
  Objects objects_;
  HandleTable handles_;
};

}  // namespace brood::detail
