#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <brood/memory/object_table.hpp>
#include <brood/memory/segment.hpp>

namespace brood::detail {

/// Where the payloads of objects come from and when a process is dead: the World of ObjectTable
/// that processes use.
class ObjectWorld {
 public:
  template <class T>
  using Atom = std::atomic<T>;
  using Entry = ObjectEntry<>;
  using Header = ObjectTableHeader<>;

  explicit ObjectWorld(Segment& segment) : segment_(&segment) {}

  [[nodiscard]] std::atomic<std::uint32_t>& slot(Tag tag) const {
    return segment_->registry().record(tag).objects;
  }
  [[nodiscard]] bool dead(Tag tag) const;
  void grow(std::uint32_t from, std::uint32_t to) const;
  void take_payload(Entry& entry, std::uint32_t index, std::size_t bytes,
                    std::size_t capacity) const;
  [[nodiscard]] ObjectLink<>* link(std::uint64_t at) const noexcept;
  void free_payload(Entry& entry, std::uint32_t index) const noexcept;
  static void pause(unsigned turn);
  void ended(std::uint32_t kind) const noexcept;

 private:
  Segment* segment_;
};

/// The shared objects of the family: bytes in its segment that live as long as a process holds
/// them, whoever is killed when. What Handle is built on; see ObjectTable for the rules.
///
/// Payloads of up to 64 bytes lie in the descriptor, larger ones elsewhere in the segment; either
/// way they are aligned to 64 bytes, zero at first, and never raise SIGBUS. Any process may use it
/// at once, from any thread.
class Objects {
 public:
  explicit Objects(Segment& segment);
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;

  /// An object that `me` holds. Its payload may grow to `capacity` bytes. Throws SharedMemoryFull.
  ObjectRef create(ObjectType type, std::size_t bytes, std::size_t capacity, Tag me);
  bool adopt(ObjectRef ref, Tag holder, Tag by) { return table_.adopt(ref, holder, by); }
  void drop(ObjectRef ref, Tag holder, Tag by) { table_.drop(ref, holder, by); }
  bool release_all(Tag dead, Tag by) { return table_.release_all(dead, by); }
  [[nodiscard]] bool held(ObjectRef ref, Tag holder) const { return table_.held(ref, holder); }

  /// Whether it is gone; whoever waits for that sleeps on SegmentHeader::objects_ended.
  [[nodiscard]] bool gone(ObjectRef ref) const { return table_.gone(ref); }

  /// Holds by what lies at offset `at` of the segment, whoever ends: see ObjectTable. `link` when
  /// the caller holds the object.
  void link(std::uint64_t at, Tag by) { table_.link(at, by); }
  void unlink(std::uint64_t at, Tag by) noexcept { table_.unlink(at, by); }

  /// More memory for an object that the caller holds, with pages, given back with the object; its
  /// contents are undefined. Throws SharedMemoryFull. And back before that.
  Extent add_extent(ObjectRef ref, std::size_t bytes);
  void return_extent(ObjectRef ref, Extent extent) noexcept;

  /// What is to be done at the end of an object of this kind, before its payload goes: by any
  /// process of the family, and again if that is killed in it. To be called before objects of the
  /// kind are made, in every program that makes them.
  using AtEnd = void (*)(ObjectRef ref, std::span<std::byte> payload) noexcept;
  static void at_end(std::uint32_t kind, AtEnd action) noexcept;

  /// Of an object that the caller holds.
  [[nodiscard]] ObjectType type(ObjectRef ref) const { return table_.entry(ref.index).type; }
  [[nodiscard]] std::span<std::byte> payload(ObjectRef ref) const;
  /// How large it may become.
  [[nodiscard]] std::size_t payload_capacity(ObjectRef ref) const {
    return table_.entry(ref.index).payload_capacity;
  }

  /// How many there are.
  [[nodiscard]] std::size_t count() const;
  template <class Visit>
  void for_each(Visit visit) const {
    table_.for_each(visit);
  }

 private:
  Segment* segment_;
  ObjectWorld world_;
  ObjectTable<ObjectWorld> table_;
};

}  // namespace brood::detail
