// A family of nothing but objects, for tests of ObjectTable.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include <brood/memory/object_table.hpp>

namespace brood::testing {

/// The memory that a kill leaves behind, and that a test copies and puts back.
template <template <class> class A, std::uint32_t Capacity>
struct ObjectMemory {
  std::array<detail::ObjectEntry<A>, Capacity> entries;
  detail::ObjectTableHeader<A> header;
  std::array<A<std::uint32_t>, 16> slots;
  std::array<A<std::uint32_t>, Capacity> payloads;  // large ones that are taken
  std::array<detail::ObjectLink<A>, 16> links;      // of messages, say; at 1 + index
  std::array<std::atomic<std::uint32_t>, 16> dead;  // tags; facts of the kernel, not steps
};

template <template <class> class A, std::uint32_t Capacity>
class ObjectTestWorld {
 public:
  template <class T>
  using Atom = A<T>;
  using Memory = ObjectMemory<A, Capacity>;
  using Entry = detail::ObjectEntry<A>;
  using Header = detail::ObjectTableHeader<A>;
  using Tag = detail::Tag;

  explicit ObjectTestWorld(Memory& memory) : memory_(&memory) {}

  Atom<std::uint32_t>& slot(Tag tag) const { return memory_->slots[tag.slot()]; }
  /// As every process that had the slot before the one that was buried last.
  bool dead(Tag tag) const {
    const Tag last = Tag::from_bits(memory_->dead[tag.slot()].load());
    return tag.generation() <= last.generation();
  }
  void bury(Tag tag) const { memory_->dead[tag.slot()].store(tag.bits()); }
  void grow(std::uint32_t, std::uint32_t) const {}
  void take_payload(Entry& entry, std::uint32_t index, std::size_t, std::size_t capacity) const {
    entry.storage.store(1);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    memory_->payloads[index].store(1);
    entry.payload_at = index + 1;
    entry.payload_capacity = capacity;
  }
  detail::ObjectLink<A>* link(std::uint64_t at) const { return &memory_->links[at - 1]; }
  void free_payload(Entry& entry, std::uint32_t index) const {
    if (entry.storage.load() == 0) return;
    memory_->payloads[index].store(0);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    entry.storage.store(0);
  }
  void pause(unsigned) const {
    if (on_pause) on_pause();
  }

  std::function<void()> on_pause;

  /// What is wrong when nobody is at anything and none of `gone` is to be found, if anything.
  [[nodiscard]] std::string verdict(std::initializer_list<Tag> gone) const {
    for (std::uint32_t i = 0; i != Capacity; ++i) {
      const Entry& entry = memory_->entries[i];
      const auto word = detail::ObjectWord::unpack(entry.word.load());
      const std::string what = "object " + std::to_string(i) + " ";
      if (word.busy()) return what + "is still being changed by " + std::to_string(word.tag.slot());
      bool held = false;
      for (const auto& bits : entry.holders) held = held || bits.load() != 0;
      std::uint32_t links = 0;
      for (const auto& link : memory_->links) {
        if (link.ref.index == i && link.ref.generation == word.generation)
          links += link.held.load();
      }
      if (entry.links.load() != links) {
        return what + "counts " + std::to_string(entry.links.load()) + " links, not " +
               std::to_string(links);
      }
      if (entry.link_at.load() != 0) return what + "has a link that is being changed";
      held = held || links != 0;
      const bool live = word.state == detail::ObjectState::live;
      if (held != live) return what + (live ? "is held by nobody" : "is free and held");
      const bool large = live && entry.bytes > Entry::kInlineBytes;
      if ((memory_->payloads[i].load() != 0) != large) {
        return what + (large ? "has lost its payload" : "has left a payload behind");
      }
      for (const Tag tag : gone) {
        const bool bit = (entry.holders[tag.slot() / 64].load() >> tag.slot() % 64 & 1U) != 0;
        if (bit && memory_->slots[tag.slot()].load() == tag.bits()) {
          return what + "is still held by the dead";
        }
      }
    }
    return {};
  }

 private:
  Memory* memory_;
};

}  // namespace brood::testing
