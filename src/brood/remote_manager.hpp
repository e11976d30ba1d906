// Layer: manager
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/address.hpp>
#include <brood/connect.hpp>
#include <brood/manager/made_of.hpp>
#include <brood/manager/method_call.hpp>
#include <brood/manager/remote_client.hpp>
#include <brood/proxy.hpp>

namespace brood {

class RemoteManager;

/// An object of a served manager, seen from a process that is connected to it: of another family,
/// perhaps on another machine.
///
///     auto remote = brood::Manager::connect(brood::Address::tcp("10.0.0.7", 4711), key);
///     brood::RemoteProxy<Account> account = remote.get<Account>("savings");
///     account.call<&Account::deposit>(50);
///
/// It is used as a Proxy is, with the same calls and errors, and means an object that lives as
/// long: until its last proxy is gone there and here, or this process, or the connection. But it is
/// this process's: it does not travel, and shared objects (locks, queues, proxies) do not travel
/// through it. Any threads may use copies at once: each call has a connection of its own meanwhile.
/// In a child made by StartMethod::fork it throws StateError. Memory ordering: as Proxy's. A call
/// that is given up (a timeout, a Future that is destroyed) may be done or not. Errors: those of
/// Proxy; ManagerLost also when the network or the other machine fails; UnknownFunction when the
/// server runs another build of the program, which the text says.
template <class T>
class RemoteProxy : public detail::ProxyCalls<RemoteProxy<T>, T> {
 public:
  using element_type = T;

 private:
  friend RemoteManager;
  template <class>
  friend class RemoteProxy;
  friend detail::ProxyCalls<RemoteProxy<T>, T>;
  friend CallBatch;
  explicit RemoteProxy(std::shared_ptr<detail::RemoteObject> object) : object_(std::move(object)) {}

  template <class R>
  struct AsSeenHere {
    using type = R;
    static constexpr bool kProxy = false;
  };
  template <class U>
  struct AsSeenHere<Proxy<U>> {
    using type = RemoteProxy<U>;
    static constexpr bool kProxy = true;
  };
  template <class R>
  using Result = typename AsSeenHere<R>::type;

  [[nodiscard]] std::shared_ptr<detail::PendingCall> begin(detail::FunctionId function) const {
    return std::make_shared<detail::RemoteCall>(object().client(), object_, function, false);
  }
  [[nodiscard]] std::shared_ptr<detail::PendingCall> begin_apart(
      detail::FunctionId function) const {
    return std::make_shared<detail::RemoteCall>(object().client(), nullptr, function, false);
  }
  template <class R, class Use>
  auto with_call(detail::FunctionId function, Use use) const {
    detail::RemoteCall call(object().client(), object_, function, AsSeenHere<R>::kProxy);
    return use(call);
  }
  template <class R>
  Result<R> take(detail::PendingCall& call, detail::Deadline deadline) const {
    if constexpr (AsSeenHere<R>::kProxy) {
      const auto number = detail::take_result<std::uint64_t>(call, deadline);
      return Result<R>(std::make_shared<detail::RemoteObject>(object().client(), number));
    } else {
      return detail::take_result<R>(call, deadline);
    }
  }
  [[nodiscard]] std::uint64_t number() const { return object().number(); }
  [[nodiscard]] const void* server_key() const { return object().client().get(); }
  [[nodiscard]] const detail::RemoteObject& object() const {
    if (!object_) throw StateError("this proxy was moved from");
    return *object_;
  }

  std::shared_ptr<detail::RemoteObject> object_;
};

/// A connection to a manager that serves: see Manager::serve() and Manager::connect().
///
///     auto remote = brood::Manager::connect(address, key);
///     auto account = remote.get<Account>("savings");      // by the name that it was published
///     with auto other = remote.make<Account>(0);               // a new one, there
///
/// A handle: copies are the same connection, which ends with the last of them and of the proxies
/// that came from it; then the server lets go of what they held, as it does when this process dies.
/// Any thread may use it. In a child made by StartMethod::fork it throws StateError.
/// Errors: see RemoteProxy; of get() ArgumentError if there is no such name, TypeMismatch if it is
/// of another type; ManagerClosed after close().
class RemoteManager {
 public:
  template <class T, class... Args>
  RemoteProxy<T> make(Args&&... args) const {
    detail::require_makeable<T, Args...>();
    using Arguments = detail::made_of_t<Args...>;
    const Arguments arguments(std::forward<Args>(args)...);
    detail::RemoteCall call(
        client_, nullptr,
        detail::thunk_id<&detail::run_make<T, Arguments>, detail::ThunkKind::call>(), true);
    detail::encode(call.arguments(), arguments);
    return finish<T>(call);
  }
  template <class T>
  [[nodiscard]] RemoteProxy<T> get(const std::string& name) const {
    detail::RemoteCall call(client_, nullptr, detail::get_function(), true);
    detail::encode(call.arguments(), name);
    detail::encode(call.arguments(), detail::label_of<T>());
    return finish<T>(call);
  }

  [[nodiscard]] const Address& address() const { return client_->address(); }
  /// Ends the connection, also for the proxies.
  void close() noexcept { client_->close(); }

 private:
  friend class Manager;
  explicit RemoteManager(std::shared_ptr<detail::RemoteClient> client)
      : client_(std::move(client)) {}

  template <class T>
  RemoteProxy<T> finish(detail::RemoteCall& call) const {
    call.send();
    const auto number = detail::take_result<std::uint64_t>(call, detail::Deadline::never());
    return RemoteProxy<T>(std::make_shared<detail::RemoteObject>(client_, number));
  }

  std::shared_ptr<detail::RemoteClient> client_;
};

}  // namespace brood
