// Layer: manager
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <brood/channel/handle_codec.hpp>
#include <brood/future.hpp>
#include <brood/manager/local_client.hpp>
#include <brood/manager/method_call.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

class CallBatch;
class Manager;
template <class T>
class Proxy;

namespace detail {

/// Makes proxies.
struct ProxyAccess {
  template <class T>
  static Proxy<T> make(Handle object) {
    return Proxy<T>(std::move(object));
  }
};

/// The calls of a proxy, wherever the object is. `Self` has
///
///     std::shared_ptr<PendingCall> begin(FunctionId) const;   // to wait for later
///     std::shared_ptr<PendingCall> begin_apart(FunctionId) const;   // the same, of no object
///     template <class R, class Use> auto with_call(FunctionId, Use) const;  // Use(PendingCall&),
///     now template <class R> using Result;                        // what a result R is to the
///     caller template <class R> Result<R> take(PendingCall&, Deadline) const; std::uint64_t
///     number() const;                           // of the object const void* server_key() const;
///     // the same for objects of one server
template <class Self, class T>
class ProxyCalls {
 public:
  /// Calls a member function of T or of a base, with arguments that convert to its parameters'
  /// types, or any function (a lambda without captures, too) whose first parameter is a T&; or
  /// reads a data member. Returns what it returns, of a reference a copy; throws what it throws.
  template <auto Method, class... Args>
  auto call(Args&&... args) const {
    return call_until<Method>(Deadline::never(), std::forward<Args>(args)...);
  }
  /// The same; throws TimeoutError when it is not done in time. Then the method may still run, but
  /// is not begun any more.
  template <auto Method, class Rep, class Period, class... Args>
  auto call_within(std::chrono::duration<Rep, Period> timeout, Args&&... args) const {
    return call_until<Method>(Deadline::after(timeout), std::forward<Args>(args)...);
  }

  /// Calls a function that is known only now: a pointer, a function object, what brood::bind()
  /// makes. Its first parameter is a T&.
  template <class F, class... Args>
  auto apply(F&& f, Args&&... args) const {
    using Call = MethodCall<F, T, Args...>;
    Call::check();
    require_sendable<typename Call::Function>();
    using R = typename Call::Result;
    const typename Call::Function function(std::forward<F>(f));
    const typename Call::Arguments arguments(std::forward<Args>(args)...);
    return self().template with_call<R>(
        thunk_id<&run_function<typename Call::Function, T, typename Call::Arguments, R>,
                 ThunkKind::call>(),
        [&](PendingCall& call) {
          encode_callable(call.arguments(), function);
          encode(call.arguments(), arguments);
          call.send();
          return self().template take<R>(call, Deadline::never());
        });
  }

  /// Begins a call, whose result is there later. Calls that were begun so may run in any order, and
  /// beside each other if they are of several objects.
  template <auto Method, class... Args>
  auto async(Args&&... args) const {
    using Call = MethodCall<decltype(Method), T, Args...>;
    Call::check();
    using R = typename Call::Result;
    if constexpr (!std::is_void_v<R>) require_sendable<R>();
    static_assert(std::is_same_v<R, typename Self::template Result<R>>,
                  "a proxy cannot be the result of an asynchronous call over a connection: use "
                  "call()");
    const typename Call::Arguments arguments(std::forward<Args>(args)...);
    std::shared_ptr<PendingCall> call = self().begin(
        thunk_id<&run_method<Method, T, typename Call::Arguments, R>, ThunkKind::call>());
    encode(call->arguments(), arguments);
    call->send();
    return FutureAccess::make<R>(std::move(call));
  }

  /// As call(), but the result, whatever it is, becomes an object of the server, of which this is a
  /// proxy.
  template <auto Method, class... Args>
  auto call_for_proxy(Args&&... args) const {
    using Call = MethodCall<decltype(Method), T, Args...>;
    Call::check();
    using R = typename Call::Result;
    static_assert(!std::is_void_v<R>, "this method returns nothing that there could be a proxy of");
    const typename Call::Arguments arguments(std::forward<Args>(args)...);
    return self().template with_call<Proxy<R>>(
        thunk_id<&run_method_for_proxy<Method, T, typename Call::Arguments, R>, ThunkKind::call>(),
        [&](PendingCall& call) {
          encode(call.arguments(), arguments);
          call.send();
          return self().template take<Proxy<R>>(call, Deadline::never());
        });
  }

 private:
  friend CallBatch;
  [[nodiscard]] const Self& self() const { return static_cast<const Self&>(*this); }

  template <auto Method, class... Args>
  auto call_until(Deadline deadline, Args&&... args) const {
    using Call = MethodCall<decltype(Method), T, Args...>;
    Call::check();
    using R = typename Call::Result;
    if constexpr (!std::is_void_v<R>) require_sendable<R>();
    const typename Call::Arguments arguments(std::forward<Args>(args)...);
    return self().template with_call<R>(
        thunk_id<&run_method<Method, T, typename Call::Arguments, R>, ThunkKind::call>(),
        [&](PendingCall& call) {
          encode(call.arguments(), arguments);
          call.send();
          return self().template take<R>(call, deadline);
        });
  }
};

}  // namespace detail

/// An object that lives in the server of a manager, seen from any process of the family.
///
///     brood::Manager manager;
///     brood::Proxy<Account> account = manager.make<Account>(100);
///     account.call<&Account::deposit>(50);                        // runs in the server
///     long now = account.call<&Account::balance>();
///     brood::Future<long> later = account.async<&Account::deposit>(1);
///
/// A handle: copies mean the same object, and it travels wherever a value can, under every start
/// method, out of methods too. The object lives until the last proxy of it is gone, in whichever
/// process, also when that was killed; then it is destroyed in the server, soon.
///
/// Who may use it at once: any threads of any processes of the family; a proxy object belongs to
/// one thread at a time, as std::shared_ptr. Calls of one object run one after the other, unless
/// concurrent_calls<T>; those of different objects beside each other, whoever blocks.
/// Where its bytes live: the object in the server's private memory; arguments and results cross as
/// values do, through shared memory. When a caller dies, its call is done or not, once, and it
/// leaves nothing held. When the server dies, all calls throw ManagerLost, at once. Across fork:
/// the child has its parent's proxies. Memory ordering: what was done before a call is visible to
/// the method, what it did is visible after the call, and to the object's next call. Errors: what
/// the method throws, as its own type where that is known (see register_exception.hpp);
/// ManagerLost; ManagerClosed after the manager's end; SharedMemoryFull; TimeoutError where there
/// is a deadline; StateError for a proxy that was moved from.
template <class T>
class Proxy : public detail::ProxyCalls<Proxy<T>, T> {
 public:
  using element_type = T;

  /// Whether both mean the same object.
  friend bool operator==(const Proxy& a, const Proxy& b) noexcept { return a.handle_ == b.handle_; }

 private:
  friend detail::HandleAccess;
  friend detail::ProxyAccess;
  friend detail::ProxyCalls<Proxy<T>, T>;
  friend CallBatch;
  friend Manager;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<T>(detail::ObjectKind::managed);
  static constexpr std::size_t kLeastBytes = sizeof(detail::ManagedPayload);
  explicit Proxy(detail::Handle handle)
      : handle_(std::move(handle)), client_(detail::LocalClient::of(payload().board)) {}
  [[nodiscard]] const detail::Handle& needed() const { return client_->handle(); }

  [[nodiscard]] const detail::ManagedPayload& payload() const {
    return *reinterpret_cast<const detail::ManagedPayload*>(handle_.payload().data());
  }

  template <class R>
  using Result = R;
  [[nodiscard]] std::shared_ptr<detail::PendingCall> begin(detail::FunctionId function) const {
    return std::make_shared<detail::LocalCall>(client_, handle_, number(), function);
  }
  [[nodiscard]] std::shared_ptr<detail::PendingCall> begin_apart(
      detail::FunctionId function) const {
    if (client_->is_server()) return std::make_shared<detail::CallHere>(0, function);
    return std::make_shared<detail::LocalCall>(client_, handle_, 0, function);
  }
  template <class R, class Use>
  auto with_call(detail::FunctionId function, Use use) const {
    if (client_->is_server()) {
      detail::CallHere call(number(), function);
      return use(call);
    }
    detail::LocalCall call(client_, detail::Handle(), number(), function);
    return use(call);
  }
  [[nodiscard]] std::uint64_t number() const { return payload().number; }
  [[nodiscard]] const void* server_key() const { return client_.get(); }
  template <class R>
  R take(detail::PendingCall& call, detail::Deadline deadline) const {
    return detail::take_result<R>(call, deadline);
  }

  detail::Handle handle_;
  std::shared_ptr<detail::LocalClient> client_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::Proxy<T>> = true;
template <class T>
struct std::hash<brood::Proxy<T>> : brood::detail::HandleHash<brood::Proxy<T>> {};
