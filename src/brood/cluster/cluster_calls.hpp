#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/bind.hpp>
#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>
#include <brood/channel/codec.hpp>
#include <brood/channel/local_task.hpp>
#include <brood/cluster/client.hpp>
#include <brood/cluster/far_call.hpp>
#include <brood/errors.hpp>
#include <brood/future.hpp>
#include <brood/outcome.hpp>
#include <brood/pool/imap.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/map_reduce.hpp>
#include <brood/pool/map_types.hpp>
#include <brood/pool_options.hpp>

namespace brood::detail {

/// The death of a worker says which item it was in, if `item` is a number; other failures say so
/// already.
std::exception_ptr numbered_crash(std::exception_ptr failure, std::uint64_t item);

/// The result of a task far away, as a Future has it.
template <class R>
class ClusterResult final : public LocalResult<R>, public ClusterTask {
 public:
  ClusterResult(const std::shared_ptr<ClusterClient>& client, std::uint64_t item)
      : client_(client), item_(item) {}

  void set_number(std::uint64_t number) { number_ = number; }
  void finish(std::span<const std::byte> value) override {
    this->compute_by([&]() -> R {
      if constexpr (!std::is_void_v<R>) {
        ByteSource source(value);
        return decode<R>(source);
      }
    });
  }
  void fail(std::exception_ptr error) override {
    this->fail_with(numbered_crash(std::move(error), item_));
  }

 private:
  void cancel_source() override {
    if (const auto client = client_.lock()) client->forget(number_.load());
  }

  std::weak_ptr<ClusterClient> client_;
  const std::uint64_t item_;
  std::atomic<std::uint64_t> number_{0};
};

/// The results of a map, as the calls of PoolCalls take them.
template <class R>
struct ClusterResults {
  std::vector<Future<R>> futures;
  std::function<void(std::size_t, std::size_t)> progress;

  void wait() {
    constexpr std::chrono::milliseconds kProgress{100};
    auto next = Deadline::Clock::now() + kProgress;
    for (std::size_t done = 0; done < futures.size();) {
      futures[done++].wait();
      if (!progress) continue;
      const auto now = Deadline::Clock::now();
      if (now < next && done < futures.size()) continue;
      next = now + kProgress;
      try {
        progress(done, futures.size());
      } catch (...) {
        for (Future<R>& future : futures) future.cancel();
        throw;
      }
    }
  }
  /// All values; or the first failure, thrown when all have ended.
  auto values() {
    wait();
    if constexpr (std::is_void_v<R>) {
      for (Future<R>& future : futures) future.get();
    } else {
      std::vector<R> values;
      values.reserve(futures.size());
      for (Future<R>& future : futures) values.push_back(future.get());
      return values;
    }
  }
  std::vector<Outcome<R>> outcomes() {
    wait();
    std::vector<Outcome<R>> outcomes;
    outcomes.reserve(futures.size());
    for (Future<R>& future : futures) outcomes.push_back(outcome_of_future(future));
    return outcomes;
  }
};

/// How a ClusterPool runs calls: see PoolCalls.
class ClusterCalls {
 public:
  /// Throws ArgumentError for options that make no sense far away.
  ClusterCalls(std::shared_ptr<ClusterClient> client, CallOptions options, bool at_most_once);

  template <bool Spread, class F, class Finish, class... Ranges>
  auto map(F&& f, Finish finish, Ranges&&... ranges) const {
    return map_items<Spread, true>(std::forward<F>(f), finish, std::forward<Ranges>(ranges)...);
  }

  template <class F, class Array>
  void for_each(F&&, Array&, std::size_t, std::size_t) const {
    static_assert(sizeof(Array) == 0,
                  "for_each changes elements in place, which other machines cannot do: use map and "
                  "its results");
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
      const ReduceBlocks blocks(items, options_.chunk, workers_now());
      using FarCall = FarBlock<Result, Function, Reduce, block_input_t<Ranges, Ts>...>;
      const auto call = brood::bind(FarCall{}, function, reduce, std::uint64_t{blocks.size});
      map_items<false, false>(
          call,
          [&](auto& done) {
            for (auto& value : done.values()) {
              result =
                  static_cast<Result>(std::invoke(reduce, std::move(result), std::move(value)));
            }
          },
          std::views::iota(std::uint64_t{0}, std::uint64_t{blocks.count}),
          blocks_of<block_input_t<Ranges, Ts>>(ranges, blocks)...);
      return std::move(result);
    }(std::type_identity<
               stored_arguments_t<Function, std::ranges::range_reference_t<Ranges>...>>{});
  }

  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) const {
    using Function = stored_callable_t<F>;
    using Arguments = stored_arguments_t<Function, Args...>;
    require_callable<Function, Args...>();
    refuse_descriptors<Function, Args...>();
    using R = std::remove_cvref_t<decltype(invoke_stored(std::declval<Function&>(),
                                                         std::declval<Arguments>()))>;
    const Function function(std::forward<F>(f));
    return send<R>(make_call<Function, Arguments, R, false>(function),
                   ItemNumber{ItemNumber::kNone, seed()}, Arguments(std::forward<Args>(args)...));
  }

  template <class F, class... Args>
  class Stream;
  template <bool InOrder, class F, class... Ranges>
  auto imap(F&& f, Ranges&&... ranges) const {
    using ItemStream =
        Stream<stored_callable_t<F>, std::ranges::range_reference_t<std::views::all_t<Ranges>>...>;
    const std::size_t workers = workers_now();
    const std::size_t items = options_.window > 0 ? options_.window : kImapWindow * workers;
    return ImapView<InOrder, ItemStream, std::views::all_t<Ranges>...>(
        ItemStream(*this, std::forward<F>(f)),
        {.items = items, .bytes = options_.window_bytes, .workers = workers},
        std::views::all(std::forward<Ranges>(ranges))...);
  }

 private:
  /// `Numbered`: the items are the caller's, not blocks of them.
  template <bool Spread, bool Numbered, class F, class Finish, class... Ranges>
  auto map_items(F&& f, Finish finish, Ranges&&... ranges) const {
    using Function = stored_callable_t<F>;
    const Function function(std::forward<F>(f));
    const std::size_t items = std::min({static_cast<std::size_t>(std::ranges::size(ranges))...});
    return [&]<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
      using R = typename MapResult<Spread, Function, Ts...>::type;
      using Arguments = std::tuple<Ts...>;
      ClusterResults<R> call{.futures = {}, .progress = options_.progress};
      call.futures.reserve(items);
      const auto shared = make_call<Function, Arguments, R, Spread>(function);
      const std::uint64_t seed = this->seed();
      auto at = std::tuple(std::ranges::begin(ranges)...);
      for (std::size_t i = 0; i < items; ++i) {
        std::apply(
            [&](auto&... each) {
              call.futures.push_back(send<R>(shared,
                                             ItemNumber{Numbered ? i : ItemNumber::kNone, seed},
                                             Arguments(Ts(*each)...)));
              (static_cast<void>(++each), ...);
            },
            at);
      }
      return finish(call);
    }(std::type_identity<map_arguments_t<Spread, Function, Ranges...>>{});
  }

  template <class F, class Arguments, class R, bool Spread>
  std::shared_ptr<const ClusterCall> make_call(const F& function) const {
    VectorSink sink;
    encode_callable(sink, function);
    refuse_handles(sink);
    auto call = std::make_shared<ClusterCall>(limits_);
    call->kind.function = thunk_id<&run_far<F, Arguments, R, Spread>, ThunkKind::task>();
    call->kind.prefix = sink.take();
    call->made = Deadline::Clock::now();
    return call;
  }
  template <class R, class Arguments>
  Future<R> send(const std::shared_ptr<const ClusterCall>& call, ItemNumber number,
                 const Arguments& arguments, std::size_t* argument_bytes = nullptr) const {
    VectorSink sink;
    encode(sink, number);
    const std::size_t before = sink.written();
    encode(sink, arguments);
    if (argument_bytes != nullptr) *argument_bytes = sink.written() - before;
    refuse_handles(sink);
    auto result = std::make_shared<ClusterResult<R>>(client_, number.item);
    result->set_number(client_->submit(call, sink.take(), result));
    return FutureAccess::make<R>(std::shared_ptr<LocalResult<R>>(result));
  }
  /// Throws ArgumentError if there are any.
  static void refuse_handles(const ByteSink& sink);
  [[nodiscard]] std::uint64_t seed() const { return options_.seed ? *options_.seed : fresh_seed(); }
  [[nodiscard]] std::size_t workers_now() const;

  std::shared_ptr<ClusterClient> client_;
  CallOptions options_;
  ClusterCall limits_;  // of which the function is not known yet
};

template <class F, class... Args>
class ClusterCalls::Stream {
  using Arguments = stored_arguments_t<F, Args...>;

 public:
  using Result =
      std::remove_cvref_t<decltype(invoke_stored(std::declval<F&>(), std::declval<Arguments>()))>;

  template <class G>
  Stream(const ClusterCalls& calls, G&& f)
      : calls_(calls),
        call_(calls.make_call<F, Arguments, Result, false>(F(std::forward<G>(f)))),
        seed_(calls.seed()) {}

  /// `bytes`: how many it takes.
  Future<Result> submit(std::size_t& bytes, Args... args) {
    return calls_.send<Result>(call_, ItemNumber{item_++, seed_},
                               Arguments(std::forward<Args>(args)...), &bytes);
  }

 private:
  ClusterCalls calls_;
  std::shared_ptr<const ClusterCall> call_;
  std::uint64_t seed_;
  std::uint64_t item_ = 0;
};

}  // namespace brood::detail
