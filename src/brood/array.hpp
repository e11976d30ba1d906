// Layer: channel
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <utility>

#include <fmt/format.h>

#include <brood/value.hpp>

namespace brood {

namespace detail {

struct ArrayHeader {
  LockWord<> lock;
  std::uint32_t reserved;
  std::uint64_t size;
};
static_assert(sizeof(ArrayHeader) == 16);

/// The lock of an array that is held, and its elements, in place: a contiguous range.
template <class T>
class ArrayLock {
 public:
  ArrayLock(Handle handle, LockWord<>& lock, std::span<T> items)
      : handle_(std::move(handle)), lock_(&lock), items_(items) {}
  ArrayLock(ArrayLock&& other) noexcept
      : handle_(std::move(other.handle_)),
        lock_(std::exchange(other.lock_, nullptr)),
        items_(other.items_) {}
  ArrayLock(const ArrayLock&) = delete;
  ArrayLock& operator=(const ArrayLock&) = delete;
  ArrayLock& operator=(ArrayLock&&) = delete;
  ~ArrayLock() {
    if (lock_ != nullptr) lock_->unlock();
  }

  [[nodiscard]] T* begin() const { return items_.data(); }
  [[nodiscard]] T* end() const { return items_.data() + items_.size(); }
  [[nodiscard]] T* data() const { return items_.data(); }
  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] T& operator[](std::size_t i) const { return items_[i]; }
  [[nodiscard]] std::span<T> operator*() const& { return items_; }
  /// The lock itself, so that `for (T& x : *array.lock())` holds it while it runs.
  [[nodiscard]] ArrayLock operator*() && { return std::move(*this); }
  /// The last one to hold the lock died with it: elements may be half of what was intended.
  [[nodiscard]] bool owner_died() const { return lock_->owner_died(); }

 private:
  Handle handle_;
  LockWord<>* lock_;
  std::span<T> items_;
};

}  // namespace detail

/// A few values that processes share, and their lock. The number of elements is fixed.
///
///     brood::Array<int> numbers{1, 2, 3};
///     for (int& n : *numbers.lock()) ++n;      // locked while the loop runs
///     int second = numbers.get(1);
///
/// A handle: copies refer to the same elements, in this process and in others, to which they cross
/// as arguments, in containers and through pools. Who may use it: any process of the family that
/// has a handle, from any thread. The elements lie in the family's shared memory and are gone with
/// the last handle. If a process dies while it holds the lock, the lock is taken over and says
/// owner_died(); the elements are as the dead left them (for all or nothing see Guarded). get() and
/// set() of elements of up to 8 bytes are single steps; of larger ones they take the lock. Across
/// fork a handle is one of the child's own. Memory ordering: unlocking releases to the next that
/// locks; single steps are sequentially consistent. Errors: std::out_of_range, SharedMemoryFull;
/// StateError for a handle that was moved from, or without a Runtime.
template <class T>
class Array {
 public:
  Array(std::initializer_list<T> values)
      : Array(std::span<const T>(values.begin(), values.size())) {}
  explicit Array(std::size_t size, const T& value = T()) : Array(detail::Handle(), size) {
    std::ranges::fill(items(), value);
  }
  template <std::ranges::sized_range Range>
    requires(std::convertible_to<std::ranges::range_reference_t<Range>, T> &&
             !std::same_as<std::remove_cvref_t<Range>, Array>)
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): a copy is no range to it
  explicit Array(Range&& range)
      : Array(detail::Handle(), static_cast<std::size_t>(std::ranges::size(range))) {
    std::ranges::copy(range, items().begin());
  }

  [[nodiscard]] std::size_t size() const { return items().size(); }

  /// Waits for the lock. Holds it until the result is destroyed.
  [[nodiscard]] detail::ArrayLock<T> lock() const {
    header().lock.lock();
    return {handle_, header().lock, items()};
  }
  /// Nothing when somebody else holds it.
  [[nodiscard]] std::optional<detail::ArrayLock<T>> try_lock() const {
    return lock_until(detail::Deadline::now());
  }
  /// Nothing when the time passed first.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<detail::ArrayLock<T>> try_lock_for(
      std::chrono::duration<Rep, Period> timeout) const {
    return lock_until(detail::Deadline::after(timeout));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<detail::ArrayLock<T>> try_lock_until(
      std::chrono::time_point<Clock, Duration> when) const {
    return lock_until(detail::Deadline::until(when));
  }

  [[nodiscard]] T get(std::size_t i) const {
    T& item = at(i);
    if constexpr (detail::kIsAtomic<T>) return std::atomic_ref<T>(item).load();
    const auto guard = lock();
    return item;
  }
  void set(std::size_t i, const T& value) {
    T& item = at(i);
    if constexpr (detail::kIsAtomic<T>) {
      std::atomic_ref<T>(item).store(value);
    } else {
      const auto guard = lock();
      item = value;
    }
  }

  /// Whether both refer to the same elements.
  friend bool operator==(const Array&, const Array&) = default;

 private:
  friend detail::HandleAccess;
  static constexpr std::size_t kAlignment = std::max<std::size_t>(alignof(T), 16);
  static constexpr std::size_t kItemsAt = kAlignment;  // the header fits into one alignment
  static_assert(kAlignment <= 64, "elements of shared memory are aligned to 64 bytes at most");
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<T>(detail::ObjectKind::array);
  static constexpr std::size_t kLeastBytes = kItemsAt;

  Array(const detail::Handle&, std::size_t size)
      : handle_((detail::require_shareable<T>(), create(size))) {
    header().size = size;
  }
  explicit Array(detail::Handle handle) : handle_(std::move(handle)) {
    if (header().size > (handle_.payload().size() - kItemsAt) / sizeof(T)) {
      throw DecodeError("cannot decode: a shared array whose size is more than its memory");
    }
  }
  static detail::Handle create(std::size_t size) {
    if (size > (SIZE_MAX - kItemsAt) / sizeof(T)) {
      throw SharedMemoryFull(fmt::format("an array of {} elements is more than any memory", size));
    }
    return detail::Handle::create(kObjectType, kItemsAt + size * sizeof(T));
  }

  std::optional<detail::ArrayLock<T>> lock_until(detail::Deadline deadline) const {
    if (!header().lock.try_lock_until(deadline)) return std::nullopt;
    return std::optional<detail::ArrayLock<T>>(std::in_place, handle_, header().lock, items());
  }
  [[nodiscard]] detail::ArrayHeader& header() const {
    return *reinterpret_cast<detail::ArrayHeader*>(handle_.payload().data());
  }
  [[nodiscard]] std::span<T> items() const {
    std::byte* payload = handle_.payload().data();
    return {reinterpret_cast<T*>(payload + kItemsAt), header().size};
  }
  [[nodiscard]] T& at(std::size_t i) const {
    const std::span<T> all = items();
    if (i >= all.size()) {
      throw std::out_of_range(fmt::format("element {} of an array of {}", i, all.size()));
    }
    return all[i];
  }

  detail::Handle handle_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::Array<T>> = true;
template <class T>
struct std::hash<brood::Array<T>> : brood::detail::HandleHash<brood::Array<T>> {};
