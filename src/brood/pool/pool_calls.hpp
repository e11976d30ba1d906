#pragma once

#include <cstddef>
#include <limits>
#include <ranges>
#include <utility>

namespace brood {

/// The calls that every pool has, written once: Pool (of processes; or of none, with `workers =
/// 0`), ThreadPool, and what their with({...}) returns. Code that is to work with any takes any:
///
///     template <class P>
///     double total(const P& pool, const std::vector<Part>& parts) {
///       return pool.map_reduce(weigh, std::plus<>(), 0.0, parts);
///     }
///
/// Any thread may make any call at any time. Of what is given to a pool of processes, everything
/// crosses: see Pool. On threads nothing does: see ThreadPool.
template <class Self>
class PoolCalls {
 public:
  /// f(x) for every x of a sized range, or f(x, y, ...) for several, zipped to the shortest:
  /// results in order. All items are computed; then, if any failed, the failure of the first is
  /// thrown: what f threw, or WorkerCrashed. Result: std::vector<R>, nothing for void.
  template <class F, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0 && (std::ranges::sized_range<Ranges> && ...))
  auto map(F&& f, Ranges&&... ranges) const {
    return calls().template map<false>(
        std::forward<F>(f), [](auto& call) { return call.values(); }, ranges...);
  }

  /// The same, with an Outcome for every item: nothing is thrown for failed ones.
  template <class F, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0 && (std::ranges::sized_range<Ranges> && ...))
  auto try_map(F&& f, Ranges&&... ranges) const {
    return calls().template map<false>(
        std::forward<F>(f), [](auto& call) { return call.outcomes(); }, ranges...);
  }

  /// As map, for a range of tuples (or pairs) whose elements are the arguments.
  template <class F, std::ranges::input_range Range>
    requires std::ranges::sized_range<Range>
  auto starmap(F&& f, Range&& range) const {
    return calls().template map<true>(
        std::forward<F>(f), [](auto& call) { return call.values(); }, range);
  }

  /// f(element) for the elements [from, to) of an array, all if not said, which f changes in place:
  /// of a brood::SharedArray; on threads of any random-access range. Nothing is copied. All are
  /// done; then, if any failed, the failure of the first is thrown, which names the element by its
  /// index in the array. What a failed item had written stays written.
  template <class F, class Array>
  void for_each(F&& f, Array&& array, std::size_t from = 0,
                std::size_t to = std::numeric_limits<std::size_t>::max()) const {
    calls().for_each(std::forward<F>(f), array, from, to);
  }

  /// reduce(... reduce(reduce(init, map(x0)), map(x1)) ...): what a loop would give, for any
  /// `reduce` that is associative, if it is not commutative too. Workers map and reduce blocks of
  /// the sized range (or ranges, zipped to the shortest), the caller their results. The type is
  /// init's; map's result converts to it, and reduce's, of two of it, too. A failure is thrown as
  /// that of map() is, and names its item. `chunk` is the size of a block.
  template <class MapF, class ReduceF, class Init, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0 && (std::ranges::sized_range<Ranges> && ...))
  auto map_reduce(MapF&& map, ReduceF&& reduce, Init&& init, Ranges&&... ranges) const {
    return calls().map_reduce(std::forward<MapF>(map), std::forward<ReduceF>(reduce),
                              std::forward<Init>(init), ranges...);
  }

  /// f(args...) in a worker, when one is free: a Future of its result.
  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) const {
    return calls().submit(std::forward<F>(f), std::forward<Args>(args)...);
  }

  /// The same, and waits for the result.
  template <class F, class... Args>
  auto apply(F&& f, Args&&... args) const {
    return submit(std::forward<F>(f), std::forward<Args>(args)...).get();
  }

  /// f(x) for every x of any range, even an endless one, or f(x, y, ...) for several, lazily: an
  /// input range of the results, in order. Items are taken from the range as results are fetched,
  /// `window` ahead, or `window_bytes`. A failure is thrown where its result would be; the
  /// iteration can go on behind it. What is left of it when it is destroyed early is cancelled.
  template <class F, std::ranges::viewable_range... Ranges>
    requires(sizeof...(Ranges) > 0)
  auto imap(F&& f, Ranges&&... ranges) const {
    return calls().template imap<true>(std::forward<F>(f), std::forward<Ranges>(ranges)...);
  }
  /// The same, each result as soon as it is there.
  template <class F, std::ranges::viewable_range... Ranges>
    requires(sizeof...(Ranges) > 0)
  auto imap_unordered(F&& f, Ranges&&... ranges) const {
    return calls().template imap<false>(std::forward<F>(f), std::forward<Ranges>(ranges)...);
  }

 private:
  friend Self;
  PoolCalls() = default;
  decltype(auto) calls() const { return static_cast<const Self&>(*this).how(); }
};

}  // namespace brood
