#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/manager/call_board.hpp>
#include <brood/manager/pending_call.hpp>
#include <brood/manager/slot_sink.hpp>
#include <brood/memory/handle.hpp>
#include <brood/memory/member.hpp>
#include <brood/process/child_process.hpp>

namespace brood::detail {

/// A manager as a process of its family sees it: the way to its server. One per manager and
/// process, shared by all of its proxies there; any thread may use it. In a forked child it begins
/// anew.
class LocalClient : public std::enable_shared_from_this<LocalClient> {
 public:
  /// Of a board, a shared object of kind `manager`.
  static std::shared_ptr<LocalClient> of(const Handle& board);
  /// The same, by its name. Throws ObjectGone, DecodeError.
  static std::shared_ptr<LocalClient> of(ObjectRef board);

  explicit LocalClient(Handle board);
  LocalClient(const LocalClient&) = delete;
  LocalClient& operator=(const LocalClient&) = delete;
  ~LocalClient();

  [[nodiscard]] const Handle& handle() const { return board_handle_; }
  [[nodiscard]] CallBoard& board() const { return *board_; }
  [[nodiscard]] Member& member() const { return board_handle_.member(); }
  [[nodiscard]] Tag server() const { return Tag::from_bits(board_->server.load()); }
  /// The manager's process, where it was started: it alone can find out how that ended.
  void set_process(std::shared_ptr<ChildProcess> process);

  /// Lets go of what was kept for calls that nobody waited for and that have ended.
  void sweep() noexcept;

  /// This process is the server, and this its board.
  [[nodiscard]] bool is_server() const;
  /// Throws ManagerClosed.
  void require_serving() const;
  /// The server is over: throws ManagerLost or ManagerClosed.
  [[noreturn]] void throw_lost();

 private:
  friend class LocalCall;
  /// What is to be kept for a call that nobody waits for any more, until the method has returned.
  struct Leftover {
    std::uint32_t slot;
    Handle object;
    std::vector<Handle> kept;
    Block request;
  };

  std::uint32_t take_slot();
  std::optional<std::uint32_t> claim_slot();
  void give_back(std::uint32_t slot) noexcept;
  void leave_over(Leftover leftover) noexcept;
  void begin_anew_if_forked() noexcept;
  void sweep_leftovers() noexcept;
  void ring() noexcept;

  const Handle board_handle_;
  CallBoard* const board_;
  std::mutex mutex_;
  Tag owner_;                        // guarded by mutex_, as all below: whose the slots are
  std::vector<std::uint32_t> free_;  // slots that are open
  std::vector<Leftover> leftovers_;
  std::shared_ptr<LocalClient> lingers_;  // itself, while there are some
  std::shared_ptr<ChildProcess> process_;
};

/// A call through a slot.
class LocalCall final : public PendingCall {
 public:
  /// `object`: held until the method has returned; may be empty. Throws SharedMemoryFull,
  /// ManagerClosed.
  LocalCall(std::shared_ptr<LocalClient> client, Handle object, std::uint64_t number,
            FunctionId function);
  ~LocalCall() override { LocalCall::release(); }

  [[nodiscard]] ByteSink& arguments() override { return sink(); }
  void send() override;
  [[nodiscard]] bool ready() const override;
  bool wait(Deadline deadline) override;
  std::span<const std::byte> result() override;
  void release() noexcept override { let_go(CallState::abandoned); }
  void cancel() noexcept override { let_go(CallState::cancelled); }
  std::shared_ptr<Watch> watch(std::shared_ptr<PendingResult> self) override;

 private:
  class CallWatch;
  void let_go(CallState how) noexcept;
  [[nodiscard]] CallState state() const;
  void require_here() const;
  /// Throws when there will be no answer.
  void look_for_the_end();

  std::shared_ptr<LocalClient> client_;  // none: it was let go of
  CallSlot* slot_ = nullptr;
  std::uint32_t index_ = 0;
  Tag owner_;
  Handle object_;
  /// Until it has been let go.
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access)
  [[nodiscard]] SlotSink& sink() { return sink_.value(); }

  std::optional<SlotSink> sink_;
  std::vector<std::byte> reply_;  // a copy of one that did not fit into the slot
  bool sent_ = false;
};

/// A call from within the server, which needs no slot: the thread that calls runs the method.
class CallHere final : public PendingCall {
 public:
  CallHere(std::uint64_t number, FunctionId function) : number_(number), function_(function) {}
  [[nodiscard]] ByteSink& arguments() override { return arguments_; }
  void send() override;
  [[nodiscard]] bool ready() const override { return true; }
  bool wait(Deadline /*deadline*/) override { return true; }
  std::span<const std::byte> result() override;
  void release() noexcept override {}
  void cancel() noexcept override {}
  std::shared_ptr<Watch> watch(std::shared_ptr<PendingResult> self) override;

 private:
  std::uint64_t number_;
  FunctionId function_;
  VectorSink arguments_;
  VectorSink reply_;
};

}  // namespace brood::detail
