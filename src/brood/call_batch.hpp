// Layer: manager
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/errors.hpp>
#include <brood/manager/batch_calls.hpp>
#include <brood/manager/method_call.hpp>
#include <brood/manager/pending_call.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/proxy.hpp>

namespace brood {

/// The result of one call of a batch: a value or an exception, once the batch has run.
template <class R>
class BatchResult {
 public:
  /// Returns what the method returned, or throws what it threw. StateError before the batch has
  /// run.
  [[nodiscard]] R get() const {
    detail::ByteSource source(batch_->result(index_));
    if constexpr (!std::is_void_v<R>) return detail::decode<R>(source);
  }

 private:
  friend class CallBatch;
  BatchResult(std::shared_ptr<detail::BatchCalls> batch, std::size_t index)
      : batch_(std::move(batch)), index_(index) {}

  std::shared_ptr<detail::BatchCalls> batch_;
  std::size_t index_;
};

/// Several calls of objects of one manager in one round trip, in order. One that throws does not
/// keep the next from being done. They are no transaction: calls of others may come in between.
///
///     brood::CallBatch batch;
///     for (long amount : amounts) batch.call<&Account::deposit>(account, amount);
///     auto balance = batch.call<&Account::balance>(account);
///     batch.run();
///     std::printf("%ld\n", balance.get());
///
/// Used by one thread; moves, and is run once. Its results may be fetched as long as they exist,
/// from one thread at a time. Where its bytes live, deaths, forks and memory ordering: as for one
/// call of a Proxy. Errors: ArgumentError for an object of another manager; StateError when it is
/// run twice; run() throws what every call may (ManagerLost ...), but not what methods throw.
class CallBatch {
 public:
  CallBatch() : calls_(std::make_shared<detail::BatchCalls>()) {}
  CallBatch(CallBatch&&) noexcept = default;
  CallBatch& operator=(CallBatch&&) noexcept = default;
  CallBatch(const CallBatch&) = delete;
  CallBatch& operator=(const CallBatch&) = delete;
  ~CallBatch() = default;

  /// Adds a call; see Proxy::call.
  template <auto Method, class Self, class T, class... Args>
  auto call(const detail::ProxyCalls<Self, T>& proxy, Args&&... args) {
    using Call = detail::MethodCall<decltype(Method), T, Args...>;
    Call::check();
    using R = typename Call::Result;
    if constexpr (!std::is_void_v<R>) detail::require_sendable<R>();
    static_assert(
        std::is_same_v<R, typename Self::template Result<R>>,
        "a proxy cannot be the result of a call in a batch over a connection: use call()");
    const Self& self = proxy.self();
    const typename Call::Arguments arguments(std::forward<Args>(args)...);
    detail::VectorSink sink;
    detail::encode(sink, arguments);
    calls_->add(
        self.server_key(), [self](detail::FunctionId id) { return self.begin_apart(id); },
        {.function = detail::thunk_id<&detail::run_method<Method, T, typename Call::Arguments, R>,
                                      detail::ThunkKind::call>(),
         .object = self.number()},
        sink);
    return BatchResult<R>(calls_, calls_->size() - 1);
  }

  [[nodiscard]] std::size_t size() const { return calls_->size(); }

  /// Does them, and waits until all are done.
  void run() { calls_->run(detail::Deadline::never()); }
  /// Throws TimeoutError when they are not done in time: then some may have been.
  template <class Rep, class Period>
  void run_within(std::chrono::duration<Rep, Period> timeout) {
    calls_->run(detail::Deadline::after(timeout));
  }

 private:
  std::shared_ptr<detail::BatchCalls> calls_;
};

}  // namespace brood
