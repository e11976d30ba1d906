#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <brood/pipeline/flow.hpp>
#include <brood/pipeline/stage.hpp>
#include <brood/pool/thread_core.hpp>

namespace brood::detail {

/// A stage on threads of this process, which it starts and ends. Private memory.
class ThreadNode final : public FlowNode {
 public:
  ThreadNode(std::shared_ptr<const StageSpec> spec, std::string name, std::size_t most,
             std::uint64_t seed, std::shared_ptr<FlowSignal> signal);
  /// Waits for what is being computed; what is not is not begun.
  ~ThreadNode() override;

  std::size_t give(FlowItem item) override;
  [[nodiscard]] bool hungry() const override;
  void start(bool all) override;
  bool collect(std::vector<FlowItem>& out) override;
  bool look(std::vector<FutexWord>& words, Deadline& soon) override;
  void drop_behind(std::uint64_t number) override;
  void add_stats(std::vector<StageStats>& stats) const override;

 private:
  class Batch;
  /// What threads and the run share.
  struct Shared {
    std::mutex mutex;
    std::vector<std::shared_ptr<Batch>> done;  // guarded by mutex
    std::atomic<std::uint64_t> wanted_to{UINT64_MAX};
    std::atomic<bool> ended{false};
    std::shared_ptr<FlowSignal> signal;
    std::shared_ptr<const StageSpec> spec;
    std::uint64_t seed = 0;
  };

  std::shared_ptr<Shared> shared_;
  std::string name_;
  std::shared_ptr<ThreadCore> core_;
  BatchSize size_;
  std::deque<FlowItem> waiting_;
  std::size_t flights_ = 0;
  std::size_t depth_ = 0;
  StageStats stats_;
};

}  // namespace brood::detail
