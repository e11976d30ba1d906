#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <brood/channel/bytes.hpp>
#include <brood/channel/thunk.hpp>
#include <brood/manager/call_board.hpp>
#include <brood/manager/pending_call.hpp>
#include <brood/memory/handle.hpp>

namespace brood::detail {

/// Calls that are sent as one, and what became of them: the part of a CallBatch without types.
class BatchCalls {
 public:
  struct Head {
    FunctionId function;
    std::uint64_t object;
  };
  using Begin = std::function<std::shared_ptr<PendingCall>(FunctionId)>;

  /// `server`: the same for all. `begin`: how a call is made there.
  void add(const void* server, Begin begin, Head head, VectorSink& arguments);
  [[nodiscard]] std::size_t size() const { return count_; }
  /// Once. Throws TimeoutError, and what a call throws that is not a method's.
  void run(Deadline deadline);
  /// Of the call with this number. Throws what its method threw, and StateError before run().
  [[nodiscard]] std::span<const std::byte> result(std::size_t index) const;

 private:
  struct Result {
    CallOutcome outcome;
    std::span<const std::byte> bytes;  // where call_ has them
  };

  const void* server_ = nullptr;
  std::vector<Begin> begins_;  // they have the proxies, which live until the calls are done
  VectorSink bytes_;
  std::size_t count_ = 0;
  bool ran_ = false;
  std::shared_ptr<PendingCall> call_;
  std::vector<Result> results_;
};

}  // namespace brood::detail
