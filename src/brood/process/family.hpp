#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <brood/memory/member.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/start_method.hpp>

namespace brood::detail {

/// This process's place in its family: what a Member is, and the way to the fork server. There is
/// one per process, from Runtime's constructor on (or the first use without a Runtime) to Runtime's
/// destructor; in children, until they exit.
///
/// Any thread may use it. In a child it is the same object made over: see become_child().
class Family final : public Member {
 public:
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;
  ~Family() override;

  /// The family of this process, or null when there is none yet.
  static std::shared_ptr<Family> current() noexcept;
  /// The same, but founds one without a Runtime where that is safe: no other thread runs. Otherwise
  /// throws StateError with the line to add to the program.
  static std::shared_ptr<Family> require();

  /// Makes this process the root of a new family and forks the fork server if no thread runs yet.
  /// Throws StateError when there is a family already.
  static std::shared_ptr<Family> found(bool has_runtime, std::vector<std::string> arguments);
  /// For a process which execute_again made; does not return when it is a child or server.
  static void enter_if_executed(std::vector<std::string> arguments);

  [[nodiscard]] Tag root() { return Tag::from_bits(segment().header().root.load()); }
  [[nodiscard]] bool is_root() { return self() == root(); }
  [[nodiscard]] bool has_runtime() const { return has_runtime_; }
  [[nodiscard]] const std::vector<std::string>& arguments() const { return arguments_; }

  /// This process, a fork of one of the family, is now the participant `tag`, which was reserved
  /// for it. False when that is not wanted any more: the caller exits. `inherits` is what the fork
  /// keeps of its parent: nothing but the mapping and the way to the fork server.
  bool become(Tag tag);

  /// The fork server's socket; what is sent there when it is gone returns false.
  [[nodiscard]] std::shared_ptr<const Fd> server_socket() const;
  /// Executes the program again to have a new fork server, when the last one and its guardian are
  /// gone. Throws StartError.
  void restart_server(const std::shared_ptr<const Fd>& failed);
  /// Where threads ran before the Runtime there is no fork server until the first start; nor where
  /// it and its guardian died.
  void ensure_watched() noexcept override;
  /// Executes the program again as the member `tag` in the given role ("child", "server"), with the
  /// family's descriptors and `more`. Returns the process id. Throws SystemError.
  int execute_member(std::string_view role, Tag tag, const Fd* server, std::span<const int> more);
  /// What children of the fork server have as their environment if nothing else is said; nullopt in
  /// a member that does not know.
  [[nodiscard]] const std::optional<std::vector<std::string>>& server_environment() const {
    return server_environment_;
  }
  /// Asks the watchdog to watch a process that it did not start; a new one if there is none any
  /// more. Where there cannot be one, nothing happens. Throws SystemError.
  void ask_to_watch(Tag tag, const ProcessHandle& process);

  /// Children that this process started, and how many it ever did (for their names).
  void remember_child(Tag tag);
  void forget_child(Tag tag);
  [[nodiscard]] std::vector<Tag> children() const;
  std::string next_name(const char* kind);

  /// Ends the family in order: root only; called by Runtime's destructor.
  void shut_down() noexcept;

 private:
  friend class ForkServer;
  Family(Segment segment, bool has_runtime, std::vector<std::string> arguments);
  void fork_server();
  [[noreturn]] void serve(Fd requests, Tag tag);
  void join_children();
  /// A process watches, or is about to.
  bool will_be_watched();
  void end_watchdogs();

  bool has_runtime_;
  std::vector<std::string> arguments_;
  std::shared_ptr<const Fd> server_;  // where requests go; guarded by mutex_ once threads run
  ProcessHandle server_process_;      // if it is a child of this process
  std::optional<std::vector<std::string>> server_environment_;
  mutable std::mutex mutex_;
  std::vector<Tag> children_;  // guarded by mutex_
  unsigned started_ = 0;       // guarded by mutex_
};

/// The sentence for a program that lacks a Runtime.
std::string add_runtime_hint(const std::string& what);

}  // namespace brood::detail
