#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <brood/memory/extents.hpp>
#include <brood/memory/heap_board.hpp>
#include <brood/memory/log_cell.hpp>
#include <brood/memory/name_register.hpp>
#include <brood/memory/object_table.hpp>
#include <brood/memory/registry.hpp>
#include <brood/memory/replaced_bytes.hpp>
#include <brood/memory/wait_note.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/futex.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood::detail {

/// What stands at the start of a family's memory. Written once by the creator before anybody else
/// can see it; afterwards only the atomics change.
struct alignas(64) SegmentHeader {
  static constexpr std::uint64_t kMagic = 0x31304444'4F4F5242;  // "BROODD01"
  static constexpr std::uint32_t kLayoutVersion = 6;

  std::uint64_t magic;
  std::uint32_t layout_version;
  std::uint32_t root_pid;  // the process that made the family
  std::uint64_t bytes;     // size of the whole segment
  std::uint64_t lives_at;  // offsets of the parts
  std::uint64_t records_at;
  std::uint64_t directory_at;
  std::uint64_t data_at;  // the tables of HeapBoard lie between the directory and the data
  std::uint64_t granule_bytes;
  /// Grows at every birth and death. Every sleep in the family also watches it.
  alignas(64) std::atomic<std::uint32_t> death_epoch;
  /// Tag of the root; of the process that watches the family (none: nobody does).
  std::atomic<std::uint32_t> root;
  std::atomic<std::uint32_t> watchdog;
  std::uint32_t reserved;
  /// See Extents.
  std::atomic<std::uint64_t> high_water;
  /// The table of objects: where it begins, and what it has beside the descriptors.
  std::uint64_t objects_at;
  ObjectTableHeader<> objects;
  /// Grows when an object is gone whose end is announced (see end_is_announced).
  std::atomic<std::uint32_t> objects_ended;
  std::uint32_t padding[4];
  AuthKeyCell authkey;
  LogCell log;
};
static_assert(sizeof(SegmentHeader) == 2752);
static_assert(sizeof(SegmentHeader) <= 4096, "the life words begin on the next page");

/// The memory of one family: a memfd, reserved large, grown sparse, mapped once in each process.
///
/// Header, life words, participant records, slots of threads, what they wait for, names, the
/// directory of extents, notes and block states of the heap, the descriptors of objects, then data.
/// Everything is found by offsets, as processes may map it at different addresses. It is gone when
/// the last process that maps it is gone.
class Segment {
 public:
  /// Makes the memory of a new family. Takes as much address space as RLIMIT_AS leaves room for.
  /// Throws SystemError.
  static Segment create();
  /// Maps the memory of a family that this process was executed into. Throws DecodeError when it is
  /// not one of this version's.
  static Segment attach(Fd file);
  /// The same, to look at only: what writes to it must not be called. Throws SystemError, too.
  static Segment look_at(Fd file);

  [[nodiscard]] const Fd& file() const { return file_; }
  [[nodiscard]] SegmentHeader& header() const {
    return *reinterpret_cast<SegmentHeader*>(mapping_.data());
  }
  [[nodiscard]] Registry& registry() { return registry_; }
  [[nodiscard]] const Registry& registry() const { return registry_; }
  [[nodiscard]] Extents& extents() { return extents_; }
  /// The shared part of the heap; to allocate, see Heap.
  [[nodiscard]] HeapBoard<>& heap() { return heap_; }
  [[nodiscard]] const HeapBoard<>::Tables& heap_tables() const { return heap_tables_; }
  [[nodiscard]] NameRegister& names() { return names_; }
  [[nodiscard]] WaitNote& wait_note(Tag tag) const;
  /// The descriptors of shared objects, untouched pages but for the first; see Objects.
  [[nodiscard]] ObjectEntry<>* objects() const;
  [[nodiscard]] std::uint32_t most_objects() const;

  [[nodiscard]] std::size_t size() const { return mapping_.size(); }
  /// The offset of an address within it, and back. An offset from elsewhere is checked: throws
  /// DecodeError unless [offset, offset + bytes) lies in the data.
  [[nodiscard]] std::uint64_t offset_of(const void* address) const {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - mapping_.data());
  }
  [[nodiscard]] std::byte* at(std::uint64_t offset) const { return mapping_.data() + offset; }
  [[nodiscard]] std::byte* checked(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  Segment(Fd file, Mapping mapping);
  static Segment checked(Fd file, bool writable);

  Fd file_;
  Mapping mapping_;
  std::uint64_t data_at_;
  Registry registry_;
  Extents extents_;
  HeapBoard<>::Tables heap_tables_;
  HeapBoard<> heap_;
  NameRegister names_;
};

/// Announces a birth or death: whoever sleeps in the family looks again at what it waits for.
/// Announcing twice is harmless; an announcer that is killed half-way is followed by another.
void announce(SegmentHeader& header) noexcept;

}  // namespace brood::detail
