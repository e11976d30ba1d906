// Layer: memory
// A list of simple values in shared memory with a name.
#pragma once

#include <chrono>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <brood/memory/list_slots.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/shared_memory.hpp>

namespace brood {

struct ShareableListOptions {
  /// As for SharedMemory.
  std::string name = {};
  Lifetime lifetime = Lifetime::family;
  /// Every slot has room for a string of so many bytes at least.
  std::size_t least_room = 0;
};

/// A list of fixed length in shared memory, for processes that need not be of one family nor agree
/// on anything before. Each slot holds nothing, a bool, an integer, a number, a string or bytes,
/// and may change from one to another.
///
///     brood::ShareableList list({1, 2.5, true, "text", {}}, {.name = "settings"});
///     list.set(3, "word");                    // room for 8 bytes: the next multiple of 8
///     // elsewhere:
///     auto same = brood::ShareableList::attach("settings");
///     int one = std::get<std::int64_t>(same[0]);
///
/// The room of a slot for strings and bytes is fixed: what it was made with, rounded up to 8, or
/// `least_room`. Lengths are kept, NULs too; no encoding is asked for. Values are equal if they are
/// of the same type: 1 is not 1.0 nor true.
///
/// An object is a handle: copies mean the same list, and it can be passed to other processes, as a
/// SharedMemory can, which also says how long the name lives.
///
/// Who may use it at once: a handle one thread; the list any number of threads and processes. A
/// get() is of one slot and gives a value that was set, never parts of two. Nothing spans slots,
/// and there is no lock to hold: `list.set(0, get(list[0]) + 1)` of two at once may count one only.
/// Setting a string or bytes excludes others that set one in the same slot, by a lock of the file,
/// and takes microseconds, the time of five system calls; all else takes nanoseconds and no lock.
/// Where its bytes live: in a SharedMemory. Whoever is killed setting a slot leaves the old value,
/// or the new one, and blocks nobody; one that is stopped in the middle keeps others from setting
/// strings there (hence the timeouts), and nobody from reading. Across fork: handles stay usable.
/// Memory ordering: who gets a value sees what its setter wrote before setting it.
///
/// Bytes of strangers are checked whenever they are read. See docs/design/shareable_list.md.
///
/// Errors: those of SharedMemory; ArgumentError for an index beyond the end and a value that has no
/// room, which the text says; DecodeError if the memory is no list or was damaged; TimeoutError;
/// SystemError when strings are set and there is no descriptor left, or no /proc.
class ShareableList {
 public:
  using Bytes = std::vector<std::byte>;
  /// Nothing, a bool, an integer, a number, a string, or bytes.
  using Value = detail::ListValue;
  using Options = ShareableListOptions;

  ShareableList(std::initializer_list<Value> values, const Options& options = {})
      : ShareableList(make({values.begin(), values.size()}, options)) {}
  /// Of a range of what converts to Value.
  template <std::ranges::input_range Range>
    requires(std::convertible_to<std::ranges::range_reference_t<Range>, Value> &&
             !std::same_as<std::remove_cvref_t<Range>, ShareableList> &&
             !std::convertible_to<Range, std::string_view>)
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): not for a ShareableList
  explicit ShareableList(Range&& range, const Options& options = {})
      : ShareableList(make(collect(range), options)) {}

  static ShareableList attach(std::string_view name);

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] Value get(std::size_t index) const;
  [[nodiscard]] Value operator[](std::size_t index) const { return get(index); }
  void set(std::size_t index, const Value& value) const {
    set_until(index, value, detail::Deadline::never());
  }
  /// Throws TimeoutError when another process sets a string in this slot all the while.
  template <class Rep, class Period>
  void set(std::size_t index, const Value& value,
           std::chrono::duration<Rep, Period> timeout) const {
    set_until(index, value, detail::Deadline::after(timeout));
  }
  /// How long a string may be there.
  [[nodiscard]] std::size_t room(std::size_t index) const;

  /// Where `value` is first, and how often it is there.
  [[nodiscard]] std::optional<std::size_t> index(const Value& value) const;
  [[nodiscard]] std::size_t count(const Value& value) const;

  /// Reads as it goes.
  class Iterator {
   public:
    using value_type = Value;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Iterator(const ShareableList* list, std::size_t index) : list_(list), index_(index) {}
    Value operator*() const { return list_->get(index_); }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++index_;
      return before;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const ShareableList* list_ = nullptr;
    std::size_t index_ = 0;
  };
  [[nodiscard]] Iterator begin() const { return {this, 0}; }
  [[nodiscard]] Iterator end() const { return {this, size()}; }

  [[nodiscard]] const std::string& name() const { return memory_.name(); }
  [[nodiscard]] const SharedMemory& memory() const { return memory_; }
  void close() noexcept;
  void unlink() const { memory_.unlink(); }

 private:
  friend struct detail::SharedMemoryAccess;
  static SharedMemory make(std::span<const Value> values, const Options& options);
  explicit ShareableList(SharedMemory memory);

  template <class Range>
  static std::vector<Value> collect(Range& range) {
    std::vector<Value> values;
    for (auto&& value : range) values.emplace_back(std::forward<decltype(value)>(value));
    return values;
  }
  [[nodiscard]] const detail::ListSlots& slots() const;
  [[nodiscard]] const detail::ListSlots& slots_with(std::size_t index) const;
  void set_until(std::size_t index, const Value& value, detail::Deadline deadline) const;

  SharedMemory memory_;
  std::shared_ptr<const detail::ListSlots> slots_;  // none after close()
};

}  // namespace brood
