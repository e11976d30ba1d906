#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/outcome.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_columns.hpp>
#include <brood/pool/map_items.hpp>
#include <brood/pool/map_types.hpp>
#include <brood/pool/pool_core.hpp>

namespace brood::detail {

/// Items of one commit when the caller does not say: enough to make the commit's cost vanish, and
/// few enough that uneven items can be handed on.
std::uint32_t automatic_chunk(std::size_t items, std::uint32_t workers);

/// A map from its call to its results. R: of the callable; Ts: what it is stored to be called with.
template <class F, class R, bool Spread, class... Ts>
class MapCall {
 public:
  explicit MapCall(std::shared_ptr<PoolCore> core) : core_(std::move(core)) {}
  MapCall(const MapCall&) = delete;
  MapCall& operator=(const MapCall&) = delete;
  ~MapCall() {
    if (job_) core_->retire(job_);
  }

  /// Of its items' random numbers; before start().
  void set_seed(std::uint64_t seed) { seed_ = seed; }

  template <class... Ranges>
  void start(const F& function, std::size_t items, std::size_t chunk,
             std::shared_ptr<const CallLimits> limits, Ranges&... ranges) {
    if (items >= std::numeric_limits<std::uint32_t>::max()) {
      throw StateError(
          fmt::format("a map of {} items: at most {} go at once; map parts of it, or use imap",
                      items, std::numeric_limits<std::uint32_t>::max() - 1));
    }
    items_ = static_cast<std::uint32_t>(items);
    const std::uint32_t per_commit =
        chunk == 0 ? automatic_chunk(items, core_->workers())
                   : static_cast<std::uint32_t>(std::min(chunk, std::max<std::size_t>(items, 1)));
    job_ = core_->make_job(JobHeader::kMap, items_, per_commit, kOutputBytes, std::move(limits));
    JobHeader& header = *job_->header;
    header.seed = seed_;
    header.function = thunk_id<&run_map<F, R, Spread, Ts...>, ThunkKind::map>();
    {
      HeapSink sink(core_->heap());
      encode_callable(sink, function);
      keep_all(*job_, sink);
      header.callable_bytes = sink.written();
      if (const Block block = sink.release(); !block.empty()) {
        job_->blocks.push_back(block);
        header.callable_at = core_->segment().offset_of(block.data);
      } else {
        header.callable_at = core_->segment().offset_of(&header);  // nothing to read, but in bounds
      }
    }
    const Block columns = core_->heap().allocate(sizeof...(Ts) * sizeof(Column));
    job_->blocks.push_back(columns);
    header.columns = sizeof...(Ts);
    header.columns_at = core_->segment().offset_of(columns.data);
    auto* column = reinterpret_cast<Column*>(columns.data);
    if constexpr ((is_fed<Ts, Ranges> && ...)) {
      constexpr std::size_t kBytes =
          (0 + ... + (is_count_of<std::remove_cvref_t<Ranges>, Ts> ? 0 : sizeof(Ts)));
      if (kBytes > 0 && items >= kWorthFeeding / kBytes) {
        const std::tuple copies{place_column<Ts>(*core_, *job_, column, ranges, items)...};
        core_->feed(*job_, kBytes, [&](Range part) {
          std::apply([&](const auto&... copy) { (copy(part), ...); }, copies);
        });
        return;
      }
    }
    (write_column<Ts>(*core_, *job_, *column++, ranges, items), ...);
    core_->publish(*job_);
  }

  void wait(const std::function<void(std::size_t, std::size_t)>& progress) {
    std::function<void(std::size_t)> tick;
    if (progress) tick = [&](std::size_t done) { progress(done, items_); };
    core_->wait_all(*job_, tick);
    if (progress) progress(items_, items_);
  }

  /// All values; or the first failure, thrown.
  auto values() {
    if (!job_->owner.all_values()) {
      const std::uint32_t first = job_->owner.first_other_than(ItemState::kValue, 0);
      if (first < items_) {
        const std::exception_ptr failure = core_->failure_of(*job_, first);
        consume();
        std::rethrow_exception(failure);
      }
    }
    if constexpr (!std::is_void_v<R>) {
      std::vector<R> values = take_values();
      consume();
      return values;
    }
  }

  std::vector<Outcome<R>> outcomes() {
    std::vector<Outcome<R>> outcomes;
    outcomes.reserve(items_);
    for (std::uint32_t i = 0; i < items_; ++i) outcomes.push_back(outcome(i));
    consume();
    return outcomes;
  }

 private:
  static constexpr std::size_t output_bytes() {
    if constexpr (std::is_void_v<R>) {
      return 0;
    } else if constexpr (is_bytewise<R>) {
      return sizeof(R);
    } else {
      return sizeof(Encoded);
    }
  }
  static constexpr std::size_t kOutputBytes = output_bytes();

  [[nodiscard]] const std::byte* output() const {
    return core_->segment().at(job_->header->output_at);
  }
  [[nodiscard]] std::span<const Encoded> encoded() const {
    if constexpr (std::is_void_v<R>) {
      return {};
    } else if constexpr (is_bytewise<R>) {
      return {};
    } else {
      return {reinterpret_cast<const Encoded*>(output()), items_};
    }
  }
  void consume() noexcept { core_->consume_map(*job_, encoded()); }

  auto value(std::uint32_t item) const {
    if constexpr (is_bytewise<R>) {
      return reinterpret_cast<const R*>(output())[item];
    } else {
      const Encoded place = encoded()[item];
      ByteSource source({core_->segment().checked(place.at, place.size()), place.size()});
      return decode<R>(source);
    }
  }

  auto take_values() {
    if constexpr (is_bytewise<R>) {
      const auto* first = reinterpret_cast<const R*>(output());
      return std::vector<R>(first, first + items_);
    } else {
      std::vector<R> values;
      values.reserve(items_);
      try {
        for (std::uint32_t i = 0; i < items_; ++i) values.push_back(value(i));
      } catch (...) {
        consume();
        throw;
      }
      return values;
    }
  }

  Outcome<R> outcome(std::uint32_t item) {
    if (job_->owner.board().state(item) != ItemState::kValue) {
      return Outcome<R>(core_->failure_of(*job_, item));
    }
    if constexpr (std::is_void_v<R>) {
      return Outcome<R>(std::monostate{});
    } else {
      try {
        return Outcome<R>(value(item));
      } catch (...) {
        return Outcome<R>(std::current_exception());  // it does not decode: this item's failure
      }
    }
  }

  std::shared_ptr<PoolCore> core_;
  std::shared_ptr<PoolJob> job_;
  std::uint32_t items_ = 0;
  std::uint64_t seed_ = 0;
};

/// The thunk of a submitted task.
template <class F, class Arguments, class R>
void run_task(ByteSource& call, TaskOutput& output) {
  F function = decode_callable<F>(call);
  auto arguments = decode<Arguments>(call);
  if constexpr (std::is_void_v<R>) {
    invoke_stored(function, std::move(arguments));
    output.put_nothing();
  } else {
    output.put(static_cast<const R&>(R(invoke_stored(function, std::move(arguments)))));
  }
}

/// The same for one of the items of imap, or a task with a seed.
struct ItemNumber {
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  std::uint64_t item;
  std::uint64_t seed;
};
template <class F, class Arguments, class R>
void run_item(ByteSource& call, TaskOutput& output) {
  const auto number = decode<ItemNumber>(call);
  const ItemScope scope = number.item == ItemNumber::kNone
                              ? ItemScope(nullptr, nullptr, number.seed)
                              : ItemScope(&number.item, number.seed);
  run_task<F, Arguments, R>(call, output);
}

}  // namespace brood::detail
