// A process of the family that runs instruction by instruction, and dies where the test wants.
#pragma once

#include <csignal>
#include <cstddef>
#include <functional>
#include <memory>

#include <brood/errors.hpp>
#include <brood/memory/heap.hpp>
#include <brood/process/family.hpp>

#include "support/single_step.hpp"

namespace brood::testing {

/// A forked process of the family, in front of the first instruction of `operation`; killed with
/// this object at the latest.
class SteppedMember {
 public:
  explicit SteppedMember(const std::function<void()>& operation)
      : SteppedMember([] {}, operation) {}
  /// The child first does `prepare`, at full speed.
  SteppedMember(const std::function<void()>& prepare, const std::function<void()>& operation)
      : family_(detail::Family::require()),
        tag_(family_->registry().reserve(family_->self(), detail::Role::process, "stepped")),
        steps_(
            [this, &prepare] {
              if (!family_->become(tag_)) throw StateError("not wanted");
              warm_up(family_->heap());
              prepare();
            },
            operation) {}
  SteppedMember(const SteppedMember&) = delete;
  SteppedMember& operator=(const SteppedMember&) = delete;
  ~SteppedMember() {
    steps_.kill();
    family_->registry().note_ended(tag_, -SIGKILL);
    bury();
    family_->registry().free(tag_);
  }

  SingleStep& steps() { return steps_; }
  [[nodiscard]] detail::Tag tag() const { return tag_; }
  /// What a watchdog does for the dead.
  void bury() {
    steps_.kill();
    family_->objects().release_all(tag_, family_->self());
    detail::Heap::recover(family_->segment(), tag_, family_->self());
  }

 private:
  /// So that the operation finds blocks at hand, as in a process that has run for a while, and is
  /// not thousands of instructions of taking pages.
  static void warm_up(detail::Heap& heap) {
    for (std::size_t bytes = 64; bytes <= 4096; bytes *= 2) heap.free(heap.allocate(bytes));
  }

  std::shared_ptr<detail::Family> family_;
  detail::Tag tag_;
  SingleStep steps_;
};

}  // namespace brood::testing
