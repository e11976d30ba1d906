#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include <brood/manager/call_board.hpp>
#include <brood/manager/managed.hpp>
#include <brood/memory/handle.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {

class RemoteServer;
struct ErrorRecord;

/// What the payload of a server's process is.
struct ServerStart {
  ObjectRef board;
};

/// The thunk of a server's process.
FunctionId server_function();

/// The process that has a manager's objects: its tables and threads. Any thread of it may use it.
class Server {
 public:
  /// This process's, or null.
  static Server* here() noexcept;

  Server(Family& family, Handle board);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  /// Until it is told to end.
  void run();

  [[nodiscard]] const Handle& board() const { return board_handle_; }

  /// Takes an object in; it lives as long as somebody holds the result's shared object.
  Handle add(std::unique_ptr<Managed> object);
  /// Null when there is none of this number.
  [[nodiscard]] std::shared_ptr<Managed> find(std::uint64_t number);
  /// A handle to its shared object. Throws ObjectGone.
  [[nodiscard]] Handle handle_of(const Managed& object);
  [[nodiscard]] std::size_t count();

  /// Objects with a name, which the server holds itself.
  void publish(const std::string& name, Handle object, TypeLabel label);
  void unpublish(const std::string& name);
  /// Throws ArgumentError if there is none, TypeMismatch if it is of another type.
  Handle published(const std::string& name, const TypeLabel& label);

  /// Runs a call in this thread; what the thunk throws passes through.
  void run_call(FunctionId function, std::uint64_t object, const CallGiver* giver,
                ByteSource& arguments, ByteSink& reply);

  [[nodiscard]] RemoteServer& remote() { return *remote_; }

 private:
  class SlotServer;
  void serve_slots();
  void start_thread(CallSlot& slot);
  void reap();
  void destroy_gone();

  Family& family_;
  Handle board_handle_;
  CallBoard& board_;
  std::unique_ptr<RemoteServer> remote_;

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Managed>> objects_;  // guarded by mutex_
  std::uint64_t next_number_ = 0;
  struct Published {
    Handle object;
    TypeLabel label;
  };
  std::unordered_map<std::string, Published> published_;
  std::recursive_mutex reaping_;      // so that count() does not miss what is being destroyed
  std::vector<std::thread> threads_;  // the main thread's own
  std::atomic<bool> stopping_{false};
};

/// Says in an error which process it was in.
void sign_error(ErrorRecord& error);

}  // namespace brood::detail
