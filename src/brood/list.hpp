// Layer: channel
// A list that processes share.
// Length: one class, most of it what its calls promise.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/channel/handle_codec.hpp>
#include <brood/channel/record_codec.hpp>
#include <brood/channel/snapshot.hpp>
#include <brood/sync/listed_records.hpp>

namespace brood {

/// A list in the family's shared memory, which any of its processes reads and changes directly,
/// without a server.
///
///     void work(brood::List<std::string> done, std::string item) { done.push_back(item); }
///     brood::List<std::string> done;
///     brood::Process p(work, done, "one");
///     p.start(); p.join();
///     for (const std::string& item : done) std::puts(item.c_str());
///     brood::List<int> numbers{3, 1, 2};
///     numbers.sort();
///     numbers[0] = 7;
///     numbers[1] += 1;                                    // one atomic step
///
/// A handle: copies are the same list; it travels as an argument, in a message, in a container.
/// Values are copied in and out. Reading, setting and taking away at the end, adding at the end: of
/// a few; whatever moves others (insert, erase, sort ...) copies the list once. At once: any
/// process of the family, any thread. Each call is one step for all others; a function
///   that is given to update(), sort() or erase_if() runs with the list's lock, so it should be
///   brief, and must leave this list alone (StateError). An index may mean another value a moment
///   later.
/// Bytes: in the family's shared memory, plain values of up to 64 bytes and others of up to 23
/// encoded
///   bytes in a row, larger ones in blocks beside it; gone with the last handle, and with them what
///   only they held. A list that holds itself lives as long as the family.
/// Death: who is killed in a call has changed all of it or nothing, and keeps nobody waiting. A
///   stopped process is not dead: others wait for one that is stopped in a call.
/// Across fork: nothing special.
/// Memory ordering: what was done before a change is visible to who sees the change.
/// Iteration goes through a copy that begin() makes: it sees no later change, and none disturbs it.
/// Errors: std::out_of_range for an index beyond the end, and when an empty list is to give
/// something;
///   SharedMemoryFull, and nothing has changed; DecodeError when the bytes are damaged; StateError
///   for a handle that was moved from; what the functions throw that it is given, and nothing has
///   changed.
template <class T>
class List {
 public:
  using value_type = T;
  using size_type = std::size_t;
  using const_iterator = detail::SnapshotIterator<T>;
  using iterator = const_iterator;
  class Reference;

  List()
      : handle_(
            (detail::require_sendable<T>(), detail::HeldRecords::create(kObjectType, layout()))) {}
  List(std::initializer_list<T> values) : List() { extend(values); }
  template <std::ranges::input_range Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, List> &&
             std::convertible_to<std::ranges::range_reference_t<Range>, T>)
  explicit List(Range&& values) : List() {  // NOLINT(bugprone-forwarding-reference-overload)
    extend(std::forward<Range>(values));
  }

  // Looking.
  [[nodiscard]] std::size_t size() const { return Held(handle_, layout()).size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// Throws std::out_of_range; so does what `list[i]` is, when it is read or set.
  [[nodiscard]] T at(std::size_t i) const {
    const Held held(handle_, layout());
    return read(held, require(held, i));
  }
  [[nodiscard]] T front() const { return at(0); }
  [[nodiscard]] T back() const {
    const Held held(handle_, layout());
    if (held.size() == 0) detail::throw_is_empty("list");
    return read(held, held.size() - 1);
  }
  [[nodiscard]] Reference operator[](std::size_t i) const { return Reference(*this, i); }
  /// Where `value` is first, from `first` on. Nothing when it is not there.
  [[nodiscard]] std::optional<std::size_t> index(const T& value, std::size_t first = 0) const
    requires std::equality_comparable<T>
  {
    const Held held(handle_, layout());
    for (std::size_t i = first; i < held.size(); ++i) {
      if (read(held, i) == value) return i;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::optional<std::size_t> find(const T& value) const
    requires std::equality_comparable<T>
  {
    return index(value);
  }
  [[nodiscard]] bool contains(const T& value) const
    requires std::equality_comparable<T>
  {
    return index(value).has_value();
  }
  [[nodiscard]] std::size_t count(const T& value) const
    requires std::equality_comparable<T>
  {
    return static_cast<std::size_t>(std::ranges::count(values(), value));
  }

  // Changing.
  void set(std::size_t i, const T& value) const {
    Part part(handle_.member().heap(), value);
    Held held(handle_, layout());
    held.set(require(held, i), part.part());
    part.given();
  }
  /// Changes a value as one step: `f(T&)`. Returns what f returns, by value.
  template <std::invocable<T&> F>
  auto update(std::size_t i, F&& f) const {
    Held held(handle_, layout());
    T value = read(held, require(held, i));
    const auto finish = [&] {
      Part part(held.heap(), value);
      held.set(i, part.part());
      part.given();
    };
    if constexpr (std::is_void_v<std::invoke_result_t<F, T&>>) {
      std::invoke(std::forward<F>(f), value);
      finish();
    } else {
      std::decay_t<std::invoke_result_t<F, T&>> result = std::invoke(std::forward<F>(f), value);
      finish();
      return result;
    }
  }

  void push_back(const T& value) const {
    Part part(handle_.member().heap(), value);
    Held held(handle_, layout());
    held.reserve(1);
    held.stage(part.part());
    part.given();
    held.commit_staged();
  }
  void append(const T& value) const { push_back(value); }
  /// All of them or none, one behind the other.
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
  void extend(Range&& values) const {
    Parts parts(handle_, values);
    Held held(handle_, layout());
    const Staged staged(held, parts);
    held.commit_staged();
  }
  void extend(std::initializer_list<T> values) const {
    extend(std::ranges::subrange(values.begin(), values.end()));
  }
  /// As in Python, behind the end means at the end.
  void insert(std::size_t i, const T& value) const { insert(i, std::views::single(value)); }
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
  void insert(std::size_t i, Range&& values) const {
    Parts parts(handle_, values);
    Held held(handle_, layout());
    const std::size_t before = held.size();
    const Staged staged(held, parts);
    if (i >= before) return held.commit_staged();
    Order order = first_numbers(before + parts.size());
    std::rotate(order.begin() + static_cast<std::ptrdiff_t>(i),
                order.begin() + static_cast<std::ptrdiff_t>(before), order.end());
    held.arrange(order, order.size());
  }

  /// The last one. Throws std::out_of_range when it is empty.
  T pop_back() const {
    Held held(handle_, layout());
    const std::size_t size = held.size();
    if (size == 0) detail::throw_is_empty("list");
    T value = read(held, size - 1);
    held.truncate(size - 1);
    return value;
  }
  T pop() const { return pop_back(); }
  /// The one at i. Throws std::out_of_range.
  T pop(std::size_t i) const {
    Held held(handle_, layout());
    T value = read(held, require(held, i));
    take_out(held, i, 1);
    return value;
  }
  /// Throws std::out_of_range.
  void erase(std::size_t i) const {
    Held held(handle_, layout());
    take_out(held, require(held, i), 1);
  }
  /// From `first` to before `last`; as in Python, what is behind the end counts as the end.
  void erase(std::size_t first, std::size_t last) const {
    Held held(handle_, layout());
    const std::size_t size = held.size();
    last = std::min(last, size);
    if (first < last) take_out(held, first, last - first);
  }
  /// The first that is equal. True when there was one.
  bool remove(const T& value) const  // NOLINT(modernize-use-nodiscard)
    requires std::equality_comparable<T>
  {
    Held held(handle_, layout());
    for (std::size_t i = 0; i < held.size(); ++i) {
      if (!(read(held, i) == value)) continue;
      take_out(held, i, 1);
      return true;
    }
    return false;
  }
  /// Those for which `f` says true. How many there were.
  template <std::predicate<const T&> F>
  std::size_t erase_if(F f) const {
    Held held(handle_, layout());
    Order order = first_numbers(held.size());
    const auto gone =
        std::ranges::stable_partition(order, [&](std::uint32_t i) { return !f(read(held, i)); });
    if (!gone.empty()) held.arrange(order, order.size() - gone.size());
    return gone.size();
  }
  void clear() const { Held(handle_, layout()).truncate(0); }
  /// To so many: what is missing is `value`.
  void resize(std::size_t size, const T& value = T()) const {
    Held held(handle_, layout());
    if (size <= held.size()) return held.truncate(size);
    Parts parts(handle_, std::views::iota(held.size(), size) |
                             std::views::transform([&](std::size_t) -> const T& { return value; }));
    const Staged staged(held, parts);
    held.commit_staged();
  }
  /// These instead of those that are there, as one step.
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
  void assign(Range&& values) const {
    Parts parts(handle_, values);
    Held held(handle_, layout());
    const std::size_t before = held.size();
    const Staged staged(held, parts);
    Order order = first_numbers(before + parts.size());
    std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(before), order.end());
    held.arrange(order, parts.size());
  }
  void assign(std::initializer_list<T> values) const {
    assign(std::ranges::subrange(values.begin(), values.end()));
  }
  void reverse() const {
    Held held(handle_, layout());
    Order order = first_numbers(held.size());
    std::ranges::reverse(order);
    held.arrange(order, order.size());
  }
  /// Stable, as Python's.
  template <std::strict_weak_order<const T&, const T&> Less = std::less<>>
  void sort(Less less = {}) const {
    Held held(handle_, layout());
    const std::vector<T> all = read_all(held, 0, held.size());
    Order order = first_numbers(all.size());
    std::ranges::stable_sort(
        order, [&](std::uint32_t a, std::uint32_t b) { return less(all[a], all[b]); });
    held.arrange(order, order.size());
  }
  /// Each value takes the other's place, as one step. Throws std::out_of_range.
  void swap(std::size_t i, std::size_t j) const {
    Held held(handle_, layout());
    Order order = first_numbers(held.size());
    std::swap(order[require(held, i)], order[require(held, j)]);
    held.arrange(order, order.size());
  }
  /// Room for so many, so that none of them needs more memory for the list itself.
  void reserve(std::size_t size) const {
    Held held(handle_, layout());
    if (size > held.size()) held.reserve(size - held.size());
  }

  // All of it, as it is at one moment.
  [[nodiscard]] const_iterator begin() const { return const_iterator(values()); }
  [[nodiscard]] const_iterator end() const { return {}; }
  [[nodiscard]] std::vector<T> values() const {
    const Held held(handle_, layout());
    return read_all(held, 0, held.size());
  }
  /// From `first` to before `last`, as list[first:last].
  [[nodiscard]] std::vector<T> slice(std::size_t first, std::size_t last) const {
    const Held held(handle_, layout());
    last = std::min<std::size_t>(last, held.size());
    return read_all(held, std::min(first, last), last);
  }
  /// Another list with the same.
  [[nodiscard]] List copy() const { return List(values()); }

  void swap(List& other) noexcept { std::swap(handle_, other.handle_); }
  friend void swap(List& a, List& b) noexcept { a.swap(b); }
  /// Whether both are the same list.
  friend bool operator==(const List& a, const List& b) { return a.handle_ == b.handle_; }

 private:
  friend detail::HandleAccess;
  using Held = detail::HeldList;
  using Part = detail::ValuePart<T>;
  using Order = std::vector<std::uint32_t>;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<List>(detail::ObjectKind::list);
  static constexpr std::size_t kLeastBytes = sizeof(detail::RecordsHeader);
  static constexpr detail::RecordLayout layout() { return detail::list_layout<T>(); }
  explicit List(detail::Handle handle) : handle_(std::move(handle)) {
    detail::HeldRecords::require_layout(handle_, layout());
  }

  /// Values that are to be added, encoded before there is a lock to hold.
  class Parts {
   public:
    template <class Range>
    Parts(const detail::Handle& handle, Range&& values) : heap_(&handle.member().heap()) {
      for (auto&& value : values) {
        const T& each = value;
        if constexpr (detail::kLiesInRecord<T>) {
          all_.push_back(each);
        } else {
          all_.push_back(std::make_unique<Part>(*heap_, each));
        }
      }
    }
    [[nodiscard]] std::size_t size() const { return all_.size(); }
    /// Puts them behind the end.
    void stage(Held& held) {
      for (auto& each : all_) {
        if constexpr (detail::kLiesInRecord<T>) {
          held.stage(Part(*heap_, each).part());
        } else {
          held.stage(each->part());
          each->given();
        }
      }
    }

   private:
    detail::Heap* heap_;
    std::vector<std::conditional_t<detail::kLiesInRecord<T>, T, std::unique_ptr<Part>>> all_;
  };
  /// They stand behind the end, and go again unless they were committed.
  class Staged {
   public:
    Staged(Held& held, Parts& parts) : held_(&held) {
      held.reserve(parts.size());
      parts.stage(held);
    }
    Staged(const Staged&) = delete;
    Staged& operator=(const Staged&) = delete;
    ~Staged() { held_->unstage(); }

   private:
    Held* held_;
  };

  static T read(const Held& held, std::size_t i) { return detail::read_value<T>(held, held.at(i)); }
  static std::vector<T> read_all(const Held& held, std::size_t first, std::size_t last) {
    std::vector<T> all;
    all.reserve(last - first);
    for (std::size_t i = first; i != last; ++i) all.push_back(read(held, i));
    return all;
  }
  static std::size_t require(const Held& held, std::size_t i) {
    if (i >= held.size()) detail::throw_no_index(i, held.size());
    return i;
  }
  static Order first_numbers(std::size_t count) {
    Order order(count);
    std::iota(order.begin(), order.end(), 0U);
    return order;
  }
  static void take_out(Held& held, std::size_t first, std::size_t count) {
    const std::size_t size = held.size();
    if (first + count == size) return held.truncate(first);
    Order order = first_numbers(size);
    const auto from = order.begin() + static_cast<std::ptrdiff_t>(first);
    std::rotate(from, from + static_cast<std::ptrdiff_t>(count), order.end());
    held.arrange(order, size - count);
  }

  detail::Handle handle_;
};

template <std::ranges::input_range Range>
List(Range&&) -> List<std::ranges::range_value_t<Range>>;

/// What `list[i]` is: reads and sets that value. Keeps the list.
template <class T>
class List<T>::Reference {
 public:
  Reference(const Reference&) = default;
  ~Reference() = default;

  // NOLINTBEGIN(misc-unconventional-assign-operator): it stands for the value, as vector<bool>'s
  const Reference& operator=(const T& value) const {
    list_.set(at_, value);
    return *this;
  }
  const Reference& operator=(const Reference& other) const { return *this = T(other); }
  // NOLINTEND(misc-unconventional-assign-operator)
  operator T() const { return list_.at(at_); }  // NOLINT(google-explicit-constructor)
  [[nodiscard]] T get() const { return list_.at(at_); }

  // Each one step.
  template <class U>
  const Reference& operator+=(const U& by) const {
    list_.update(at_, [&](T& value) { value += by; });
    return *this;
  }
  template <class U>
  const Reference& operator-=(const U& by) const {
    list_.update(at_, [&](T& value) { value -= by; });
    return *this;
  }
  template <class U>
  const Reference& operator*=(const U& by) const {
    list_.update(at_, [&](T& value) { value *= by; });
    return *this;
  }
  const Reference& operator++() const { return *this += 1; }
  const Reference& operator--() const { return *this -= 1; }

  template <class U>
    requires(!std::same_as<U, Reference>) && requires(const T& value, const U& other) {
      { value == other } -> std::convertible_to<bool>;
    }
  friend bool operator==(const Reference& a, const U& b) {
    return a.get() == b;
  }
  /// Of the values.
  friend bool operator==(const Reference& a, const Reference& b)
    requires std::equality_comparable<T>
  {
    return a.get() == b.get();
  }

 private:
  friend List;
  Reference(List list, std::size_t at) : list_(std::move(list)), at_(at) {}
  List list_;
  std::size_t at_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::List<T>> = true;
template <class T>
struct std::hash<brood::List<T>> : brood::detail::HandleHash<brood::List<T>> {};
