#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <new>
#include <ranges>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/callable.hpp>
#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {

/// One argument of a map, as workers read it.
template <class T>
class ColumnReader {
 public:
  ColumnReader(Segment& segment, const Column& column, std::uint32_t items) : segment_(&segment) {
    if (column.kind == Column::kCount) {
      if constexpr (std::is_integral_v<T>) {
        std::memcpy(&first_, segment.checked(column.at, sizeof(T)), sizeof(T));
      } else {
        throw DecodeError("only integers are counted");
      }
    } else if constexpr (is_bytewise<T>) {
      array_ =
          reinterpret_cast<const T*>(segment.checked(column.at, std::uint64_t{items} * sizeof(T)));
    } else {
      encoded_ = reinterpret_cast<const Encoded*>(
          segment.checked(column.at, std::uint64_t{items} * sizeof(Encoded)));
    }
  }

  T operator[](std::uint32_t item) const {
    if constexpr (!is_bytewise<T>) {
      const Encoded place = encoded_[item];
      ByteSource source({segment_->checked(place.at, place.bytes), place.bytes});
      return decode<T>(source);
    } else {
      if constexpr (std::is_integral_v<T>) {
        if (array_ == nullptr) return static_cast<T>(first_ + static_cast<T>(item));
      }
      return array_[item];
    }
  }

 private:
  struct Nothing {};
  Segment* segment_;
  std::conditional_t<std::is_integral_v<T>, T, Nothing> first_{};
  const T* array_ = nullptr;
  const Encoded* encoded_ = nullptr;
};

/// Where the results of a map go.
template <class R>
class OutputWriter {
 public:
  OutputWriter(JobRun& run) : results_(&run.results) {
    const std::uint64_t items = run.board.items();
    if constexpr (std::is_void_v<R>) {
      at_ = nullptr;
    } else if constexpr (is_bytewise<R>) {
      at_ = run.segment.checked(run.job.output_at, items * sizeof(R));
    } else {
      at_ = run.segment.checked(run.job.output_at, items * sizeof(Encoded));
    }
  }

  template <class Compute>
  void put(std::uint32_t item, Compute&& compute) const {
    if constexpr (std::is_void_v<R>) {
      compute();
    } else if constexpr (is_bytewise<R>) {
      ::new (at_ + item * sizeof(R)) R(compute());
    } else {
      const R result = compute();
      ResultArea::Writer writer(*results_);
      encode(writer, result);
      reinterpret_cast<Encoded*>(at_)[item] = writer.commit();
    }
  }

 private:
  std::byte* at_;
  ResultArea* results_;
};

/// Runs `items`, which are a chunk or the rest of one. All but the callable are copies, so that the
/// compiler can keep them in registers: the marks of the items are fences to it.
template <class F, class R, bool Spread, class... Ts>
void run_items(F& function, std::tuple<ColumnReader<Ts>...> readers, OutputWriter<R> output,
               ItemMarks<> marks, Range items) {
  for (std::uint32_t item = items.begin; item != items.end; ++item) {
    marks.begin(item);
    output.put(item, [&]() -> R {
      return std::apply(
          [&](const auto&... reader) -> R {
            if constexpr (Spread) {
              return (std::apply(function, reader[item]), ...);
            } else {
              return std::invoke(function, reader[item]...);
            }
          },
          readers);
    });
  }
}

/// The thunk of a map: F is called with one item of each column, or, if Spread, with the elements
/// of the tuples in the only column.
template <class F, class R, bool Spread, class... Ts>
void run_map(JobRun& run) {
  ByteSource source(
      {run.segment.checked(run.job.callable_at, run.job.callable_bytes), run.job.callable_bytes});
  F function = decode_callable<F>(source);
  const auto* columns = reinterpret_cast<const Column*>(
      run.segment.checked(run.job.columns_at, sizeof...(Ts) * sizeof(Column)));
  const auto readers = [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<ColumnReader<Ts>...>(
        ColumnReader<Ts>(run.segment, columns[I], run.board.items())...);
  }(std::index_sequence_for<Ts...>{});
  const OutputWriter<R> output(run);
  const ItemMarks<> marks = run.board.marks(run.slot);

  ErrorRecord error;
  for (Range chunk = run.board.take(run.slot); chunk; chunk = run.board.next(run.slot, chunk)) {
    run.mark_worked();
    if (run.unwanted()) {
      run.drop(chunk);
      continue;
    }
    Range left = chunk;
    // One handler around many items: an exception ends the loop, which then goes on behind.
    while (!run_catching(
        [&] { run_items<F, R, Spread, Ts...>(function, readers, output, marks, left); }, error)) {
      const std::uint32_t failed = std::clamp(marks.begun(), left.begin, left.end - 1);
      marks.finish({left.begin, failed}, ItemState::kValue);
      run.fail(failed, error);
      left.begin = failed + 1;
    }
    marks.finish(left, ItemState::kValue);
  }
}

}  // namespace brood::detail
