#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/memory/handle.hpp>
#include <brood/memory/heap.hpp>
#include <brood/pool/call_limits.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/range_owner.hpp>

namespace brood::detail {

/// How an attempt at an item came to nothing.
enum class FailureKind : std::uint8_t {
  exception,  // the item is final on the board as kAsked
  crash,      // it is a culprit of the board that is not settled yet
  stopped,    // the same: its worker was killed because of a limit
};

/// A job as its owner sees it: the shared half, and what only the owner needs to know.
///
/// Private memory of the pool's process; guarded by the pool's mutex. Its shared memory is given
/// back when no worker looks at it any more.
struct PoolJob : std::enable_shared_from_this<PoolJob> {
  PoolJob(JobHeader* job_header, RangeBoard<> board) : header(job_header), owner(board) {}

  JobHeader* header;
  RangeOwner<> owner;
  std::vector<Block> blocks;   // all of its shared memory but `arguments`
  std::vector<Handle> kept;    // what these name
  std::uint64_t word = 0;      // its JobWord, also when it has left the table; 0: never was there
  std::uint32_t index = 0;     // its place there
  bool published = false;      // it is there
  bool sleepers_left = false;  // the workers were left to wake each other

  std::string label;        // what its items are called; empty: items
  std::uint32_t slots = 0;  // of its board
  int priority = 0;
  bool asks_owner = false;  // exceptions are not final before the owner has said so
  bool given_up = false;    // cancelled: nothing of it is begun any more

  /// Of a map: what its items are called, where that is not 0, 1, 2 ...: a part of a stream.
  std::vector<std::uint64_t> numbers;
  std::shared_ptr<const CallLimits> limits;                // of a map
  std::unordered_map<std::uint32_t, std::uint64_t> notes;  // of a map: where each item's error is
  std::vector<std::uint64_t> note_heads;                   // by slot: what is known of its chain
  std::unordered_map<std::uint32_t, unsigned> attempts;    // those that failed
  std::uint64_t deaths = 0;                                // of workers, in its items
  std::unordered_map<std::uint32_t, std::exception_ptr> verdicts;  // of items ended by the owner
  std::exception_ptr expired;                               // why all that is left was cancelled
  std::unordered_map<std::uint32_t, FailureKind> deferred;  // will be run again, or is asked about
  std::uint32_t calls_seen = 0;                             // of the header's count
  bool look_for_failures = false;                           // whatever the count says
  std::vector<std::uint32_t> waiters;  // items that threads of the owner wait for

  // Of tasks:
  std::unordered_map<std::uint32_t, Block> arguments;  // those that are not inline
  std::unordered_map<std::uint32_t, std::vector<Handle>> kept_arguments;  // what they name
  std::vector<std::uint32_t>
      abandoned;               // nobody wants their results; not final when last looked at
  std::size_t next_sweep = 1;  // abandoned ones that are worth a look
  std::size_t unreleased = 0;  // results that somebody may fetch, or that are abandoned
  bool closed = false;         // no more will be added
  /// The limits of tasks from `first` on, up to those of the next: calls of one caller follow one
  /// another, and so cost nothing each.
  struct LimitsFrom {
    std::uint32_t first;
    std::shared_ptr<const CallLimits> limits;  // null: none
  };
  std::vector<LimitsFrom> task_limits;
  std::size_t timed_tasks = 0;  // those that must be looked at
  std::chrono::nanoseconds shortest{std::chrono::nanoseconds::max()};  // of their limits
  struct Continuation {
    std::uint32_t item;
    std::function<void()> run;
  };
  std::vector<Continuation> continuations;

  [[nodiscard]] std::uint64_t number(std::uint32_t item) const {
    return item < numbers.size() ? numbers[item] : item;
  }
  [[nodiscard]] const CallLimits* limits_of(std::uint32_t item) const {
    if (header->kind == JobHeader::kMap) return limits.get();
    const auto behind =
        std::upper_bound(task_limits.begin(), task_limits.end(), item,
                         [](std::uint32_t i, const LimitsFrom& run) { return i < run.first; });
    return behind != task_limits.begin() ? (behind - 1)->limits.get() : nullptr;
  }
  [[nodiscard]] bool timed() const { return (limits && limits->timed()) || timed_tasks > 0; }
  /// All that is left of it is results that nobody wants.
  [[nodiscard]] bool only_abandoned() const {
    return !abandoned.empty() && abandoned.size() == unreleased;
  }
  /// Nothing of it will change any more, and nobody is to be told.
  [[nodiscard]] bool over() {
    return owner.finished() && deferred.empty() && continuations.empty() &&
           (!asks_owner || owner.first_of(ItemState::kException, 0) == owner.existing());
  }
  /// Final, and not to be run again.
  [[nodiscard]] bool decided(std::uint32_t item) const {
    const ItemState state = owner.board().state(item);
    return is_final(state) && state != ItemState::kAsked &&
           !(asks_owner && state == ItemState::kException);
  }
};

}  // namespace brood::detail
