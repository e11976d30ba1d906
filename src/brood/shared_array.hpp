// Layer: channel
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ranges>
#include <span>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include <brood/guarded.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood {

/// Elements in rows, planes and so on, the last index the fastest: a view of memory that it does
/// not own.
template <class T, std::size_t Rank>
class ArrayView {
 public:
  ArrayView(T* data, std::array<std::size_t, Rank> extents) : data_(data), extents_(extents) {}
  template <std::convertible_to<std::size_t>... Index>
    requires(sizeof...(Index) == Rank)
  [[nodiscard]] T& operator()(Index... index) const {
    std::size_t at = 0;
    std::size_t dimension = 0;
    ((at = at * extents_[dimension++] + static_cast<std::size_t>(index)), ...);
    return data_[at];
  }
  [[nodiscard]] std::size_t extent(std::size_t dimension) const { return extents_[dimension]; }
  [[nodiscard]] std::size_t size() const {
    std::size_t size = 1;
    for (const std::size_t extent : extents_) size *= extent;
    return size;
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_;
  std::array<std::size_t, Rank> extents_;
};

/// Many values in memory that processes share, without a copy and without a lock.
///
///     brood::SharedArray<double> data(1'000'000, 1.0);
///     brood::Process p(scale, data, 3.0);                 // 8 bytes cross
///     auto image = pixels.view(height, width);            // image(y, x)
///     brood::SharedArray<Row> log(0, Row{}, 1'000'000'000);  // grows in place up to that many
///
/// A contiguous range, and a handle: copies refer to the same elements, in this process and in
/// others. Who may use it: any process of the family that has a handle, from any thread; who writes
/// to an element while others read or write it needs a lock or an order of his own. The elements
/// lie in the family's shared memory, aligned to 64 bytes; they are gone with the last handle,
/// whoever was killed. A process that dies while it writes leaves what it had written. Across fork
/// a handle is one of the child's own. Memory ordering: none but grow()'s: elements below a size()
/// that was read are there. Pages are taken when it is made or grown, so writing never raises
/// SIGBUS. Errors: SharedMemoryFull when it does not fit; StateError for a handle that was moved
/// from, or without a Runtime; std::out_of_range of grow() and view().
template <class T>
class SharedArray {
 public:
  using value_type = T;
  using iterator = T*;

  /// `size` elements T(); may grow to `capacity` of them.
  explicit SharedArray(std::size_t size = 0) : SharedArray(Raw(), size, size) {
    // NOTE: fresh shared memory is zero, which is what these types begin with.
    if constexpr (!std::is_trivially_default_constructible_v<T>) fill(0, size, T());
  }
  SharedArray(std::size_t size, const T& value, std::size_t capacity = 0)
      : SharedArray(Raw(), size, std::max(size, capacity)) {
    fill(0, size, value);
  }
  template <std::ranges::sized_range Range>
    requires(std::convertible_to<std::ranges::range_reference_t<Range>, T> &&
             !std::same_as<std::remove_cvref_t<Range>, SharedArray>)
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): a copy is no range to it
  explicit SharedArray(Range&& range, std::size_t capacity = 0)
      : SharedArray(Raw(), static_cast<std::size_t>(std::ranges::size(range)),
                    std::max(static_cast<std::size_t>(std::ranges::size(range)), capacity)) {
    std::ranges::copy(range, begin());
  }

  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(payload() + kItemsAt); }
  [[nodiscard]] std::size_t size() const {
    // acquire: pairs with the release in grow(): the elements have pages and values.
    return std::min(header().size.load(std::memory_order_acquire), capacity());
  }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] std::size_t capacity() const { return static_cast<std::size_t>(header().capacity); }
  [[nodiscard]] T* begin() const { return data(); }
  [[nodiscard]] T* end() const { return data() + size(); }
  [[nodiscard]] T& operator[](std::size_t i) const { return data()[i]; }
  [[nodiscard]] std::span<T> span() const { return {data(), size()}; }

  /// The elements as rows, planes and so on: view(2, 3)(1, 2) is the sixth. Throws
  /// std::out_of_range when there are fewer.
  template <std::convertible_to<std::size_t>... Extents>
  [[nodiscard]] ArrayView<T, sizeof...(Extents)> view(Extents... extents) const {
    const ArrayView<T, sizeof...(Extents)> all(
        data(), std::array<std::size_t, sizeof...(Extents)>{static_cast<std::size_t>(extents)...});
    if (all.size() > size()) {
      throw std::out_of_range(
          fmt::format("a view of {} elements of an array of {}", all.size(), size()));
    }
    return all;
  }

  /// Makes it `size` elements long if it is shorter, in place; the new ones are `value`. The size
  /// is published by one store when all of them are there. Any process may do it at once. Throws
  /// std::out_of_range beyond capacity(), SharedMemoryFull.
  void grow(std::size_t size, const T& value = T()) {
    if (size > capacity()) {
      throw std::out_of_range(
          fmt::format("{} elements in an array with a capacity of {}", size, capacity()));
    }
    struct Unlock {
      detail::LockWord<>& lock;
      ~Unlock() { lock.unlock(); }
    };
    header().lock.lock();
    const Unlock unlock{header().lock};
    const std::size_t old = this->size();
    if (size <= old) return;
    const std::size_t page = detail::page_size();
    const std::size_t from = (kItemsAt + old * sizeof(T)) / page * page;
    const std::size_t to = (kItemsAt + size * sizeof(T) + page - 1) / page * page;
    if (!detail::populate_pages(payload() + from, to - from)) {
      throw SharedMemoryFull(
          fmt::format("the machine has no memory left for an array of {} elements", size));
    }
    fill(old, size, value);
    header().size.store(size, std::memory_order_release);  // pairs with the acquire in size()
  }

  /// Whether both refer to the same elements.
  friend bool operator==(const SharedArray&, const SharedArray&) = default;

 private:
  friend detail::HandleAccess;
  struct Raw {};
  struct alignas(64) Header {
    std::atomic<std::uint64_t> size;
    std::uint64_t capacity;
    detail::LockWord<> lock;  // of grow()
  };
  static constexpr std::size_t kItemsAt = sizeof(Header);
  static_assert(alignof(T) <= kItemsAt, "elements are aligned to 64 bytes at most");
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<T>(detail::ObjectKind::shared_array);
  static constexpr std::size_t kLeastBytes = kItemsAt;

  SharedArray(Raw, std::size_t size, std::size_t capacity)
      : handle_((detail::require_shareable<T>(), create(size, capacity))) {
    header().capacity = capacity;
    header().size.store(size, std::memory_order_release);
  }
  explicit SharedArray(detail::Handle handle) : handle_(std::move(handle)) {
    if (capacity() > (handle_.capacity() - kItemsAt) / sizeof(T)) {
      throw DecodeError("cannot decode: a shared array whose size is more than its memory");
    }
  }
  static detail::Handle create(std::size_t size, std::size_t capacity) {
    if (capacity > (SIZE_MAX - kItemsAt) / sizeof(T)) {
      throw SharedMemoryFull(
          fmt::format("an array of {} elements is more than any memory", capacity));
    }
    // A page at least, so that where it may grow begins at one.
    return detail::Handle::create(kObjectType, kItemsAt + size * sizeof(T),
                                  std::max(kItemsAt + capacity * sizeof(T), detail::page_size()));
  }

  void fill(std::size_t from, std::size_t to, const T& value) {
    std::fill(data() + from, data() + to, value);
  }
  [[nodiscard]] std::byte* payload() const { return handle_.payload().data(); }
  [[nodiscard]] Header& header() const { return *reinterpret_cast<Header*>(payload()); }

  detail::Handle handle_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::SharedArray<T>> = true;
template <class T>
struct std::hash<brood::SharedArray<T>> : brood::detail::HandleHash<brood::SharedArray<T>> {};
