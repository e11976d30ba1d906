#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include <brood/memory/heap.hpp>
#include <brood/memory/segment.hpp>
#include <brood/pool/timeline_row.hpp>

namespace brood::detail {

/// The timeline of a pool, as its owner has it: the workers' rows, what befell them, and how it is
/// written. Guarded by the pool's mutex. Bounded: of each worker the last TimelineRow::kSlices
/// slices, of the rest the first kMostNotes.
class Timeline {
 public:
  static constexpr std::size_t kMostNotes = 100'000;

  /// Throws SystemError when there can be no file at `path`, SharedMemoryFull.
  Timeline(Heap& heap, Segment& segment, std::uint32_t slots, std::string path, std::string name);
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;
  ~Timeline();

  /// Where the rows are.
  [[nodiscard]] std::uint64_t at() const;
  [[nodiscard]] const std::string& path() const { return path_; }

  /// What the items of a job are called, and the number of its first.
  void label(std::uint64_t job, std::string text, std::uint64_t first);
  /// Something happened at once, to the worker in `slot`.
  void note(std::uint32_t slot, std::string what);
  /// The worker in `slot` has ended, in whatever it was in.
  void ended(std::uint32_t slot);

  /// As trace-event JSON, which Perfetto and chrome://tracing open:
  /// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
  /// Throws SystemError.
  void write(const std::string& path) const;

 private:
  struct Note {
    std::uint32_t slot;
    std::int64_t time;
    std::string what;
  };
  struct Last {
    std::uint32_t slot;
    TimelineRow::Slice slice;
  };
  struct Label {
    std::string text;
    std::uint64_t first;
  };
  void put(std::string& out, std::uint32_t slot, const TimelineRow::Slice& slice) const;

  Heap& heap_;
  Segment& segment_;
  std::string path_;
  std::string name_;
  Block block_;
  TimelineRow* rows_;
  std::uint32_t slots_;
  std::int64_t start_;
  std::vector<Note> notes_;
  std::vector<Last> lasts_;  // what workers were in when they ended
  std::unordered_map<std::uint64_t, Label> labels_;
};

}  // namespace brood::detail
