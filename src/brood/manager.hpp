// Layer: manager
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <brood/address.hpp>
#include <brood/connect.hpp>
#include <brood/manager/local_client.hpp>
#include <brood/manager/made_of.hpp>
#include <brood/manager/method_call.hpp>
#include <brood/manager/shared_types.hpp>
#include <brood/process/child_process.hpp>
#include <brood/proxy.hpp>
#include <brood/remote_manager.hpp>
#include <brood/start_method.hpp>

namespace brood {

struct ManagerOptions {
  /// Shown by ps and in errors; "Manager-N" if empty.
  std::string name = {};
  /// How the server is started; get_start_method() if not given.
  std::optional<StartMethod> start_method = {};
  /// What running methods get to end when the manager is shut down, before the server is
  /// terminated; the same again before it is killed.
  std::chrono::nanoseconds shutdown_timeout = std::chrono::seconds(1);
};

namespace detail {

/// The part of a manager that does not depend on types.
class ManagerCore {
 public:
  explicit ManagerCore(const ManagerOptions& options);
  ManagerCore(const ManagerCore&) = delete;
  ManagerCore& operator=(const ManagerCore&) = delete;
  ~ManagerCore();

  void shut_down();
  [[nodiscard]] const std::shared_ptr<LocalClient>& client() const { return client_; }
  [[nodiscard]] ChildProcess& process() const { return *process_; }

 private:
  void await_server();

  std::shared_ptr<LocalClient> client_;
  std::shared_ptr<ChildProcess> process_;
  std::chrono::nanoseconds shutdown_timeout_;
};

}  // namespace detail

/// A process that has objects, which are used from many: any class, nothing registered.
///
///     brood::Manager manager;
///     auto account = manager.make<Account>(100);             // a Proxy<Account>
///     brood::Process p([](brood::Proxy<Account> a) { a.call<&Account::deposit>(1); }, account);
///     p.start();
///     p.join();
///     std::printf("%ld\n", account.call<&Account::balance>());
///
/// It also makes dictionaries, lists, queues, locks ..., by the names that Python's managers have
/// for them; they need no server (see SharedTypes).
///
/// The server is a child of this process. It ignores SIGINT, which is the program's to handle, and
/// ends with the manager, with the process that made it, and with the family, whatever becomes of
/// these. Its own death fails every call at once, with ManagerLost; nobody starts another, as what
/// the objects were is lost.
///
/// Who may use it: the process that made it, from any thread at once (but move and destruction by
/// one); others use proxies. In a forked copy it is inert. Where its bytes live: see Proxy. Memory
/// ordering: what was done before make() is visible to the constructor.
/// Errors: StateError without a Runtime where other threads run; StartError; SharedMemoryFull;
/// ManagerClosed after shutdown(), for proxies too; ManagerLost; what constructors throw.
class Manager : public detail::SharedTypes {
 public:
  explicit Manager(const ManagerOptions& options = {});
  Manager(Manager&&) noexcept = default;
  Manager& operator=(Manager&&) noexcept = default;
  /// As shutdown().
  ~Manager() = default;

  /// Makes a T in the server, of arguments that cross to other processes; throws what T's
  /// constructor throws.
  template <class T, class... Args>
  Proxy<T> make(Args&&... args) const {
    return make_through<T>(core().client(), std::forward<Args>(args)...);
  }
  /// For methods, which run in the server: makes a T there. Throws StateError elsewhere.
  template <class T, class... Args>
  static Proxy<T> make_here(Args&&... args) {
    return detail::ProxyAccess::make<T>(
        detail::add_here(detail::make_managed_object<T>(std::forward<Args>(args)...)));
  }

  /// Gives an object a name, by which get() finds it, also from elsewhere (see serve()). It lives
  /// on without proxies until the name is taken away, or given to another.
  template <class T>
  void publish(const std::string& name, const Proxy<T>& object) const {
    publish(name, object.handle_, detail::label_of<T>());
  }
  /// Throws ArgumentError if there is no such name.
  void unpublish(const std::string& name) const;
  /// Throws ArgumentError if there is no such name, TypeMismatch if it is no T.
  template <class T>
  [[nodiscard]] Proxy<T> get(const std::string& name) const {
    const detail::TypeLabel label = detail::label_of<T>();
    detail::LocalCall call(core().client(), detail::Handle(), 0, detail::get_function());
    detail::encode(call.arguments(), name);
    detail::encode(call.arguments(), label);
    call.send();
    return detail::take_result<Proxy<T>>(call, detail::Deadline::never());
  }

  /// From now on the server listens there too, for who connects() with the same key; see
  /// ListenOptions for who is let in: without a key, at a TCP address who has the family's, at a
  /// Unix address whoever is of the same user. Returns where to connect: the real port, an absolute
  /// path. Whoever is let in may call anything that the program has thunks of. Throws what a
  /// Listener does.
  Address serve(const Address& address, const std::optional<std::string>& authkey = {}) const;
  /// Connects to a manager that serves there, of this family or not, as long as the program is of
  /// the same build. Throws what connect() does.
  static RemoteManager connect(const Address& address,
                               const std::optional<std::string>& authkey = {}) {
    return connect(address, ConnectOptions{.authkey = authkey});
  }
  static RemoteManager connect(const Address& address, const ConnectOptions& options) {
    return RemoteManager(std::make_shared<detail::RemoteClient>(address, options));
  }
  /// How many clients are connected.
  [[nodiscard]] std::size_t client_count() const;

  /// How many objects there are in the server.
  [[nodiscard]] std::size_t object_count() const;

  /// Ends the server: methods that run end, the rest is not begun, objects are destroyed. A method
  /// that does not end in time is ended with the server. Again does nothing.
  void shutdown();
  [[nodiscard]] bool is_alive() const;
  [[nodiscard]] int pid() const;
  [[nodiscard]] const std::string& name() const;

 private:
  [[nodiscard]] detail::ManagerCore& core() const;
  void publish(const std::string& name, const detail::Handle& object,
               const detail::TypeLabel& label) const;

  template <class T, class... Args>
  static Proxy<T> make_through(const std::shared_ptr<detail::LocalClient>& client, Args&&... args) {
    detail::require_makeable<T, Args...>();
    using Arguments = detail::made_of_t<Args...>;
    const Arguments arguments(std::forward<Args>(args)...);
    detail::LocalCall call(
        client, detail::Handle(), 0,
        detail::thunk_id<&detail::run_make<T, Arguments>, detail::ThunkKind::call>());
    detail::encode(call.arguments(), arguments);
    call.send();
    return detail::take_result<Proxy<T>>(call, detail::Deadline::never());
  }

  std::unique_ptr<detail::ManagerCore> core_;
};

}  // namespace brood
