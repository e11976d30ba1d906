// A family as it is at one moment, read from its memory while it goes on.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <brood/memory/heap.hpp>
#include <brood/memory/segment.hpp>

#include "system_view.hpp"

namespace brood::top {

/// A thread that sleeps on something of the family's.
struct Wait {
  detail::Tag who;
  detail::Tag process;
  std::uint64_t at = 0;  // the word's offset
  double seconds = 0;
  std::optional<std::size_t> object = {};  // index in Snapshot::objects
  std::optional<detail::Tag> end_of = {};  // it waits for the end of that process
};

struct ProcessView {
  detail::Tag tag;
  int pid = 0;
  std::string name;
  std::string role;    // root, process, worker, watchdog
  std::string method;  // forkserver, fork, spawn; empty: it was not started
  std::string state;   // starting, live, dead (not yet cleaned up after), ended
  detail::Tag parent;
  std::optional<SystemView> system = {};
  double cpu_percent = 0;  // since the snapshot before
  std::uint64_t shared_bytes = 0;
};

/// A shared object.
struct ObjectView {
  std::uint32_t index = 0;
  std::string kind;
  std::uint64_t bytes = 0;
  std::size_t holders = 0;  // processes that have a handle
  std::uint64_t payload_begin = 0;
  std::uint64_t payload_end = 0;
  std::vector<std::size_t> waits = {};  // indices in Snapshot::waits

  // Of what can be locked.
  bool lockable = false;
  detail::Tag owner = {};
  bool owner_died = false;
  // Of a shared lock: how many share it. Of a semaphore: free permits, and how many there may be.
  std::optional<std::uint64_t> readers = {};
  std::optional<std::uint64_t> permits = {};
  std::optional<std::uint64_t> capacity = {};
  // Of an event.
  std::optional<bool> set = {};
  // Of a queue.
  std::optional<std::uint64_t> depth = {};
  std::uint64_t maxsize = 0;
  bool closed = false;
  bool is_log = false;
};

/// A pool, as its workers and the job table show it.
struct PoolView {
  struct Worker {
    detail::Tag process;
    std::uint32_t slot = 0;
    std::string doing;                        // starting, idle, computes, between two items
    std::uint64_t job = 0;                    // JobWord
    std::optional<std::uint32_t> item = {};   // of the map that it computes
    std::optional<double> seconds = {};       // it has been at that
    bool at_least = false;                    // `seconds` is how long it was seen to be at it
    double seen_since = 0;                    // the first snapshot that saw it there
    std::uint64_t items = 0;                  // this slot's workers have computed
    std::optional<double> busy_percent = {};  // since the snapshot before, or its beginning
    std::int64_t idle_nanoseconds = 0;
  };
  struct Job {
    bool is_map = false;
    std::uint32_t items = 0;
    std::uint32_t left = 0;
    std::int32_t priority = 0;
  };
  std::uint64_t at = 0;  // offset of its control block
  std::string name;
  detail::Tag owner;
  std::vector<Worker> workers = {};
  std::vector<Job> jobs = {};
  std::uint64_t items = 0;                // computed since it was made
  std::optional<double> per_second = {};  // since the snapshot before

  [[nodiscard]] const Worker* find(detail::Tag process) const;
};

struct Snapshot {
  double at = 0;  // steady clock, seconds
  int root_pid = 0;
  std::vector<ProcessView> processes;
  std::vector<ObjectView> objects;
  std::vector<Wait> waits;
  std::vector<PoolView> pools;
  detail::MemoryUse memory;
  std::uint32_t log_level = 0;
  std::uint64_t log_lost = 0;
  std::optional<std::size_t> most_waited_for = {};       // in objects
  std::vector<std::vector<detail::Tag>> deadlocks = {};  // each waits for the next, the last for
                                                         // the first

  [[nodiscard]] const ProcessView* find(detail::Tag process) const;
  [[nodiscard]] const Wait* wait_of(detail::Tag who) const;
  [[nodiscard]] const PoolView::Worker* worker(detail::Tag process) const;
};

/// `before`: the one before, for the load. Bytes are taken as they are found: numbers may be some
/// moments apart, and damaged memory may be anything, a crash too.
Snapshot take_snapshot(detail::Segment& family, const Snapshot* before);

/// The part of it that is about objects.
std::vector<ObjectView> look_at_objects(detail::Segment& family);
/// The part about pools; `now` has its processes already.
std::vector<PoolView> look_at_pools(detail::Segment& family, const Snapshot& now,
                                    const Snapshot* before);

}  // namespace brood::top
