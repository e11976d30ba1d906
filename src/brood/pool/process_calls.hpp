#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include <brood/bind.hpp>
#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>
#include <brood/errors.hpp>
#include <brood/future.hpp>
#include <brood/pool/call_limits.hpp>
#include <brood/pool/imap.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/map_reduce.hpp>
#include <brood/pool/map_types.hpp>
#include <brood/pool/serial_pool.hpp>
#include <brood/pool_options.hpp>
#include <brood/shared_array.hpp>

namespace brood::detail {

template <class T>
inline constexpr bool kIsSharedArray = false;
template <class T>
inline constexpr bool kIsSharedArray<SharedArray<T>> = true;

/// The elements of an array that for_each() is to work on.
struct ElementRange {
  ElementRange(std::size_t first, std::size_t last, std::size_t size)
      : from(first), to(std::min(last, size)) {
    if (from > size || from > last) {
      throw ArgumentError(
          fmt::format("for_each: elements {} to {} of an array of {}", first, last, size));
    }
  }
  std::size_t from;
  std::size_t to;
};

/// What for_each sends: f, the array as a handle, and the index of the element.
template <class F, class T>
struct ElementCall {
  void operator()(const F& f, const SharedArray<T>& array, std::uint64_t index) const {
    static_cast<void>(std::invoke(f, array[index]));
  }
};

/// How a Pool runs calls: in worker processes, or, without any, in the caller.
class ProcessCalls {
 public:
  ProcessCalls(std::shared_ptr<PoolCore> core, std::shared_ptr<SerialPool> serial,
               CallOptions options)
      : core_(std::move(core)),
        serial_(std::move(serial)),
        options_(std::move(options)),
        limits_(limits_of(options_)) {
    if (options_.memory != 0 && options_.chunk == 0) options_.chunk = 1;
  }

  template <bool Spread, class F, class Finish, class... Ranges>
  auto map(F&& f, Finish finish, Ranges&&... ranges) const {
    using Function = stored_callable_t<F>;
    const Function function(std::forward<F>(f));
    const std::size_t items = std::min({static_cast<std::size_t>(std::ranges::size(ranges))...});
    return [&]<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
      using R = typename MapResult<Spread, Function, Ts...>::type;
      if (serial_) {
        SerialMap<R> call = serial_map<R, Spread, Ts...>(function, items, ranges...);
        return finish(call);
      }
      MapCall<Function, R, Spread, Ts...> call(core_);
      call.set_seed(seed());
      call.start(function, items, options_.chunk, limits_, ranges...);
      call.wait(options_.progress);
      return finish(call);
    }(std::type_identity<map_arguments_t<Spread, Function, Ranges...>>{});
  }

  template <class F, class Array>
  void for_each(F&& f, Array& array, std::size_t first, std::size_t last) const {
    using Function = stored_callable_t<F>;
    constexpr bool kShared = kIsSharedArray<std::remove_const_t<Array>>;
    static_assert(kShared,
                  "for_each changes elements in place, which worker processes can do in shared "
                  "memory only: pass a brood::SharedArray, or use map and its results");
    if constexpr (kShared) {
      using T = typename std::remove_const_t<Array>::value_type;
      if constexpr (kIsLambda<Function> && !Sendable<Function>) {
        refuse_call<Function, CallRefusal::capturing_lambda>();
      } else {
        static_assert(std::is_invocable_v<const Function&, T&>,
                      "for_each calls its function with one element, T&");
        const ElementRange range(first, last, array.size());
        const auto call =
            brood::bind(ElementCall<Function, T>{}, Function(std::forward<F>(f)), array);
        try {
          map<false>(
              call, [](auto& done) { done.values(); }, indices(range.from, range.to));
        } catch (...) {
          if (range.from == 0) throw;
          std::rethrow_exception(renumbered(std::current_exception(),
                                            [&](std::size_t item) { return range.from + item; }));
        }
      }
    }
  }

  template <class MapF, class ReduceF, class Init, class... Ranges>
  auto map_reduce(MapF&& f, ReduceF&& g, Init&& init, Ranges&... ranges) const {
    using Result = std::decay_t<Init>;
    using Function = stored_callable_t<MapF>;
    using Reduce = stored_callable_t<ReduceF>;
    require_callable<Function, std::ranges::range_reference_t<Ranges>...>();
    require_callable<Reduce, Result, Result>();
    const Function function(std::forward<MapF>(f));
    const Reduce reduce(std::forward<ReduceF>(g));
    Result result(std::forward<Init>(init));
    const std::size_t items = std::min({static_cast<std::size_t>(std::ranges::size(ranges))...});
    return [&]<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
      if (serial_) {
        using R = typename MapResult<false, Function, Ts...>::type;
        serial_map<R, false, Ts...>(function, items, ranges...).take_each([&](auto&& value) {
          result = static_cast<Result>(
              std::invoke(reduce, std::move(result), std::forward<decltype(value)>(value)));
        });
        return std::move(result);
      }
      const ReduceBlocks blocks(items, options_.chunk, core_->workers());
      ProcessCalls one_by_one(core_, nullptr, options_);
      one_by_one.options_.chunk = 1;
      const SharedArray<std::uint32_t> cursors(blocks.count * ReduceBlocks::kCursorStride);
      using Call = BlockCall<Result, Function, Reduce, block_input_t<Ranges, Ts>...>;
      const auto call = brood::bind(Call{}, function, reduce, cursors, std::uint64_t{blocks.size});
      one_by_one.template map<false>(
          call,
          [&](auto& done) {
            reduce_blocks(done.outcomes(), reduce, result, [&](std::size_t block) {
              return block * blocks.size + cursors[block * ReduceBlocks::kCursorStride];
            });
          },
          indices(0, blocks.count), blocks_of<block_input_t<Ranges, Ts>>(ranges, blocks)...);
      return std::move(result);
    }(std::type_identity<
               stored_arguments_t<Function, std::ranges::range_reference_t<Ranges>...>>{});
  }

  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) const {
    using Types = TaskTypes<stored_callable_t<F>, Args...>;
    typename Types::Function function(std::forward<F>(f));
    typename Types::Arguments arguments(std::forward<Args>(args)...);
    if (serial_) return Types::compute(*serial_, function, arguments, nullptr, options_.seed);
    VectorSink call;
    if (options_.seed) encode(call, ItemNumber{ItemNumber::kNone, *options_.seed});
    return Types::send(core_, call, function, arguments, limits_,
                       options_.seed ? Types::item_thunk() : Types::thunk());
  }

  /// Gives the items of one imap to the pool.
  template <class F, class... Args>
  class Stream;
  template <bool InOrder, class F, class... Ranges>
  auto imap(F&& f, Ranges&&... ranges) const {
    using ItemStream =
        Stream<stored_callable_t<F>, std::ranges::range_reference_t<std::views::all_t<Ranges>>...>;
    const std::size_t workers = core_ ? core_->workers() : 1;
    // Without workers nothing is computed before it is fetched.
    const std::size_t items =
        serial_ ? 1 : (options_.window > 0 ? options_.window : kImapWindow * workers);
    return ImapView<InOrder, ItemStream, std::views::all_t<Ranges>...>(
        ItemStream(*this, std::forward<F>(f)),
        {.items = items, .bytes = serial_ ? 0 : options_.window_bytes, .workers = workers},
        std::views::all(std::forward<Ranges>(ranges))...);
  }

 private:
  template <class R, bool Spread, class... Ts, class Function, class... Ranges>
  SerialMap<R> serial_map(const Function& function, std::size_t items, Ranges&... ranges) const {
    const SerialPool::Call computing(*serial_);
    SerialMap<R> call;
    call.template run<Spread, Ts...>(function, items, seed(), options_.progress, ranges...);
    return call;
  }

  /// What a submitted call is sent as.
  template <class F, class... Args>
  struct TaskTypes {
    using Function = F;
    using Arguments = stored_arguments_t<F, Args...>;
    static constexpr bool check() {
      require_callable<F, Args...>();
      refuse_descriptors<F, Args...>();
      return true;
    }
    static_assert(check());
    using R =
        std::remove_cvref_t<decltype(invoke_stored(std::declval<F&>(), std::declval<Arguments>()))>;

    static FunctionId thunk() { return thunk_id<&run_task<F, Arguments, R>, ThunkKind::task>(); }
    static FunctionId item_thunk() {
      return thunk_id<&run_item<F, Arguments, R>, ThunkKind::task>();
    }
    static Future<R> compute(SerialPool& serial, F& function, Arguments& arguments,
                             const std::uint64_t* item, std::optional<std::uint64_t> seed) {
      const SerialPool::Call computing(serial);
      std::optional<ItemScope> scope;
      if (item != nullptr) {
        scope.emplace(item, seed);
      } else {
        scope.emplace(nullptr, nullptr, seed);
      }
      return FutureAccess::make(std::make_shared<LocalResult<R>>(
          outcome_of<R>([&]() -> R { return invoke_stored(function, std::move(arguments)); })));
    }
    static Future<R> send(const std::shared_ptr<PoolCore>& core, VectorSink& call,
                          const F& function, const Arguments& arguments,
                          const std::shared_ptr<const CallLimits>& limits, FunctionId thunk) {
      encode_callable(call, function);
      encode(call, arguments);
      return FutureAccess::make<R>(
          core->pending(core->submit(thunk, call.bytes(), call.take_kept(), limits)));
    }
  };

  [[nodiscard]] std::uint64_t seed() const { return options_.seed ? *options_.seed : fresh_seed(); }
  static std::ranges::iota_view<std::uint64_t, std::uint64_t> indices(std::size_t from,
                                                                      std::size_t to) {
    return {from, to};
  }

  // One of the two: worker processes, or none.
  std::shared_ptr<PoolCore> core_;
  std::shared_ptr<SerialPool> serial_;
  CallOptions options_;
  std::shared_ptr<const CallLimits> limits_;
};

template <class F, class... Args>
class ProcessCalls::Stream {
  using Types = TaskTypes<F, Args...>;

 public:
  using Result = typename Types::R;

  template <class G>
  Stream(const ProcessCalls& calls, G&& f)
      : calls_(calls), function_(std::forward<G>(f)), seed_(calls.seed()) {}

  /// `bytes`: how many it takes.
  Future<Result> submit(std::size_t& bytes, Args... args) {
    const ItemNumber number{item_++, seed_};
    typename Types::Arguments arguments(std::forward<Args>(args)...);
    if (calls_.serial_) {
      return Types::compute(*calls_.serial_, function_, arguments, &number.item, seed_);
    }
    VectorSink call;
    encode(call, number);
    // Counted with what it is sent as.
    Future<Result> future =
        Types::send(calls_.core_, call, function_, arguments, calls_.limits_, Types::item_thunk());
    bytes = call.written();
    return future;
  }

 private:
  ProcessCalls calls_;
  F function_;
  std::uint64_t seed_;
  std::uint64_t item_ = 0;
};

}  // namespace brood::detail
