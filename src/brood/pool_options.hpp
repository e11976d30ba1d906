// Layer: pool
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>
#include <brood/pool/pool_core.hpp>
#include <brood/process/child.hpp>
#include <brood/start_method.hpp>

namespace brood {

/// A callable without parameters that every worker runs before its first task; none by default.
/// Arguments are bound: `.initializer = brood::bind(open_log, path)`.
class Initializer {
 public:
  Initializer() = default;
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Initializer>)
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): it is constrained
  Initializer(F&& f) {  // not explicit: reads as an assignment
    using Function = detail::stored_callable_t<F>;
    detail::require_callable<Function>();
    detail::refuse_descriptors<Function>();
    Function function(std::forward<F>(f));
    detail::VectorSink sink;
    detail::encode_callable(sink, function);
    call_ = detail::EncodedCall{
        .function = detail::thunk_id<&run<Function>, detail::ThunkKind::process>(),
        .bytes = sink.take(),
        .kept = sink.take_kept()};
    here_ = [here = std::make_shared<Function>(std::move(function))] { (*here)(); };
  }

 private:
  friend class Pool;
  template <class Function>
  static void run(detail::ByteSource& source, void (*decoded)()) {
    auto function = detail::decode_callable<Function>(source);
    decoded();
    function();
  }

  std::optional<detail::EncodedCall> call_;
  std::function<void()> here_;  // for a pool without workers
};

struct PoolOptions {
  /// Worker processes; cpu_count() if not given. 0: no workers, every task runs in the caller, in
  /// order, with the same results and errors: to debug in one process.
  std::optional<int> workers = {};
  /// How workers are started; get_start_method() if not given.
  std::optional<StartMethod> start_method = {};
  /// Workers are called NAME-1, NAME-2 ...
  std::string name = "brood-worker";
  /// If it throws in a worker, the pool's constructor throws that.
  Initializer initializer = {};
};

/// Said for single calls: `pool.with({.chunk = 16}).map(f, inputs)`.
struct CallOptions {
  /// map: items that a worker takes and commits at once; 0: chosen by their number.
  std::size_t chunk = 0;
  /// How often an item is computed again after its worker died in it.
  unsigned retries = 0;
  /// imap: how many items may be computed or wait to be fetched at once; 0: 16 for each worker.
  std::size_t window = 0;
  /// map: called in the waiting thread, about ten times a second and at the end, with the number of
  /// items that are finished, and all. What it throws ends the call.
  std::function<void(std::size_t done, std::size_t total)> progress = {};
};

}  // namespace brood
