#include <brood/memory/this_thread.hpp>

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/platform/thread_events.hpp>

namespace brood::detail {
namespace {

/// A thread's slot, or for the thread that has its process's tag only where that stands. It keeps
/// the family's memory mapped until the thread ends, as the kernel's list of the thread's life
/// words leads there.
struct Seat {
  std::shared_ptr<Member> member;  // null: no slot
  Tag tag;
  std::atomic<std::uint32_t>* bits;  // the thread's ThisThread::tag_bits_
};

/// The seats of this process. Never destroyed: threads may outlive main.
struct Seats {
  Seats();
  std::mutex mutex;
  std::vector<std::atomic<std::uint32_t>*> tags;  // of all threads that have one
  std::atomic<bool> is_stray{false};              // a fork that Brood did not make, or not yet
  AtThreadEnd at_end;
};

Seats& seats() {
  static auto* all = new Seats;
  return *all;
}

void give_back(void* argument) {
  const std::unique_ptr<Seat> seat(static_cast<Seat*>(argument));
  {
    const std::scoped_lock guard(seats().mutex);
    std::erase(seats().tags, seat->bits);
  }
  seat->bits->store(0, std::memory_order_relaxed);
  if (seat->member) seat->member->registry().give_back_thread(seat->tag);
}

// NOTE: in the child only the forking thread runs, with a copy of the tag that is its parent's.
void forked() {
  for (std::atomic<std::uint32_t>* bits : seats().tags) bits->store(0, std::memory_order_relaxed);
  seats().tags.clear();
  seats().is_stray.store(true);
  // The seat is the parent's: the copy of it is forgotten, not given back.
  delete static_cast<Seat*>(seats().at_end.argument());
  seats().at_end.arm(nullptr);
  seats().mutex.unlock();
}

/// Gives the calling thread a tag in place of the one it had, in an earlier family if any.
void sit_down(std::shared_ptr<Member> member, Tag tag, std::atomic<std::uint32_t>& bits) {
  if (void* old = seats().at_end.argument(); old != nullptr) {
    seats().at_end.arm(nullptr);
    give_back(old);
  }
  seats().at_end.arm(new Seat{std::move(member), tag, &bits});
  const std::scoped_lock guard(seats().mutex);
  seats().tags.push_back(&bits);
  bits.store(tag.bits(), std::memory_order_relaxed);
}

Seats::Seats() : at_end(give_back) {
  on_fork([] { seats().mutex.lock(); }, [] { seats().mutex.unlock(); }, forked);
}

}  // namespace

void ThisThread::joined(Tag tag) {
  seats().is_stray.store(false);
  sit_down(nullptr, tag, tag_bits_);
}

void ThisThread::forget_all() noexcept {
  const std::scoped_lock guard(seats().mutex);
  for (std::atomic<std::uint32_t>* bits : seats().tags) bits->store(0, std::memory_order_relaxed);
  seats().tags.clear();
}

Tag ThisThread::take() {
  if (seats().is_stray.load()) {
    throw StateError(
        "this process is a fork that Brood did not make, so it is no member of the family: start "
        "it as a brood::Process to use locks and the like in it");
  }
  std::shared_ptr<Member> member = Member::require();
  // Founding the family made this thread the process's; otherwise it takes a slot.
  if (const std::uint32_t bits = tag_bits_.load(std::memory_order_relaxed); bits != 0) {
    return Tag::from_bits(bits);
  }
  const Tag tag = member->registry().take_thread(member->self());
  sit_down(std::move(member), tag, tag_bits_);
  return tag;
}

}  // namespace brood::detail
