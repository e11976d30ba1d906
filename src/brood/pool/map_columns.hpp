// The inputs of a map on their way into shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <ranges>
#include <type_traits>
#include <utility>

#include <brood/channel/codec.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/pool_core.hpp>

namespace brood::detail {

/// An iota of T: nothing needs to be written for it.
template <class Range, class T>
inline constexpr bool is_count_of = false;
template <std::integral W, class Bound, class T>
inline constexpr bool is_count_of<std::ranges::iota_view<W, Bound>, T> = std::is_same_v<W, T>;

/// The job keeps what the bytes in the sink name.
inline void keep_all(PoolJob& job, ByteSink& sink) {
  for (Handle& handle : sink.take_kept()) job.kept.push_back(std::move(handle));
}

/// An argument whose values lie side by side already, as they are sent: nothing of the caller's
/// runs when they are copied, so workers may begin meanwhile. Or there is nothing to copy.
template <class T, class Range>
inline constexpr bool is_fed = is_count_of<std::remove_cvref_t<Range>, T> ||
                               (is_bytewise<T> && std::ranges::contiguous_range<Range> &&
                                std::is_same_v<std::ranges::range_value_t<Range>, T>);
/// From so many bytes on: copying less is over before a worker has woken up.
inline constexpr std::size_t kWorthFeeding = 256 << 10;

/// Writes one argument of all items into shared memory.
template <class T, std::ranges::input_range Range>
void write_column(PoolCore& core, PoolJob& job, Column& column, Range& range, std::size_t items) {
  Heap& heap = core.heap();
  const auto keep = [&](Block block) {
    job.blocks.push_back(block);
    return block.data;
  };
  if constexpr (is_count_of<std::remove_cvref_t<Range>, T>) {
    auto* first = keep(heap.allocate(sizeof(T)));
    const T value = *std::ranges::begin(range);
    std::memcpy(first, &value, sizeof(T));
    column = {.kind = Column::kCount, .reserved = 0, .at = core.segment().offset_of(first)};
  } else if constexpr (is_bytewise<T>) {
    auto* array = keep(heap.allocate(items * sizeof(T)));
    column = {.kind = Column::kArray, .reserved = 0, .at = core.segment().offset_of(array)};
    if constexpr (std::ranges::contiguous_range<Range> &&
                  std::is_same_v<std::ranges::range_value_t<Range>, T>) {
      if (items > 0) std::memcpy(array, std::ranges::data(range), items * sizeof(T));
    } else {
      auto at = std::ranges::begin(range);
      for (std::size_t i = 0; i < items; ++i, ++at) {
        ::new (array + i * sizeof(T)) T(static_cast<T>(*at));
      }
    }
  } else {
    auto* index = reinterpret_cast<Encoded*>(keep(heap.allocate(items * sizeof(Encoded))));
    column = {.kind = Column::kEncoded, .reserved = 0, .at = core.segment().offset_of(index)};
    HeapSink sink(heap);
    auto at = std::ranges::begin(range);
    for (std::size_t i = 0; i < items; ++i, ++at) {
      const std::size_t before = sink.written();
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*at)>, T>) {
        encode(sink, static_cast<const T&>(*at));
      } else {
        encode(sink, T(*at));
      }
      index[i] = {.at = before, .bytes = sink.written() - before};
    }
    const Block bytes = sink.release();
    keep_all(job, sink);
    if (bytes.empty()) return;
    const std::uint64_t base = core.segment().offset_of(keep(bytes));
    for (std::size_t i = 0; i < items; ++i) index[i].at += base;
  }
}

/// Makes room for the next argument, of all items; what it returns copies that of some.
template <class T, std::ranges::input_range Values>
auto place_column(PoolCore& core, PoolJob& job, Column*& next, Values& values, std::size_t items) {
  Column& column = *next++;
  if constexpr (is_count_of<std::remove_cvref_t<Values>, T>) {
    write_column<T>(core, job, column, values, items);
    return [](Range) {};
  } else {
    const Block block = core.heap().allocate(items * sizeof(T));
    job.blocks.push_back(block);
    column = {.kind = Column::kArray, .reserved = 0, .at = core.segment().offset_of(block.data)};
    return [from = std::ranges::data(values), to = block.data](Range part) {
      std::memcpy(to + std::size_t{part.begin} * sizeof(T), from + part.begin,
                  std::size_t{part.size()} * sizeof(T));
    };
  }
}

}  // namespace brood::detail
