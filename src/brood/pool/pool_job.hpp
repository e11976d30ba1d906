#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/memory/handle.hpp>
#include <brood/memory/heap.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/range_owner.hpp>

namespace brood::detail {

/// A job as its owner sees it: the shared half, and what only the owner needs to know.
///
/// Private memory of the pool's process; guarded by the pool's mutex. Its shared memory is given
/// back when no worker looks at it any more.
struct PoolJob {
  PoolJob(JobHeader* job_header, RangeBoard<> board) : header(job_header), owner(board) {}

  JobHeader* header;
  RangeOwner<> owner;
  std::vector<Block> blocks;   // all of its shared memory but `arguments`
  std::vector<Handle> kept;    // what these name
  std::uint64_t word = 0;      // its JobWord, also when it has left the table; 0: never was there
  std::uint32_t index = 0;     // its place there
  bool published = false;      // it is there
  bool sleepers_left = false;  // the workers were left to wake each other

  unsigned retries = 0;
  std::unordered_map<std::uint32_t, unsigned> attempts;  // of items whose workers died
  std::unordered_map<std::uint32_t, Crash> crashes;      // items that failed with their worker
  std::vector<std::uint32_t> waiters;                    // items that threads of the owner wait for

  // Of tasks:
  std::unordered_map<std::uint32_t, Block> arguments;  // those that are not inline
  std::unordered_map<std::uint32_t, std::vector<Handle>> kept_arguments;  // what they name
  std::vector<std::uint32_t>
      abandoned;               // nobody wants their results; not final when last looked at
  std::size_t next_sweep = 1;  // abandoned ones that are worth a look
  std::size_t unreleased = 0;  // results that somebody may fetch, or that are abandoned
  bool closed = false;         // no more will be added
};

}  // namespace brood::detail
