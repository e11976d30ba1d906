#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <brood/address.hpp>
#include <brood/connect.hpp>
#include <brood/connection.hpp>
#include <brood/manager/pending_call.hpp>
#include <brood/manager/remote_protocol.hpp>

namespace brood::detail {

/// A served manager as a stranger sees it: connections, of which each carries one call at a time.
/// Shared by all proxies that came from it; any thread may use it. In a copy of the process (a
/// fork) it refuses: the connections are the original's.
class RemoteClient : public std::enable_shared_from_this<RemoteClient> {
 public:
  /// Throws what connect() throws.
  RemoteClient(Address address, ConnectOptions options);
  RemoteClient(const RemoteClient&) = delete;
  RemoteClient& operator=(const RemoteClient&) = delete;
  ~RemoteClient() = default;

  [[nodiscard]] const Address& address() const { return address_; }
  /// Ends everything: calls throw ManagerClosed from now on.
  void close() noexcept;

 private:
  friend class RemoteCall;
  friend class RemoteObject;
  Connection take();
  void give_back(Connection connection) noexcept;
  Connection open(bool begins);
  void drop(std::uint64_t number) noexcept;
  void require_here() const;
  [[noreturn]] void throw_lost() const;

  Address address_;
  ConnectOptions options_;
  const int pid_;
  SessionId session_{};
  std::mutex mutex_;
  Connection first_;  // guarded by mutex_, as all below: while it lives, so does the session
  std::vector<Connection> idle_;
  bool closed_ = false;
};

/// A reference to an object there; given up with the last copy of a proxy.
class RemoteObject {
 public:
  RemoteObject(std::shared_ptr<RemoteClient> client, std::uint64_t number)
      : client_(std::move(client)), number_(number) {}
  RemoteObject(const RemoteObject&) = delete;
  RemoteObject& operator=(const RemoteObject&) = delete;
  ~RemoteObject() { client_->drop(number_); }

  [[nodiscard]] const std::shared_ptr<RemoteClient>& client() const { return client_; }
  [[nodiscard]] std::uint64_t number() const { return number_; }

 private:
  std::shared_ptr<RemoteClient> client_;
  std::uint64_t number_;
};

/// A call over a connection.
class RemoteCall final : public PendingCall {
 public:
  /// `object`: lives until the call has ended; null for none.
  RemoteCall(std::shared_ptr<RemoteClient> client, std::shared_ptr<RemoteObject> object,
             FunctionId function, bool for_proxy);
  ~RemoteCall() override { RemoteCall::release(); }

  [[nodiscard]] ByteSink& arguments() override { return request_; }
  void send() override;
  [[nodiscard]] bool ready() const override;
  bool wait(Deadline deadline) override;
  std::span<const std::byte> result() override;
  void release() noexcept override;
  void cancel() noexcept override { release(); }
  std::shared_ptr<Watch> watch(std::shared_ptr<PendingResult> self) override;

 private:
  class CallWatch;

  std::shared_ptr<RemoteClient> client_;
  std::shared_ptr<RemoteObject> object_;
  VectorSink request_;
  Connection connection_;
  std::optional<std::vector<std::byte>> reply_;
};

}  // namespace brood::detail
