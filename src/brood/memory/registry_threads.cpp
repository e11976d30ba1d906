#include <cerrno>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/registry.hpp>

namespace brood::detail {
namespace {

std::uint32_t index_of(Tag tag) { return tag.slot() - Tag::kProcessSlots; }

}  // namespace

Tag Registry::take_thread(Tag process) {
  for (std::uint32_t tried = 0; tried < Tag::kThreadSlots; ++tried) {
    // Relaxed: a hint.
    const std::uint32_t index =
        threads_->next.fetch_add(1, std::memory_order_relaxed) % Tag::kThreadSlots;
    const std::uint32_t slot = Tag::kProcessSlots + index;
    std::atomic<std::uint64_t>& word = threads_->words[index];
    LifeMutex& life_of_slot = lives_[slot].mutex;
    std::uint64_t old = word.load();
    const ThreadWord seen = ThreadWord::unpack(old);
    if (seen.state == ThreadState::taken && life_of_slot.alive()) continue;
    if (seen.state == ThreadState::claimed && alive(seen.process)) continue;
    // SUBTLE: claimed with the next generation before the life word is locked. The other way round
    // the tag of the dead would look alive while its life word is already the next one's. Who locks
    // it without holding the claim any more is a thread whose process was killed a moment ago: it
    // lets go, or is gone.
    const ThreadWord claim{
        .state = ThreadState::claimed,
        .generation = seen.generation == Tag::kMaxGeneration ? 1 : seen.generation + 1,
        .process = process};
    if (!word.compare_exchange_strong(old, claim.pack())) continue;
    ThreadWord next = claim;
    next.state = ThreadState::free;
    old = claim.pack();
    if (!life_of_slot.lock_for_life()) {
      const int error = errno;
      word.compare_exchange_strong(old, next.pack());
      if (error == EBUSY) continue;
      throw SystemError("pthread_mutex_lock", "the life word of this thread", error);
    }
    next.state = ThreadState::taken;
    if (word.compare_exchange_strong(old, next.pack())) return {slot, claim.generation};
    life_of_slot.release();
  }
  throw SharedMemoryFull(fmt::format(
      "the family has {} threads already that wait or hold something, which is the most",
      Tag::kThreadSlots));
}

void Registry::give_back_thread(Tag tag) noexcept {
  // The word first: as long as it says `taken`, the life word is this thread's.
  std::atomic<std::uint64_t>& word = threads_->words[index_of(tag)];
  ThreadWord next = ThreadWord::unpack(word.load());
  next.state = ThreadState::free;
  word.store(next.pack());
  lives_[tag.slot()].mutex.release();
}

bool Registry::thread_alive(Tag tag) const noexcept {
  if (threads_ == nullptr) return false;
  const ThreadWord word = ThreadWord::unpack(threads_->words[index_of(tag)].load());
  return word.state == ThreadState::taken && word.generation == tag.generation() &&
         life(tag).alive();
}

Tag Registry::process_of(Tag tag) const noexcept {
  if (tag.is_process() || threads_ == nullptr) return tag;
  const ThreadWord word = ThreadWord::unpack(threads_->words[index_of(tag)].load());
  return word.generation == tag.generation() ? word.process : Tag();
}

}  // namespace brood::detail
