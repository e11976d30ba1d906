#pragma once

#include <cstdint>

#include <brood/channel/bytes.hpp>
#include <brood/channel/pending_result.hpp>
#include <brood/channel/thunk.hpp>

namespace brood::detail {

/// A call of a server, from before its arguments are encoded until its result was fetched. Used by
/// one thread at a time.
///
/// Encode into arguments(), then send(); then it is a PendingResult, whose result() throws what the
/// method threw, ManagerLost or ManagerClosed.
class PendingCall : public PendingResult {
 public:
  [[nodiscard]] virtual ByteSink& arguments() = 0;
  /// Once. Throws ManagerLost, ManagerClosed, StateError.
  virtual void send() = 0;
  /// Whoever waited does not any more: a method that has not begun need not begin.
  virtual void cancel() noexcept = 0;

  /// Waits, and throws TimeoutError at the deadline, when the call was cancelled.
  std::span<const std::byte> finish(Deadline deadline);
};

}  // namespace brood::detail
