#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/future.hpp>
#include <brood/pool/imap.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/process_calls.hpp>
#include <brood/pool/thread_core.hpp>
#include <brood/pool/thread_map.hpp>
#include <brood/pool/thread_task.hpp>
#include <brood/pool_options.hpp>

namespace brood::detail {

/// How a ThreadPool runs calls.
class ThreadCalls {
 public:
  ThreadCalls(std::shared_ptr<ThreadCore> core, std::shared_ptr<SerialPool> serial,
              CallOptions options)
      : core_(std::move(core)), serial_(std::move(serial)), options_(std::move(options)) {}

  template <bool Spread, class F, class Finish, class... Ranges>
  auto map(F&& f, Finish finish, Ranges&&... ranges) const {
    const std::size_t items = std::min({static_cast<std::size_t>(std::ranges::size(ranges))...});
    return run<Spread>(f, finish, items, seed(), options_.chunk, ranges...);
  }

  template <class F, class Range>
  void for_each(F&& f, Range& range, std::size_t first, std::size_t last) const {
    static_assert(std::ranges::random_access_range<Range> &&
                      std::is_lvalue_reference_v<std::ranges::range_reference_t<Range>>,
                  "for_each changes elements in place: pass a brood::SharedArray, or another "
                  "random-access range of elements that lie in memory");
    using Difference = std::ranges::range_difference_t<Range>;
    const ElementRange part(first, last, static_cast<std::size_t>(std::ranges::distance(range)));
    const auto begin = std::ranges::begin(range);
    auto elements = std::ranges::subrange(begin + static_cast<Difference>(part.from),
                                          begin + static_cast<Difference>(part.to));
    run<false>(
        f, [](auto& call) { static_cast<void>(call.values()); }, part.to - part.from, seed(),
        options_.chunk, elements);
  }

  template <class F, class G, class Init, class... Ranges>
  auto map_reduce(F&& f, G&& reduce, Init&& init, Ranges&... ranges) const {
    using Result = std::decay_t<Init>;
    Result result(std::forward<Init>(init));
    const std::size_t items = std::min({static_cast<std::size_t>(std::ranges::size(ranges))...});
    const ReduceBlocks blocks(items, options_.chunk, core_ ? core_->workers() : 1);
    const std::uint64_t seed = this->seed();
    std::tuple<ThreadColumn<Ranges>...> columns{ThreadColumn<Ranges>(ranges, items)...};
    const auto block_of = [&](std::size_t block) {
      std::size_t item = block * blocks.size;
      const ItemScope scope(&item, seed);
      const auto compute = [&] {
        return std::apply(
            [&](auto&... column) { return static_cast<Result>(std::invoke(f, column[item]...)); },
            columns);
      };
      Result partial = compute();
      for (std::size_t end = item + blocks.size_of(block); ++item < end;) {
        partial = static_cast<Result>(std::invoke(reduce, std::move(partial), compute()));
      }
      return partial;
    };
    const auto indices = std::views::iota(std::size_t{0}, blocks.count);
    run<false>(
        block_of,
        [&](auto& call) {
          for (Result& partial : call.values()) {
            result =
                static_cast<Result>(std::invoke(reduce, std::move(result), std::move(partial)));
          }
        },
        blocks.count, seed, 1, indices);
    return result;
  }

  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) const {
    return add<std::decay_t<F>, std::decay_t<Args>...>(ItemNumber{ItemNumber::kNone, 0},
                                                       options_.seed, std::forward<F>(f),
                                                       std::forward<Args>(args)...);
  }

  template <class F, class... Args>
  class Stream;
  template <bool InOrder, class F, class... Ranges>
  auto imap(F&& f, Ranges&&... ranges) const {
    using ItemStream =
        Stream<std::decay_t<F>, std::ranges::range_reference_t<std::views::all_t<Ranges>>...>;
    const std::size_t workers = core_ ? core_->workers() : 1;
    const std::size_t items =
        serial_ ? 1 : (options_.window > 0 ? options_.window : kImapWindow * workers);
    return ImapView<InOrder, ItemStream, std::views::all_t<Ranges>...>(
        ItemStream(*this, std::forward<F>(f)), {.items = items, .bytes = 0, .workers = workers},
        std::views::all(std::forward<Ranges>(ranges))...);
  }

 private:
  template <bool Spread, class F, class Finish, class... Ranges>
  auto run(F& f, Finish finish, std::size_t items, std::uint64_t seed, std::size_t chunk,
           Ranges&... ranges) const {
    std::tuple<ThreadColumn<Ranges>...> columns{ThreadColumn<Ranges>(ranges, items)...};
    if constexpr (Spread) {
      using Tuple = std::tuple_element_t<0, std::tuple<Ranges...>>;
      return std::apply(
          [&]<class... Elements>(std::type_identity<std::tuple<Elements...>>) {
            return loop<F, Elements...>(
                f, finish, items, seed, chunk,
                [&](std::size_t item, auto& callable, const std::stop_token& token) {
                  return std::apply(
                      [&](auto&&... each) -> decltype(auto) {
                        return ThreadCall<decltype(callable), Elements...>::call(
                            callable, token, std::forward<Elements>(each)...);
                      },
                      std::get<0>(columns)[item]);
                });
          },
          std::tuple(std::type_identity<ElementsOf<typename ThreadColumn<Tuple>::Argument>>{}));
    } else {
      return loop<F, typename ThreadColumn<Ranges>::Argument...>(
          f, finish, items, seed, chunk,
          [&](std::size_t item, auto& callable, const std::stop_token& token) {
            return std::apply(
                [&](auto&... column) {
                  return ThreadCall<
                      decltype(callable),
                      typename ThreadColumn<Ranges>::Argument...>::call(callable, token,
                                                                        column[item]...);
                },
                columns);
          });
    }
  }

  /// What std::apply gives for a tuple (or pair, or array) of this category.
  template <class Tuple, class = std::make_index_sequence<std::tuple_size_v<std::decay_t<Tuple>>>>
  struct Elements;
  template <class Tuple, std::size_t... I>
  struct Elements<Tuple, std::index_sequence<I...>> {
    using type = std::tuple<decltype(std::get<I>(std::declval<Tuple>()))...>;
  };
  template <class Tuple>
  using ElementsOf = typename Elements<Tuple>::type;

  template <class F, class... Args, class Finish, class Compute>
  auto loop(F& f, Finish finish, std::size_t items, std::uint64_t seed, std::size_t chunk,
            Compute compute) const {
    // The same object for all threads if it can be called as a constant, else copies.
    constexpr bool kShared = kThreadCallable<const F&, Args...>;
    using Callable = std::conditional_t<kShared, const F, std::remove_const_t<F>>;
    ThreadResults<typename ThreadCall<Callable&, Args...>::R> results(items);
    const auto compute_chunk = [&](std::size_t begin, std::size_t end,
                                   const std::stop_token& token) {
      std::size_t item = begin;
      const ItemScope scope(&item, seed);
      const auto all = [&](Callable& callable) {
        for (; item < end; ++item) {
          results.put(item, [&] { return compute(item, callable, token); });
        }
      };
      if constexpr (kShared) {
        all(f);
      } else {
        Callable own(f);
        all(own);
      }
    };
    if (serial_) {
      const SerialPool::Call computing(*serial_);
      for (std::size_t i = 0; i < items; ++i) {
        compute_chunk(i, i + 1, {});
        if (options_.progress) options_.progress(i + 1, items);
      }
      return finish(results);
    }
    core_->require_open();
    const std::size_t per_chunk = chunk != 0 ? chunk : automatic_chunk(items, core_->workers());
    std::stop_token token;
    const auto run = std::make_shared<ThreadLoop>(
        items, per_chunk,
        [&](std::size_t begin, std::size_t end) { compute_chunk(begin, end, token); });
    token = run->stop_token();
    const std::size_t helpers =
        std::min<std::size_t>(core_->workers(), (items + per_chunk - 1) / per_chunk);
    // One of the pool's own threads helps, or all of them might wait for each other.
    const std::size_t others = core_->is_worker() && helpers > 0 ? helpers - 1 : helpers;
    try {
      for (std::size_t i = 0; i < others; ++i) core_->add(run, options_.priority);
    } catch (const PoolClosed&) {
      run->drop();  // closed meanwhile
    }
    if (others != helpers) run->run();
    run->wait(options_.progress);
    results.drop_from(run->dropped_from());
    return finish(results);
  }
  template <class F, class... Args>
  static constexpr bool kThreadCallable =
      std::is_invocable_v<F, Args...> || std::is_invocable_v<F, std::stop_token, Args...>;

  template <class F, class... Args, class... Given>
  auto add(ItemNumber number, std::optional<std::uint64_t> seed, Given&&... given) const {
    using Task = ThreadTask<F, Args...>;
    using R = typename ThreadCall<F, Args...>::R;
    const auto task = std::make_shared<Task>(number, seed, std::forward<Given>(given)...);
    if (serial_) {
      const SerialPool::Call computing(*serial_);
      task->run();
    } else {
      core_->add(task, options_.priority);
    }
    return FutureAccess::make(std::static_pointer_cast<LocalResult<R>>(task));
  }

  [[nodiscard]] std::uint64_t seed() const { return options_.seed ? *options_.seed : fresh_seed(); }

  // One of the two: threads, or none.
  std::shared_ptr<ThreadCore> core_;
  std::shared_ptr<SerialPool> serial_;
  CallOptions options_;
};

template <class F, class... Args>
class ThreadCalls::Stream {
  using Function = SharedFunction<F>;

 public:
  using Result = typename ThreadCall<Function, std::decay_t<Args>...>::R;

  template <class G>
  Stream(const ThreadCalls& calls, G&& f)
      : calls_(calls),
        function_(std::make_shared<const F>(std::forward<G>(f))),
        seed_(calls.seed()) {}

  Future<Result> submit(std::size_t& /*bytes*/, Args... args) {
    return calls_.add<Function, std::decay_t<Args>...>(ItemNumber{item_++, 0}, seed_, function_,
                                                       std::forward<Args>(args)...);
  }

 private:
  ThreadCalls calls_;
  Function function_;
  std::uint64_t seed_;
  std::uint64_t item_ = 0;
};

}  // namespace brood::detail
