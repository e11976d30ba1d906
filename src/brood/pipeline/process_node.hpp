#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <brood/channel/heap_sink.hpp>
#include <brood/pipeline/flow.hpp>
#include <brood/pipeline/stage.hpp>
#include <brood/pool/pool_core.hpp>
#include <brood/shared_array.hpp>

namespace brood::detail {

/// Stages on the workers of one pool: an item goes through all of them in one worker. Items go
/// there in batches, each a map of the pool, which knows what to do when a worker dies or an item
/// takes too long.
///
/// Private memory but for what is under way: encoded inputs, results and the callables, in the
/// family's shared memory, given back when they have been collected or the node goes.
class ProcessNode final : public FlowNode {
 public:
  using Specs = std::vector<std::shared_ptr<const StageSpec>>;
  /// `most`: items in flight that the run allows.
  ProcessNode(std::shared_ptr<PoolCore> core, Specs specs, std::vector<std::string> names,
              std::size_t most, std::uint64_t seed);
  ~ProcessNode() override;

  std::size_t give(FlowItem item) override;
  [[nodiscard]] bool hungry() const override;
  void start(bool all) override;
  bool collect(std::vector<FlowItem>& out) override;
  bool look(std::vector<FutexWord>& words, Deadline& soon) override;
  void drop_behind(std::uint64_t number) override;
  void add_stats(std::vector<StageStats>& stats) const override;

 private:
  /// Items whose inputs are encoded.
  struct Batch {
    std::unique_ptr<HeapSink> sink;
    std::vector<Encoded> places;
    std::vector<FlowItem> items;
  };
  struct Flight {
    std::vector<FlowItem> items;
    std::shared_ptr<PoolJob> job;
    std::shared_ptr<Watch> watch;
  };

  [[nodiscard]] std::size_t wanted() const;
  void launch(Batch batch);
  void land(Flight& flight, std::vector<FlowItem>& out);
  void retire(Flight& flight) noexcept;
  void read(FlowItem& item, std::span<const std::byte> bytes);

  std::shared_ptr<PoolCore> core_;
  Specs specs_;
  std::vector<std::string> names_;
  std::string label_;  // in timelines
  std::uint64_t seed_;
  std::uint64_t key_;
  std::vector<Handle> kept_;
  SharedArray<unsigned char> code_;  // the callables
  BatchSize size_;

  std::deque<Batch> batches_;  // not begun; the last one is being filled
  std::deque<Flight> flights_;
  std::vector<FlowItem> failed_;  // those that could not be encoded
  std::size_t depth_ = 0;

  // Of all stages together, but for `busy_`, `failed_in_`.
  std::vector<double> busy_;
  std::vector<std::uint64_t> failed_in_;
  std::vector<double> sampled_;  // of the batch that is being collected
  std::size_t samples_ = 0;
  std::uint64_t items_ = 0;
  std::uint64_t retries_ = 0;
  std::uint64_t deaths_ = 0;
  std::size_t deepest_ = 0;
};

}  // namespace brood::detail
