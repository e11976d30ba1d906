#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/outcome.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/shared_array.hpp>

namespace brood::detail {

/// How a map_reduce() is cut: each block is an item of a map, which is reduced where it is mapped.
struct ReduceBlocks {
  static constexpr std::size_t kPerWorker = 16;
  /// Between the places in which blocks say where they are: each on a cache line of its own.
  static constexpr std::size_t kCursorStride = 16;

  ReduceBlocks(std::size_t all, std::size_t chunk, std::size_t workers)
      : items(all),
        size(chunk != 0 ? chunk : all / (workers * kPerWorker) + 1),
        count((all + size - 1) / size) {}
  [[nodiscard]] std::size_t size_of(std::size_t block) const {
    return std::min(size, items - block * size);
  }
  std::size_t items;
  std::size_t size;
  std::size_t count;
};

/// The inputs of a block, where they are an integer and those that follow it.
template <class T>
struct CountBlock {
  T first;
  std::uint64_t count;
  [[nodiscard]] std::uint64_t size() const { return count; }
  T operator[](std::uint64_t i) const { return static_cast<T>(first + static_cast<T>(i)); }
};
template <class Range, class T>
using block_input_t =
    std::conditional_t<is_count_of<std::remove_cvref_t<Range>, T>, CountBlock<T>, std::vector<T>>;

/// The inputs of all blocks, each made when it is asked for, in one pass.
template <class Block, class Range>
auto blocks_of(Range& range, ReduceBlocks blocks) {
  const auto at = std::make_shared<std::ranges::iterator_t<Range>>(std::ranges::begin(range));
  return std::views::iota(std::size_t{0}, blocks.count) |
         std::views::transform([at, blocks](std::size_t block) {
           const std::size_t count = blocks.size_of(block);
           if constexpr (requires(Block b) { b.first; }) {
             using T = decltype(Block::first);
             return Block{static_cast<T>(**at + static_cast<T>(block * blocks.size)), count};
           } else {
             Block inputs;
             inputs.reserve(count);
             for (std::size_t i = 0; i < count; ++i, ++*at) {
               inputs.push_back(static_cast<typename Block::value_type>(**at));
             }
             return inputs;
           }
         });
}

/// Maps and reduces a block in a worker. `cursors` says where it is, for who must know when it
/// died.
template <class Result, class F, class G, class... Blocks>
struct BlockCall {
  Result operator()(const F& f, const G& g, const SharedArray<std::uint32_t>& cursors,
                    std::uint64_t size, std::uint64_t block, const Blocks&... inputs) const {
    const std::atomic_ref<std::uint32_t> cursor(cursors[block * ReduceBlocks::kCursorStride]);
    std::uint64_t item = block * size;
    const ItemScope* const outer = ItemScope::current();
    const ItemScope scope(&item, outer != nullptr ? outer->seed() : std::nullopt);
    const auto compute = [&](std::uint64_t i) {
      item = block * size + i;
      // As ItemMarks::begin: a kill shows what was executed so far.
      std::atomic_signal_fence(std::memory_order_seq_cst);
      cursor.store(static_cast<std::uint32_t>(i), std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      return static_cast<Result>(std::invoke(f, inputs[i]...));
    };
    Result result = compute(0);
    const std::uint64_t count = std::min({static_cast<std::uint64_t>(inputs.size())...});
    for (std::uint64_t i = 1; i < count; ++i) {
      result = static_cast<Result>(std::invoke(g, std::move(result), compute(i)));
    }
    return result;
  }
};

/// The same failure, of another item than it says: what `item` makes of its number.
std::exception_ptr renumbered(const std::exception_ptr& failure,
                              const std::function<std::size_t(std::size_t)>& item);

/// In the caller: the results of the blocks, in order.
template <class Result, class G>
void reduce_blocks(std::vector<Outcome<Result>> blocks, const G& g, Result& result,
                   const std::function<std::size_t(std::size_t)>& item) {
  for (Outcome<Result>& block : blocks) {
    if (!block) std::rethrow_exception(renumbered(block.error(), item));
    result = static_cast<Result>(std::invoke(g, std::move(result), std::move(block).value()));
  }
}

}  // namespace brood::detail
