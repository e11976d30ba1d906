// Layer: channel
// A set that processes share.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/channel/handle_codec.hpp>
#include <brood/channel/record_codec.hpp>
#include <brood/channel/snapshot.hpp>
#include <brood/sync/hashed_records.hpp>

namespace brood {

/// A set in the family's shared memory, which any of its processes reads and changes directly,
/// without a server: the keys of a Dict without its values. What Dict says of who may use it, of
/// bytes, deaths, forks, memory ordering, iteration and errors holds here.
///
///     void visit(brood::Set<std::string> seen, std::string page) {
///       if (!seen.insert(page)) return;           // somebody else was first
///       ...
///     }
///     brood::Set<std::string> seen{"index"};
///     brood::Process p(visit, seen, "about");
///     p.start(); p.join();
///     std::set<std::string> copy(seen.begin(), seen.end());
///
/// The operators make sets of their own, as of copies: `a | b`, `a & b`, `a - b`, `a ^ b`; those
/// that assign change the set by one value at a time.
template <class T>
class Set {
 public:
  using key_type = T;
  using value_type = T;
  using size_type = std::size_t;
  using const_iterator = detail::SnapshotIterator<T>;
  using iterator = const_iterator;

  Set() : handle_((detail::require_key<T>(), detail::HeldRecords::create(kObjectType, layout()))) {}
  Set(std::initializer_list<T> values) : Set() { update(values); }
  template <std::ranges::input_range Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, Set> &&
             std::convertible_to<std::ranges::range_reference_t<Range>, T>)
  explicit Set(Range&& values) : Set() {  // NOLINT(bugprone-forwarding-reference-overload)
    update(std::forward<Range>(values));
  }

  [[nodiscard]] bool contains(const T& value) const {
    const Key wanted(value);
    return Held(handle_, layout()).find(wanted.view()) != nullptr;
  }
  [[nodiscard]] std::size_t count(const T& value) const { return contains(value) ? 1 : 0; }
  [[nodiscard]] std::size_t size() const { return Held(handle_, layout()).size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }

  /// True when it is new. add() is Python's name.
  bool insert(const T& value) const {  // NOLINT(modernize-use-nodiscard)
    const Key wanted(value);
    Held held(handle_, layout());
    if (held.find(wanted.view()) != nullptr) return false;
    detail::KeyPart key(held.heap(), wanted);
    held.insert(wanted.view(), key.part(), {});
    key.given();
    return true;
  }
  bool add(const T& value) const { return insert(value); }  // NOLINT(modernize-use-nodiscard)
  /// Each of a range.
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
  void update(Range&& values) const {
    for (auto&& value : values) insert(value);
  }
  void update(std::initializer_list<T> values) const {
    for (const T& value : values) insert(value);
  }

  /// True when it was there. discard() is Python's name.
  bool erase(const T& value) const {  // NOLINT(modernize-use-nodiscard)
    const Key wanted(value);
    Held held(handle_, layout());
    auto* const it = held.find(wanted.view());
    if (it != nullptr) held.erase(it);
    return it != nullptr;
  }
  bool discard(const T& value) const { return erase(value); }  // NOLINT(modernize-use-nodiscard)
  /// Throws std::out_of_range when it is not there.
  void remove(const T& value) const {
    if (!erase(value)) detail::throw_missing(value);
  }
  /// Takes one out: nothing when it is empty.
  std::optional<T> pop() const {
    Held held(handle_, layout());
    auto* const it = held.last();
    if (it == nullptr) return std::nullopt;
    std::optional<T> value(Key::read(held, held.key_of(it)));
    held.erase(it);
    return value;
  }
  void clear() const { Held(handle_, layout()).clear(); }
  void reserve(std::size_t values) const { Held(handle_, layout()).reserve(values); }

  // All of it, as it is at one moment, in the order in which the values came.
  [[nodiscard]] const_iterator begin() const { return const_iterator(values()); }
  [[nodiscard]] const_iterator end() const { return {}; }
  [[nodiscard]] std::vector<T> values() const {
    const Held held(handle_, layout());
    std::vector<T> all;
    all.reserve(held.size());
    held.for_each([&](detail::SharedWord* it) { all.push_back(Key::read(held, held.key_of(it))); });
    return all;
  }
  [[nodiscard]] Set copy() const { return Set(values()); }

  // With another set: of copies of both.
  [[nodiscard]] bool is_subset(const Set& other) const {
    return std::ranges::all_of(values(), [&](const T& value) { return other.contains(value); });
  }
  [[nodiscard]] bool is_superset(const Set& other) const { return other.is_subset(*this); }
  [[nodiscard]] bool is_disjoint(const Set& other) const {
    return std::ranges::none_of(values(), [&](const T& value) { return other.contains(value); });
  }
  /// Whether both have the same values, which two sets may; == asks whether they are one.
  [[nodiscard]] bool equals(const Set& other) const {
    return size() == other.size() && is_subset(other);
  }
  [[nodiscard]] friend Set operator|(const Set& a, const Set& b) {
    Set all = a.copy();
    all |= b;
    return all;
  }
  [[nodiscard]] friend Set operator&(const Set& a, const Set& b) {
    Set both;
    for (const T& value : a) {
      if (b.contains(value)) both.insert(value);
    }
    return both;
  }
  [[nodiscard]] friend Set operator-(const Set& a, const Set& b) {
    Set rest = a.copy();
    rest -= b;
    return rest;
  }
  [[nodiscard]] friend Set operator^(const Set& a, const Set& b) { return (a - b) | (b - a); }
  const Set& operator|=(const Set& other) const {
    update(other);
    return *this;
  }
  const Set& operator&=(const Set& other) const {
    for (const T& value : *this) {
      if (!other.contains(value)) erase(value);
    }
    return *this;
  }
  const Set& operator-=(const Set& other) const {
    for (const T& value : other) erase(value);
    return *this;
  }
  const Set& operator^=(const Set& other) const {
    for (const T& value : other) {
      if (!erase(value)) insert(value);
    }
    return *this;
  }

  void swap(Set& other) noexcept { std::swap(handle_, other.handle_); }
  friend void swap(Set& a, Set& b) noexcept { a.swap(b); }
  /// Whether both are the same set.
  friend bool operator==(const Set& a, const Set& b) { return a.handle_ == b.handle_; }

 private:
  friend detail::HandleAccess;
  using Held = detail::HeldTable;
  using Key = detail::Key<T>;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<Set>(detail::ObjectKind::set);
  static constexpr std::size_t kLeastBytes = sizeof(detail::RecordsHeader);
  static constexpr detail::RecordLayout layout() { return detail::set_layout<T>(); }
  explicit Set(detail::Handle handle) : handle_(std::move(handle)) {
    detail::HeldRecords::require_layout(handle_, layout());
  }

  detail::Handle handle_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::Set<T>> = true;
template <class T>
struct std::hash<brood::Set<T>> : brood::detail::HandleHash<brood::Set<T>> {};
