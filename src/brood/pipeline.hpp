// Layer: pipeline
#pragma once

#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/pipeline/engine.hpp>
#include <brood/pipeline/stage.hpp>
#include <brood/pipeline_options.hpp>
#include <brood/pool.hpp>

namespace brood {

namespace detail {
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

template <class F>
concept OptionalSource =
    std::is_invocable_v<F&> && kIsOptional<std::remove_cvref_t<std::invoke_result_t<F&>>>;
}  // namespace detail

/// Stages that items of type T come out of: read, work on many CPUs, collect, in bounded memory.
///
///     brood::pipeline()
///         .source(lines)                                // any input range, or a callable that
///         .parallel(parse)                              //   returns std::optional
///         .parallel(resize, {.call = {.timeout = 2s}})  // on worker processes
///         .parallel(upload, {.threads = 16})            // on threads of this process
///         .in_order([&](const Receipt& r) { log(r); })  // here, in the order of the input
///         .run({.workers = 4, .max_in_flight = 256});
///
/// The source and the stages serial and in_order run in the thread that called run(), one item at a
/// time, so they may capture what they like. Functions of threads may too, and are called as
/// constants, by several threads at once. Functions of processes, and what goes in and comes out of
/// them, cross as with Pool. Items are handed over by moving them; between stages in this process
/// they need not be copyable.
///
/// The source is asked only when there is room in flight. While it blocks nothing else happens
/// here: results that have come wait, and so do time limits.
///
/// Failures: what a stage throws, WorkerCrashed when its worker dies, TaskTimeout; of that item
/// only. The next stage that takes outcomes gets it (try_serial, try_in_order); else on_failure;
/// else the run ends: the items before it in the input go through to the end, so what an in_order
/// stage has had is exactly those; of the others none is begun, and the failure is thrown. What the
/// source throws is the failure of the item that it should have been. A stopped run throws
/// TaskCancelled, and an in_order stage has had the items before some item.
///
/// A value of private memory, used by one thread at a time, also in a forked copy; copies share
/// stages, and functions with their state, so there is one run at a time of all of them. It refers
/// to ranges that were lvalues and to pools that it was given. Runs make their workers and threads
/// and end them, however they end; with StartMethod::fork a worker that dies beside a stage on
/// threads cannot be replaced. What is under way to workers lies in the family's shared memory. If
/// this process dies its workers end. Memory ordering: one stage sees what was done to the item
/// before. Errors of run(): ArgumentError, StartError, those of Pool, and of items.
template <class T>
class Pipeline {
 public:
  using value_type = T;

  /// f(item) in worker processes.
  template <class F>
  auto parallel(F&& f, ProcessStage options = {}) const {
    using Function = detail::stored_callable_t<F>;
    require_items<Function>();
    detail::require_sendable<T>();
    detail::require_callable<Function, T>();
    detail::refuse_descriptors<Function, T>();
    using R = detail::stage_result_t<Function, T>;
    Function function(std::forward<F>(f));
    detail::VectorSink sink;
    detail::encode_callable(sink, function);
    auto spec = detail::process_spec(std::move(options));
    spec->maker = detail::thunk_id<&detail::make_stage<Function, T, R>, detail::ThunkKind::stage>();
    spec->callable = sink.take();
    spec->kept = sink.take_kept();
    spec->function = std::make_shared<detail::CrossingStage<Function, T, R>>(std::move(function));
    return with<R>(std::move(spec));
  }
  /// f(item) on threads of this process: for what waits. f must be callable as a constant.
  template <class F>
  auto parallel(F&& f, const ThreadStage& options) const {
    using Stage = detail::LocalStage<std::decay_t<F>, T, true>;
    auto spec = detail::thread_spec(options, Stage::kKeeps);
    return local<Stage>(std::move(spec), std::forward<F>(f));
  }

  /// f(item) here, as they come. If f returns nothing this is the end.
  template <class F>
  auto serial(F&& f) const {
    return local<detail::LocalStage<std::decay_t<F>, T, false>>(
        detail::here_spec(detail::StageSpec::serial, false), std::forward<F>(f));
  }
  /// f(item) here, in the order of the input.
  template <class F>
  auto in_order(F&& f) const {
    return local<detail::LocalStage<std::decay_t<F>, T, false>>(
        detail::here_spec(detail::StageSpec::in_order, false), std::forward<F>(f));
  }
  /// The same with an Outcome<T> of every item, also of those that failed before.
  template <class F>
  auto try_serial(F&& f) const {
    return local<detail::OutcomeStage<std::decay_t<F>, T>>(
        detail::here_spec(detail::StageSpec::serial, true), std::forward<F>(f));
  }
  template <class F>
  auto try_in_order(F&& f) const {
    return local<detail::OutcomeStage<std::decay_t<F>, T>>(
        detail::here_spec(detail::StageSpec::in_order, true), std::forward<F>(f));
  }

  /// Lets all items through. What comes out of the last stage is dropped.
  PipelineStats run(const PipelineOptions& options = {}) const {
    return detail::run_pipeline(source_, stages_, options);
  }
  /// The same, for what comes out of the last stage, in the order of the input.
  std::vector<T> collect(const PipelineOptions& options = {}) const
    requires(!std::is_void_v<T>)
  {
    std::vector<T> all;
    in_order([&all](T item) { all.push_back(std::move(item)); }).run(options);
    return all;
  }

 private:
  template <class>
  friend class Pipeline;
  friend class PipelineStart;
  using Stages = std::vector<std::shared_ptr<const detail::StageSpec>>;
  Pipeline(detail::SourceSpec source, Stages stages)
      : source_(std::move(source)), stages_(std::move(stages)) {}

  template <class>
  static constexpr void require_items() {
    static_assert(!std::is_void_v<T>, "the stage before returns nothing: it is the end");
  }
  template <class R>
  Pipeline<R> with(std::shared_ptr<const detail::StageSpec> spec) const {
    Stages stages = stages_;
    stages.push_back(std::move(spec));
    return Pipeline<R>(source_, std::move(stages));
  }
  template <class Stage, class F>
  auto local(std::shared_ptr<detail::StageSpec> spec, F&& f) const {
    require_items<F>();
    spec->function = std::make_shared<Stage>(std::forward<F>(f));
    return with<typename Stage::R>(std::move(spec));
  }

  detail::SourceSpec source_;
  Stages stages_;
};

/// What pipeline() returns: it wants a source.
class PipelineStart {
 public:
  /// A callable that returns a std::optional: items, until there is none. A run asks it no more
  /// behind its end; another run goes on asking.
  template <detail::OptionalSource F>
  auto source(F&& f) const {
    using T = typename std::remove_cvref_t<std::invoke_result_t<F&>>::value_type;
    const auto function = std::make_shared<std::decay_t<F>>(std::forward<F>(f));
    return Pipeline<T>({.begin = [function]() -> detail::SourceSpec::Next {
                          return [function] {
                            std::optional<T> item = std::invoke(*function);
                            return item ? detail::ItemValue::of<T>(*std::move(item))
                                        : detail::ItemValue();
                          };
                        },
                        .size = [] { return std::optional<std::size_t>(); }},
                       {});
  }
  /// Any input range, even an endless one: a container, a view, a generator. Each run goes through
  /// it from its beginning. Elements are copied, or moved if they cannot be.
  template <std::ranges::viewable_range Range>
    requires(!detail::OptionalSource<Range>)
  auto source(Range&& range) const {
    using View = std::views::all_t<Range>;
    using T = std::ranges::range_value_t<View>;
    const auto view = std::make_shared<View>(std::views::all(std::forward<Range>(range)));
    return Pipeline<T>(
        {.begin = [view]() -> detail::SourceSpec::Next {
           // It may be read in advance no further than an item is asked for.
           return [view, at = std::shared_ptr<std::ranges::iterator_t<View>>()]() mutable {
             if (at == nullptr) {
               at = std::make_shared<std::ranges::iterator_t<View>>(std::ranges::begin(*view));
             } else {
               ++*at;
             }
             if (*at == std::ranges::end(*view)) return detail::ItemValue();
             if constexpr (std::is_constructible_v<T, std::ranges::range_reference_t<View>>) {
               return detail::ItemValue::of<T>(T(**at));
             } else {
               return detail::ItemValue::of<T>(T(std::ranges::iter_move(*at)));
             }
           };
         },
         .size = [view]() -> std::optional<std::size_t> {
           if constexpr (std::ranges::sized_range<View>) {
             return static_cast<std::size_t>(std::ranges::size(*view));
           } else {
             return std::nullopt;
           }
         }},
        {});
  }
};

/// See Pipeline.
[[nodiscard]] inline PipelineStart pipeline() { return {}; }

}  // namespace brood
