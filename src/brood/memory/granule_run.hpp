#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <brood/memory/tag.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood::detail {

/// The word of a granule in the directory: {group 32 | tag 28}, 0 when it is free. Groups below
/// kHeapGroups are their holder's own numbers; those above say what the heap uses it for.
constexpr std::uint64_t granule_word(Tag holder, std::uint32_t group) {
  return std::uint64_t{group} << 32U | holder.bits();
}
constexpr std::uint32_t group_of(std::uint64_t word) {
  return static_cast<std::uint32_t>(word >> 32U);
}

inline constexpr std::uint32_t kHeapGroups = 0x40000000;
inline constexpr std::size_t kNoRun = ~std::size_t{0};

/// At which granules a run may begin: those whose index is `first` more than a multiple of `every`.
struct RunStart {
  std::size_t every = 1;
  std::size_t first = 0;
};

/// Where a run of `granules` had better begin, of those that lie at `data`: so that all of it can
/// be huge pages, if it is that long.
inline RunStart huge_page_start(const std::byte* data, std::size_t granule_bytes,
                                std::size_t granules) {
  const auto before = reinterpret_cast<std::uintptr_t>(data) % kHugePage;
  const std::size_t every = kHugePage / granule_bytes;
  if (every < 2 || granules < every || kHugePage % granule_bytes != 0 ||
      before % granule_bytes != 0) {
    return {};
  }
  return {.every = every, .first = (kHugePage - before) / granule_bytes % every};
}

/// Takes `wanted` free granules in a row: the first becomes `first`, each further one `step` more.
/// First fit of those that begin at a `start`; when a granule in the middle is somebody's, those
/// taken so far are given back and the search goes on behind it. Returns the index of the first, or
/// kNoRun.
///
/// A run is taken from its first granule on and given back from its last. So as long as any of it
/// is held its first granule is, and no other run can begin there.
template <class Word>
std::size_t take_run(Word* directory, std::size_t granules, Word& high_water, std::size_t wanted,
                     std::uint64_t first, std::uint64_t step, RunStart start = {}) noexcept {
  std::size_t run = 0;
  const auto give_back = [&](std::size_t end) {
    // release: as in Extents::release().
    for (; run > 0; --run, --end) directory[end - 1].store(0, std::memory_order_release);
  };
  for (std::size_t i = 0; i < granules; ++i) {
    if (run == 0 && i % start.every != start.first) continue;
    // Raised before the granule is taken: what lies above the mark is free, whoever is killed.
    std::uint64_t mark = high_water.load(std::memory_order_seq_cst);
    while (mark <= i && !high_water.compare_exchange_weak(mark, i + 1)) continue;
    std::uint64_t free = 0;
    // acquire: pairs with the release of whoever gave it back, so that its last holder's writes
    // are over. relaxed: only whether it is worth trying.
    if (directory[i].load(std::memory_order_relaxed) == 0 &&
        directory[i].compare_exchange_strong(free, first + run * step, std::memory_order_acquire)) {
      if (++run == wanted) return i + 1 - wanted;
      continue;
    }
    give_back(i);
  }
  give_back(granules);
  return kNoRun;
}

}  // namespace brood::detail
