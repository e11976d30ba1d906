#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <new>
#include <optional>
#include <ranges>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/callable.hpp>
#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/platform/prefetch.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {

// Readers tell whether reading an item is a copy, which can be done before the item is marked.

/// One argument of a map whose values lie side by side, as workers read it.
template <class T>
class ArrayReader {
 public:
  static constexpr bool kCopies = std::is_trivially_copyable_v<T>;
  ArrayReader(Segment& segment, const Column& column, std::uint32_t items)
      : array_(reinterpret_cast<const T*>(
            segment.checked(column.at, std::uint64_t{items} * sizeof(T)))) {}
  T operator[](std::size_t item) const { return array_[item]; }

 private:
  const T* array_;
};

/// One that is a first integer and those that follow it.
template <class T>
class CountReader {
 public:
  static constexpr bool kCopies = true;
  CountReader(Segment& segment, const Column& column, std::uint32_t /*items*/) {
    std::memcpy(&first_, segment.checked(column.at, sizeof(T)), sizeof(T));
  }
  T operator[](std::size_t item) const { return static_cast<T>(first_ + static_cast<T>(item)); }

 private:
  T first_{};
};

/// One whose values must be decoded.
template <class T>
class DecodingReader {
 public:
  static constexpr bool kCopies = false;
  DecodingReader(Segment& segment, const Column& column, std::uint32_t items)
      : segment_(&segment),
        encoded_(reinterpret_cast<const Encoded*>(
            segment.checked(column.at, std::uint64_t{items} * sizeof(Encoded)))) {}
  T operator[](std::size_t item) const {
    const Encoded place = encoded_[item];
    ByteSource source({segment_->checked(place.at, place.bytes), place.bytes});
    return decode<T>(source);
  }

 private:
  Segment* segment_;
  const Encoded* encoded_;
};

/// One of either kind: a look at the kind for every item, as the price of one loop for all.
template <class T>
class ColumnReader {
 public:
  static constexpr bool kCopies = ArrayReader<T>::kCopies;
  ColumnReader(Segment& segment, const Column& column, std::uint32_t items) {
    if (column.kind == Column::kCount) {
      count_.emplace(segment, column, items);
    } else {
      array_.emplace(segment, column, items);
    }
  }
  T operator[](std::size_t item) const { return count_ ? (*count_)[item] : (*array_)[item]; }

 private:
  std::optional<ArrayReader<T>> array_;
  std::optional<CountReader<T>> count_;
};

template <class T>
using column_reader_t =
    std::conditional_t<!is_bytewise<T>, DecodingReader<T>,
                       std::conditional_t<std::is_integral_v<T>, ColumnReader<T>, ArrayReader<T>>>;

/// Calls `run` with a tuple of readers. The usual case, one column, has a loop of its own for each
/// kind: at a nanosecond per item a branch is felt.
template <class... Ts, class Run>
void with_readers(Segment& segment, const Column* columns, std::uint32_t items, const Run& run) {
  for (std::size_t i = 0; i < sizeof...(Ts); ++i) {
    const bool integral = std::array{std::is_integral_v<Ts>...}[i];
    if (columns[i].kind == Column::kCount && !integral) {
      throw DecodeError("only integers are counted");
    }
  }
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    if constexpr (sizeof...(Ts) == 1 && (std::is_integral_v<Ts> && ...)) {
      if (columns[0].kind == Column::kCount) {
        run(std::tuple<CountReader<Ts>...>(CountReader<Ts>(segment, columns[I], items)...));
      } else {
        run(std::tuple<ArrayReader<Ts>...>(ArrayReader<Ts>(segment, columns[I], items)...));
      }
    } else {
      run(std::tuple<column_reader_t<Ts>...>(column_reader_t<Ts>(segment, columns[I], items)...));
    }
  }(std::index_sequence_for<Ts...>{});
}

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
  void put(std::size_t item, Compute&& compute) const {
    if constexpr (std::is_void_v<R>) {
      compute();
    } else if constexpr (is_bytewise<R>) {
      if constexpr (sizeof(R) <= kLine) prefetch_to_write(at_ + item * sizeof(R) + kAhead);
      ::new (at_ + item * sizeof(R)) R(compute());
    } else {
      const R result = compute();
      ResultArea::Writer writer(*results_);
      encode(writer, result);
      reinterpret_cast<Encoded*>(at_)[item] = writer.commit();
    }
  }

 private:
  // The owner has read what was there before, from memory that maps use again and again, so each
  // line of results must be fetched from its processor's cache. The store that waits for it holds
  // up the marks behind it, and they the items that would be computed meanwhile: without the
  // prefetch a map of 50 ns functions takes 10 % longer, of 1 ns 20 %. From 512 bytes to 4096
  // ahead make no difference.
  static constexpr std::size_t kLine = 64;
  static constexpr std::size_t kAhead = 1024;

  std::byte* at_;
  ResultArea* results_;
};

/// Runs `items`, which are a chunk or the rest of one. All but the callable are copies, so that the
/// compiler can keep them in registers: the marks of the items are fences to it.
template <class F, class R, bool Spread, class... Readers>
[[gnu::noinline]] void run_items(F& function, OutputWriter<R> output, ItemMarks<> marks,
                                 Range items, Readers... readers) {
  // NOTE: an index of 32 bits would be widened for every item, and a tuple of readers would stay in
  // memory: at a nanosecond per item each instruction is felt.
  const std::size_t end = items.end;
  const auto call = [&function](auto&&... arguments) -> R {
    if constexpr (Spread) {
      return (std::apply(function, std::forward<decltype(arguments)>(arguments)), ...);
    } else {
      return std::invoke(function, std::forward<decltype(arguments)>(arguments)...);
    }
  };
#pragma GCC unroll 4
  for (std::size_t item = items.begin; item != end; ++item) {
    const auto mark = static_cast<std::uint32_t>(item);
    if constexpr ((Readers::kCopies && ...)) {
      // Read before the mark: behind that store the processor begins the load later, and with it
      // all that hangs on it (50 ns functions: 3 % slower).
      [&](auto... arguments) {
        marks.begin(mark);
        output.put(item, [&] { return call(std::move(arguments)...); });
      }(readers[item]...);
    } else {
      marks.begin(mark);
      output.put(item, [&] { return call(readers[item]...); });
    }
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
  const OutputWriter<R> output(run);
  const ItemMarks<> marks = run.board.marks(run.slot);

  with_readers<Ts...>(run.segment, columns, run.board.items(), [&](const auto& readers) {
    ErrorRecord error;
    const bool asks = run.job.asks_owner != 0;
    for (Range chunk = run.take(); chunk;) {
      run.mark_worked();
      if (run.unwanted()) {
        run.drop(chunk);
        chunk = run.next(chunk);
        continue;
      }
      Range left = chunk;
      bool ask = false;
      // One handler around many items: an exception ends the loop, which then goes on behind.
      while (!run_catching(
          [&] {
            std::apply(
                [&](const auto&... reader) {
                  run_items<F, R, Spread>(function, output, marks, left, reader...);
                },
                readers);
          },
          error)) {
        const std::uint32_t failed = std::clamp(marks.begun(), left.begin, left.end - 1);
        marks.finish({left.begin, failed}, ItemState::kValue);
        run.fail(failed, error);
        left.begin = failed + 1;
        if (!asks) continue;
        left.end = chunk.end = left.begin;
        ask = true;
        break;
      }
      marks.finish(left, ItemState::kValue);
      chunk = run.next(chunk, ask);
    }
  });
}

}  // namespace brood::detail
