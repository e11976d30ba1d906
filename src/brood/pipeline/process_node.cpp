#include <brood/pipeline/process_node.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/map_items.hpp>

namespace brood::detail {
namespace {

using Clock = Deadline::Clock;

/// Jobs of one node that a pool has at once: enough that no worker waits for the next.
constexpr std::size_t kMostFlights = 4;

// --- in a worker -----------------------------------------------------------------------------

/// The stages, made in this worker.
struct MadeStages {
  std::vector<std::unique_ptr<StageFunction>> stages;
  std::vector<std::uint32_t> nanoseconds;  // of each, of the last item that was measured
  bool measured = false;
  std::uint32_t until_measured = 0;
};

/// An input as it lies in shared memory.
struct InputView {
  std::span<const std::byte> bytes;
};
/// A result that is encoded where it goes.
struct StageOutput {
  const MadeStages* made;
  ItemValue value;
};

/// What a job's callable is: which stages, and where their callables are.
struct StagesCall {
  std::uint64_t key = 0;
  SharedArray<unsigned char> code;

  StageOutput operator()(const InputView& input) const {
    MadeStages& made = stages();
    ByteSource source(input.bytes);
    const auto number = decode<std::uint64_t>(source);
    const ItemScope* const outer = ItemScope::current();
    const ItemScope scope(&number, outer != nullptr ? outer->seed() : std::nullopt);
    ItemValue value = made.stages.front()->decode_input(source);
    made.measured = made.until_measured == 0;
    if (!made.measured) {
      --made.until_measured;
      for (const auto& stage : made.stages) value = stage->call(value);
      return {.made = &made, .value = std::move(value)};
    }
    Clock::time_point before = Clock::now();
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < made.stages.size(); ++i) {
      value = made.stages[i]->call(value);
      const Clock::time_point now = Clock::now();
      const auto took = static_cast<std::uint64_t>(
          std::chrono::nanoseconds(now - std::exchange(before, now)).count());
      made.nanoseconds[i] = static_cast<std::uint32_t>(std::min<std::uint64_t>(took, UINT32_MAX));
      all += took;
    }
    // Of short items a sample is measured: the clock would cost as much as they do.
    constexpr std::uint64_t kShort = 10'000;
    constexpr std::uint32_t kSample = 15;
    made.until_measured = all < kShort ? kSample : 0;
    return {.made = &made, .value = std::move(value)};
  }

 private:
  /// Made once in each worker for each run, not for each batch: what is bound to them may be large.
  MadeStages& stages() const {
    struct Known {
      std::uint64_t key;
      std::unique_ptr<MadeStages> made;
    };
    struct Cache {
      std::vector<Known> all;
      const Known* last = nullptr;
    };
    static constexpr std::size_t kMostKnown = 8;
    thread_local Cache cache;
    if (cache.last != nullptr && cache.last->key == key) return *cache.last->made;
    cache.last = nullptr;
    auto found = std::find_if(cache.all.begin(), cache.all.end(),
                              [&](const Known& k) { return k.key == key; });
    if (found == cache.all.end()) {
      auto made = std::make_unique<MadeStages>();
      ByteSource source(std::as_bytes(std::span(code.data(), code.size())));
      for (auto left = decode<std::uint32_t>(source); left > 0; --left) {
        const FunctionId id{.module = decode<std::uint64_t>(source),
                            .offset = decode<std::uint64_t>(source)};
        const auto maker = reinterpret_cast<StageMaker>(resolve_thunk(id, ThunkKind::stage));
        made->stages.push_back(maker(source));
      }
      if (made->stages.empty()) throw DecodeError("a pipeline's batch without a stage");
      made->nanoseconds.resize(made->stages.size());
      if (cache.all.size() == kMostKnown) cache.all.erase(cache.all.begin());
      cache.all.push_back({.key = key, .made = std::move(made)});
      found = std::prev(cache.all.end());
    }
    cache.last = &*found;
    return *found->made;
  }
};

}  // namespace

template <>
struct Codec<InputView> {
  using Parts = TypeList<>;
  static void write(Encoder& to, const InputView& input) {
    to.sink().write(input.bytes.data(), input.bytes.size());
  }
  static InputView read(Decoder& from) {
    const std::size_t size = from.source().remaining();
    return {{from.source().take(size), size}};
  }
};

template <>
struct Codec<StageOutput> {
  using Parts = TypeList<>;
  // What is measured: a byte whether it was, and how long each stage took; then the value.
  static void write(Encoder& to, const StageOutput& output) {
    const MadeStages& made = *output.made;
    to.put(static_cast<std::uint8_t>(made.measured ? 1 : 0));
    if (made.measured) {
      to.sink().write(made.nanoseconds.data(), made.nanoseconds.size() * sizeof(std::uint32_t));
    }
    made.stages.back()->encode_output(to.sink(), output.value);
  }
  static StageOutput read(Decoder& /*from*/) {
    throw DecodeError("a stage's output is read by who knows the stage");
  }
};

// --- in the run's process --------------------------------------------------------------------

ProcessNode::ProcessNode(std::shared_ptr<PoolCore> core, Specs specs,
                         std::vector<std::string> names, std::size_t most, std::uint64_t seed)
    : core_(std::move(core)),
      specs_(std::move(specs)),
      names_(std::move(names)),
      label_(fmt::format("{}", fmt::join(names_, " + "))),
      seed_(seed),
      key_(fresh_seed()),
      // Together they hold all that may be in flight.
      size_(core_->workers(), (most + kMostFlights - 1) / kMostFlights),
      busy_(specs_.size()),
      failed_in_(specs_.size()),
      sampled_(specs_.size()) {
  VectorSink sink;
  encode(sink, static_cast<std::uint32_t>(specs_.size()));
  for (const auto& spec : specs_) {
    encode(sink, spec->maker.module);
    encode(sink, spec->maker.offset);
    sink.write(spec->callable.data(), spec->callable.size());
    kept_.insert(kept_.end(), spec->kept.begin(), spec->kept.end());
  }
  const std::span<const std::byte> bytes = sink.bytes();
  code_ = SharedArray<unsigned char>(bytes.size());
  std::memcpy(code_.data(), bytes.data(), bytes.size());
}

ProcessNode::~ProcessNode() {
  for (Flight& flight : flights_) retire(flight);
}

void ProcessNode::retire(Flight& flight) noexcept {
  flight.watch.reset();
  core_->retire(flight.job);
}

std::size_t ProcessNode::wanted() const { return size_.now(core_->workers()); }

std::size_t ProcessNode::give(FlowItem item) {
  deepest_ = std::max(deepest_, ++depth_);
  if (batches_.empty() || batches_.back().items.size() >= wanted()) {
    batches_.emplace_back().sink = std::make_unique<HeapSink>(core_->heap());
  }
  Batch& batch = batches_.back();
  const std::size_t before = batch.sink->written();
  try {
    encode(*batch.sink, item.number);
    specs_.front()->function->encode_input(*batch.sink, item.value);
  } catch (...) {
    item.failure = std::current_exception();
    ++failed_in_.front();
    item.bytes = item.counted = 0;
    failed_.push_back(std::move(item));
    return 0;
  }
  item.value = {};
  item.bytes = item.counted = batch.sink->written() - before;
  batch.places.push_back({.at = before, .bytes = item.bytes});
  batch.items.push_back(std::move(item));
  return batch.items.back().bytes;
}

bool ProcessNode::hungry() const {
  if (!failed_.empty()) return false;
  const bool open = !batches_.empty() && batches_.back().items.size() < wanted();
  return flights_.size() + batches_.size() < kMostFlights + (open ? 1 : 0);
}

void ProcessNode::start(bool all) {
  while (flights_.size() < kMostFlights && !batches_.empty()) {
    Batch& next = batches_.front();
    if (next.items.empty()) {
      if (batches_.size() == 1) return;
      batches_.pop_front();
      continue;
    }
    const bool full = batches_.size() > 1 || next.items.size() >= wanted();
    if (!full && !all) return;
    Batch batch = std::move(next);
    batches_.pop_front();
    launch(std::move(batch));
  }
}

void ProcessNode::launch(Batch batch) {
  const auto items = static_cast<std::uint32_t>(batch.items.size());
  const auto& limits = specs_.front()->limits;
  const std::uint32_t chunk =
      limits && limits->memory != 0 ? 1 : automatic_chunk(items, core_->workers());
  std::shared_ptr<PoolJob> job =
      core_->make_job(JobHeader::kMap, items, chunk, sizeof(Encoded), specs_.front()->limits);
  Flight flight{.items = std::move(batch.items), .job = job, .watch = nullptr};
  try {
    JobHeader& header = *job->header;
    job->label = label_;
    header.seed = seed_;
    header.function =
        thunk_id<&run_map<StagesCall, StageOutput, false, InputView>, ThunkKind::map>();
    job->numbers.reserve(items);
    for (const FlowItem& item : flight.items) job->numbers.push_back(item.number);
    const auto keep = [&](Block block) {
      job->blocks.push_back(block);
      return core_->segment().offset_of(block.data);
    };
    HeapSink sink(core_->heap());
    encode_callable(sink, StagesCall{.key = key_, .code = code_});
    keep_all(*job, sink);
    header.callable_bytes = sink.written();
    header.callable_at = keep(sink.release());

    keep_all(*job, *batch.sink);
    const std::uint64_t base = keep(batch.sink->release());
    for (Encoded& place : batch.places) place.at += base;
    const std::size_t index_bytes = items * sizeof(Encoded);
    const Block index = core_->heap().allocate(sizeof(Column) + index_bytes);
    header.columns = 1;
    header.columns_at = keep(index);
    const Column column{
        .kind = Column::kEncoded, .reserved = 0, .at = header.columns_at + sizeof(Column)};
    std::memcpy(index.data, &column, sizeof column);
    std::memcpy(index.data + sizeof column, batch.places.data(), index_bytes);
    core_->publish(*job);
  } catch (...) {
    core_->retire(job);
    throw;
  }
  flights_.push_back(std::move(flight));
}

bool ProcessNode::collect(std::vector<FlowItem>& out) {
  bool any = !failed_.empty();
  depth_ -= failed_.size();
  std::move(failed_.begin(), failed_.end(), std::back_inserter(out));
  failed_.clear();
  for (std::size_t i = 0; i < flights_.size();) {
    if (!core_->settled_now(*flights_[i].job)) {
      ++i;
      continue;
    }
    Flight flight = std::move(flights_[i]);
    flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(i));
    start(false);  // the workers go on while the results are read
    land(flight, out);
    any = true;
  }
  return any;
}

void ProcessNode::land(Flight& flight, std::vector<FlowItem>& out) {
  PoolJob& job = *flight.job;
  const Segment& segment = core_->segment();
  const std::span results(reinterpret_cast<const Encoded*>(segment.at(job.header->output_at)),
                          flight.items.size());
  std::fill(sampled_.begin(), sampled_.end(), 0);
  samples_ = 0;
  for (std::uint32_t i = 0; i < results.size(); ++i) {
    FlowItem& item = flight.items[i];
    try {
      if (job.owner.board().state(i) != ItemState::kValue) {
        std::rethrow_exception(core_->failure_of(job, i));
      }
      const std::size_t size = results[i].size();
      read(item, {segment.checked(results[i].at, size), size});
      item.bytes = size;
    } catch (...) {
      item.failure = std::current_exception();
      ++failed_in_.front();
    }
  }
  if (samples_ > 0) {
    const double share = static_cast<double>(results.size()) / static_cast<double>(samples_);
    for (std::size_t i = 0; i < busy_.size(); ++i) busy_[i] += sampled_[i] * share;
    size_.learn(samples_, std::accumulate(sampled_.begin(), sampled_.end(), 0.0));
  }
  const PoolCore::Attempts attempts = core_->attempts_of(job);
  retries_ += attempts.again;
  deaths_ += attempts.deaths;
  items_ += results.size();
  depth_ -= results.size();
  core_->consume_map(job, results);
  retire(flight);
  std::move(flight.items.begin(), flight.items.end(), std::back_inserter(out));
}

void ProcessNode::read(FlowItem& item, std::span<const std::byte> bytes) {
  ByteSource source(bytes);
  if (decode<std::uint8_t>(source) != 0) {
    for (double& of_stage : sampled_) of_stage += decode<std::uint32_t>(source);
    ++samples_;
  }
  item.value = specs_.back()->function->decode_output(source);
}

bool ProcessNode::look(std::vector<FutexWord>& words, Deadline& soon) {
  if (!failed_.empty()) return true;
  for (Flight& flight : flights_) {
    if (!flight.watch) flight.watch = core_->watch(flight.job);
    if (flight.watch->look(words, soon)) return true;
  }
  return false;
}

void ProcessNode::drop_behind(std::uint64_t number) {
  const auto wanted = [&](const FlowItem& item) { return item.number <= number; };
  const auto give_up = [&](std::vector<FlowItem>& items) {
    if (std::any_of(items.begin(), items.end(), wanted)) return false;
    // Gone: they are collected without a value.
    std::move(items.begin(), items.end(), std::back_inserter(failed_));
    return true;
  };
  std::erase_if(batches_, [&](Batch& batch) { return give_up(batch.items); });
  std::erase_if(flights_, [&](Flight& flight) {
    if (!give_up(flight.items)) return false;
    retire(flight);
    return true;
  });
}

void ProcessNode::add_stats(std::vector<StageStats>& stats) const {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const bool first = i == 0;
    stats.push_back({.name = names_[i],
                     .on = "processes",
                     .workers = static_cast<int>(core_->workers()),
                     .items = items_,
                     .failed = failed_in_[i],
                     .retries = first ? retries_ : 0,
                     .deaths = first ? deaths_ : 0,
                     .deepest = first ? deepest_ : 0,
                     .depth = first ? depth_ : 0,
                     .busy = std::chrono::nanoseconds(static_cast<std::int64_t>(busy_[i])),
                     .waiting = {}});
  }
}

}  // namespace brood::detail
