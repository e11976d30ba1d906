// Layer: pool
#pragma once

#include <algorithm>
#include <deque>
#include <iterator>
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
#include <brood/errors.hpp>
#include <brood/future.hpp>
#include <brood/outcome.hpp>
#include <brood/pool/imap.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/serial_pool.hpp>
#include <brood/pool_options.hpp>

namespace brood {

/// The calls of a pool, with options: what Pool::with returns. Keeps the pool's workers alive no
/// longer than the pool; copies are cheap.
class PoolCaller {
 public:
  /// f(x) for every x of a sized range, or f(x, y, ...) for several, zipped to the shortest:
  /// results in order. All items are computed; then, if any failed, the failure of the first is
  /// thrown: what f threw, or WorkerCrashed. Result: std::vector<R>, nothing for void.
  template <class F, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0 && (std::ranges::sized_range<Ranges> && ...))
  auto map(F&& f, Ranges&&... ranges) const {
    return run<false, detail::stored_arguments_t<detail::stored_callable_t<F>,
                                                 std::ranges::range_reference_t<Ranges>...>>(
        std::forward<F>(f), [](auto& call) { return call.values(); }, ranges...);
  }

  /// The same, with an Outcome for every item: nothing is thrown for failed ones.
  template <class F, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0 && (std::ranges::sized_range<Ranges> && ...))
  auto try_map(F&& f, Ranges&&... ranges) const {
    return run<false, detail::stored_arguments_t<detail::stored_callable_t<F>,
                                                 std::ranges::range_reference_t<Ranges>...>>(
        std::forward<F>(f), [](auto& call) { return call.outcomes(); }, ranges...);
  }

  /// As map, for a range of tuples (or pairs) whose elements are the arguments.
  template <class F, std::ranges::input_range Range>
    requires std::ranges::sized_range<Range>
  auto starmap(F&& f, Range&& range) const {
    using Arguments =
        detail::spread_arguments_t<detail::stored_callable_t<F>, std::ranges::range_value_t<Range>>;
    return run<true, std::tuple<Arguments>>(
        std::forward<F>(f), [](auto& call) { return call.values(); }, range);
  }

  /// f(args...) in a worker, when one is free.
  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) const;

  /// The same, and waits for the result.
  template <class F, class... Args>
  auto apply(F&& f, Args&&... args) const {
    return submit(std::forward<F>(f), std::forward<Args>(args)...).get();
  }

  /// f(x) for every x of any range, even an endless one, lazily: an input range of the results, in
  /// order. Items are taken from the range as results are fetched, `window` ahead. A failure is
  /// thrown where its result would be; the iteration can go on behind it.
  template <class F, std::ranges::viewable_range Range>
  auto imap(F&& f, Range&& range) const;

 private:
  friend class Pool;
  PoolCaller(std::shared_ptr<detail::PoolCore> core, std::shared_ptr<detail::SerialPool> serial,
             CallOptions options)
      : core_(std::move(core)),
        serial_(std::move(serial)),
        options_(std::move(options)),
        limits_(detail::limits_of(options_)) {}

  template <bool Spread, class Arguments, class F, class Finish, class... Ranges>
  auto run(F&& f, Finish finish, Ranges&... ranges) const;

  // One of the two: worker processes, or none.
  std::shared_ptr<detail::PoolCore> core_;
  std::shared_ptr<detail::SerialPool> serial_;
  CallOptions options_;
  std::shared_ptr<const detail::CallLimits> limits_;
};

/// Worker processes that compute functions of many inputs.
///
///     brood::Pool pool;                        // cpu_count() workers
///     auto primes = pool.map(is_prime, numbers);
///     auto one = pool.submit(is_prime, 10'000'019);
///
/// What crosses to the workers and back is what Process takes, and move-only results too. Every
/// worker computes one item at a time. A worker that is killed, crashes or exits costs the item
/// that it was in, whose failure is WorkerCrashed; the others are computed, the worker is
/// replaced. An exception of an item comes back as itself, with its stack (remote_trace).
///
/// | state      | map, submit | close    | terminate    | join               | destructor |
/// | ---------- | ----------- | -------- | ------------ | ------------------ | ---------- |
/// | running    | work        | -> closed| -> terminated| StateError         | terminates |
/// | closed     | PoolClosed  | -        | -> terminated| waits for the work | terminates |
/// | terminated | PoolClosed  | -        | -            | true               | -          |
///
/// Who may use it: the process that made it, any of its threads at once. In a forked copy calls
/// throw StateError and the destructor does nothing. Inputs and results lie in the family's shared
/// memory while they are under way. There is no helper thread: whoever waits for results also
/// replaces dead workers. If the pool's process dies, its workers end. Memory ordering: what was
/// written before a call is visible to its items, and what they did when it returned. Errors: of
/// the constructor StateError (bad options, no Runtime), StartError, SystemError, SharedMemoryFull
/// and what the initializer throws; of calls PoolClosed, SharedMemoryFull, WorkerLost when no
/// worker can be replaced, and those of the items.
class Pool {
 public:
  explicit Pool(PoolOptions options = {});
  Pool(Pool&&) noexcept = default;
  Pool& operator=(Pool&& other) noexcept;
  ~Pool();

  /// The same calls, with options.
  [[nodiscard]] PoolCaller with(CallOptions options) const;

  template <class F, class... Ranges>
  auto map(F&& f, Ranges&&... ranges) const {
    return with({}).map(std::forward<F>(f), std::forward<Ranges>(ranges)...);
  }
  template <class F, class... Ranges>
  auto try_map(F&& f, Ranges&&... ranges) const {
    return with({}).try_map(std::forward<F>(f), std::forward<Ranges>(ranges)...);
  }
  template <class F, class Range>
  auto starmap(F&& f, Range&& range) const {
    return with({}).starmap(std::forward<F>(f), std::forward<Range>(range));
  }
  template <class F, class... Args>
  auto submit(F&& f, Args&&... args) const {
    return with({}).submit(std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto apply(F&& f, Args&&... args) const {
    return with({}).apply(std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class Range>
  auto imap(F&& f, Range&& range) const {
    return with({}).imap(std::forward<F>(f), std::forward<Range>(range));
  }

  /// 0 for a pool that computes in the caller.
  [[nodiscard]] int workers() const;
  /// Takes on more workers, or lets some go when they have done their chunk, while the others work.
  /// 1 to PoolOptions::max_workers. Throws ArgumentError, StateError (no workers), PoolClosed,
  /// StartError.
  void resize(int workers);
  [[nodiscard]] PoolCounts counts() const;
  /// The process ids of the workers that live.
  [[nodiscard]] std::vector<int> worker_pids() const;

  /// No more work is taken; workers end when what there is has been done.
  void close();
  /// After close() or terminate(): waits until all work is done and the workers are gone.
  void join();
  /// Ends the workers now, computing or not, within a second or so; what is not done fails with
  /// TaskCancelled.
  void terminate();

 private:
  std::shared_ptr<detail::PoolCore> core_;
  std::shared_ptr<detail::SerialPool> serial_;
};

// --------------------------------------------------------------------------------------------

template <bool Spread, class Arguments, class F, class Finish, class... Ranges>
auto PoolCaller::run(F&& f, Finish finish, Ranges&... ranges) const {
  using Function = detail::stored_callable_t<F>;
  const Function function(std::forward<F>(f));
  const std::size_t items = std::min({static_cast<std::size_t>(std::ranges::size(ranges))...});
  return [&]<class... Ts>(std::type_identity<std::tuple<Ts...>>) {
    using R = typename detail::MapResult<Spread, Function, Ts...>::type;
    if (serial_) {
      serial_->require_open();
      detail::SerialMap<R> call;
      call.template run<Spread, Ts...>(function, items, options_.progress, ranges...);
      return finish(call);
    }
    detail::MapCall<Function, R, Spread, Ts...> call(core_);
    call.start(function, items, options_.chunk, limits_, ranges...);
    call.wait(options_.progress);
    return finish(call);
  }(std::type_identity<Arguments>{});
}

template <class F, class... Args>
auto PoolCaller::submit(F&& f, Args&&... args) const {
  using Function = detail::stored_callable_t<F>;
  detail::require_callable<Function, Args...>();
  detail::refuse_descriptors<Function, Args...>();
  using Arguments = detail::stored_arguments_t<Function, Args...>;
  using R = std::remove_cvref_t<decltype(detail::invoke_stored(std::declval<Function&>(),
                                                               std::declval<Arguments>()))>;
  Function function(std::forward<F>(f));
  Arguments arguments(std::forward<Args>(args)...);
  if (serial_) {
    serial_->require_open();
    return Future<R>(detail::outcome_of<R>(
        [&]() -> R { return detail::invoke_stored(function, std::move(arguments)); }));
  }
  detail::VectorSink call;
  detail::encode_callable(call, function);
  detail::encode(call, arguments);
  return Future<R>(core_->pending(core_->submit(
      detail::thunk_id<&detail::run_task<Function, Arguments, R>, detail::ThunkKind::task>(),
      call.bytes(), call.take_kept(), limits_)));
}

template <class F, std::ranges::viewable_range Range>
auto PoolCaller::imap(F&& f, Range&& range) const {
  const std::size_t workers = core_ ? core_->workers() : 0;
  // Without workers nothing is computed before it is fetched.
  const std::size_t window =
      serial_ ? 1 : (options_.window > 0 ? options_.window : detail::kImapWindow * workers);
  return detail::ImapView<detail::stored_callable_t<F>, std::views::all_t<Range>, PoolCaller>(
      *this, std::forward<F>(f), std::views::all(std::forward<Range>(range)), window);
}

}  // namespace brood
