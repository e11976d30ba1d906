#pragma once

#include <cstdint>

#include <brood/errors.hpp>
#include <brood/memory/heap.hpp>
#include <brood/platform/crash_note.hpp>
#include <brood/platform/oom_watch.hpp>
#include <brood/process/child_process.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {

/// A note for each worker of a pool, in which it says how it died, and what else can be found out
/// about a death.
///
/// In the family's shared memory; read by the pool's process, with the pool's mutex held, when the
/// worker is gone. Of the process that made it: it gives the memory back there and nowhere else.
class CrashBoard {
 public:
  /// Throws SharedMemoryFull.
  CrashBoard(std::shared_ptr<Family> family, std::uint32_t slots);
  CrashBoard(const CrashBoard&) = delete;
  CrashBoard& operator=(const CrashBoard&) = delete;
  /// When the workers are gone.
  ~CrashBoard();

  /// For a worker that is about to start: an empty note; its place in the segment.
  std::uint64_t prepare(std::uint32_t slot) noexcept;
  /// How the worker ended, which has been reaped.
  Crash examine(std::uint32_t slot, ChildProcess& process);

 private:
  [[nodiscard]] CrashNote* notes() const { return reinterpret_cast<CrashNote*>(block_.data); }

  std::shared_ptr<Family> family_;
  Tag creator_;
  Block block_;
  OomWatch oom_;
};

/// In a worker: from now on it leaves a note at its place if it crashes.
void leave_crash_note_at(Segment& segment, std::uint64_t place);

}  // namespace brood::detail
