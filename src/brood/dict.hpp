// Layer: channel
// A dictionary that processes share.
// Length: one class, most of it what its calls promise.
#pragma once

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

/// A dictionary in the family's shared memory, which any of its processes reads and changes
/// directly, without a server.
///
///     void count(brood::Dict<std::string, int> words, std::string word) {
///       words[word] += 1;                               // one atomic step
///     }
///     brood::Dict<std::string, int> words{{"a", 1}};
///     brood::Process p(count, words, "b");
///     p.start(); p.join();
///     std::map<std::string, int> copy(words.begin(), words.end());
///     brood::Dict<std::string, brood::List<int>> lists;  // holds the lists that are in it
///     lists["x"] = brood::List<int>{1, 2};
///     lists.at("x").push_back(3);
///
/// A handle: copies are the same dictionary; it travels as an argument, in a message, in a
/// container. Keys and values are copied in and out; the keys keep the order in which they came, as
/// in Python. Keys are equal if they encode to the same bytes. At once: any process of the family,
/// any thread. Each call is one step for all others, those that
///   say "each" excepted; a function that is given to update() runs with the dictionary's lock, so
///   it should be brief, and must leave this dictionary alone (StateError).
/// Bytes: in the family's shared memory, plain values of up to 64 bytes and others of up to 23
/// encoded
///   bytes in the table, larger ones in blocks beside it; gone with the last handle, and with them
///   what only they held. A dictionary that holds itself lives as long as the family.
/// Death: who is killed in a call has changed all of it or nothing, and keeps nobody waiting. A
///   stopped process is not dead: others wait for one that is stopped in a call.
/// Across fork: nothing special.
/// Memory ordering: what was done before a change is visible to who sees the change.
/// Iteration goes through a copy that begin() makes: it sees no later change, and none disturbs it.
/// Errors: std::out_of_range for a key that is not there, from at() and when d[key] is read;
///   SharedMemoryFull, and nothing has changed; DecodeError when the bytes are damaged; StateError
///   for a handle that was moved from; what the functions throw that it is given, and nothing has
///   changed.
template <class K, class V>
class Dict {
 public:
  using key_type = K;
  using mapped_type = V;
  using value_type = std::pair<K, V>;
  using size_type = std::size_t;
  using const_iterator = detail::SnapshotIterator<value_type>;
  using iterator = const_iterator;
  class Reference;

  Dict()
      : handle_((detail::require_key<K>(), detail::require_sendable<V>(),
                 detail::HeldRecords::create(kObjectType, layout()))) {}
  Dict(std::initializer_list<value_type> items) : Dict() { update(items); }
  /// Of a range of pairs, as a std::map.
  template <std::ranges::input_range Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, Dict> &&
             std::constructible_from<value_type, std::ranges::range_reference_t<Range>>)
  explicit Dict(Range&& items) : Dict() {  // NOLINT(bugprone-forwarding-reference-overload)
    update(std::forward<Range>(items));
  }

  // Looking.
  /// Nothing when the key is not there. get() is Python's name.
  [[nodiscard]] std::optional<V> find(const K& key) const {
    const Key wanted(key);
    const Held held(handle_, layout());
    auto* const it = held.find(wanted.view());
    return it == nullptr ? std::nullopt : std::optional<V>(value_in(held, it));
  }
  [[nodiscard]] std::optional<V> get(const K& key) const { return find(key); }
  [[nodiscard]] V get(const K& key, V otherwise) const {
    std::optional<V> found = find(key);
    return found ? std::move(*found) : std::move(otherwise);
  }
  /// Throws std::out_of_range.
  [[nodiscard]] V at(const K& key) const {
    std::optional<V> found = find(key);
    if (!found) detail::throw_missing(key);
    return std::move(*found);
  }
  [[nodiscard]] bool contains(const K& key) const {
    const Key wanted(key);
    return Held(handle_, layout()).find(wanted.view()) != nullptr;
  }
  [[nodiscard]] std::size_t count(const K& key) const { return contains(key) ? 1 : 0; }
  [[nodiscard]] std::size_t size() const { return Held(handle_, layout()).size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }

  /// `d[key] = value` sets it, `V v = d[key]` is at(key), `d[key] += 1` is an update().
  [[nodiscard]] Reference operator[](K key) const { return Reference(*this, std::move(key)); }

  // Changing.
  /// True when the key is new.
  bool insert_or_assign(const K& key, const V& value) const {  // NOLINT(modernize-use-nodiscard)
    const Key wanted(key);
    return put(wanted, value, true);
  }
  /// Leaves a key alone that is there. True when it is new.
  bool insert(const value_type& item) const { return try_emplace(item.first, item.second); }
  template <class... Args>
  bool try_emplace(const K& key, Args&&... args) const {
    const Key wanted(key);
    return put(wanted, V(std::forward<Args>(args)...), false);
  }
  /// What the key has, `value` when it is new.
  V setdefault(const K& key, const V& value) const {
    const Key wanted(key);
    Held held(handle_, layout());
    if (auto* const it = held.find(wanted.view())) return value_in(held, it);
    add(held, wanted, value);
    return value;
  }
  /// Each of a range of pairs by insert_or_assign(), as dict.update().
  template <std::ranges::input_range Range>
    requires std::constructible_from<value_type, std::ranges::range_reference_t<Range>>
  void update(Range&& items) const {
    for (auto&& item : items) {
      const value_type& pair = item;
      insert_or_assign(pair.first, pair.second);
    }
  }
  void update(std::initializer_list<value_type> items) const {
    update(std::ranges::subrange(items.begin(), items.end()));
  }
  /// Changes a value as one step: `f(V&)` gets what the key has, or a V{} when it is new. A
  /// function that takes a std::optional<V>& sees whether it is there, and takes it away by
  /// resetting it. Returns what f returns, by value.
  template <class F>
    requires(std::invocable<F, V&> || std::invocable<F, std::optional<V>&>)
  auto update(const K& key, F&& f) const;

  /// True when it was there.
  bool erase(const K& key) const {  // NOLINT(modernize-use-nodiscard)
    const Key wanted(key);
    Held held(handle_, layout());
    auto* const it = held.find(wanted.view());
    if (it != nullptr) held.erase(it);
    return it != nullptr;
  }
  /// Takes it out: nothing when it was not there.
  std::optional<V> pop(const K& key) const {
    const Key wanted(key);
    Held held(handle_, layout());
    auto* const it = held.find(wanted.view());
    if (it == nullptr) return std::nullopt;
    std::optional<V> value(value_in(held, it));
    held.erase(it);
    return value;
  }
  std::optional<V> extract(const K& key) const { return pop(key); }
  /// Takes out the pair whose key came last; nothing when it is empty.
  std::optional<value_type> popitem() const {
    Held held(handle_, layout());
    auto* const it = held.last();
    if (it == nullptr) return std::nullopt;
    std::optional<value_type> item(item_in(held, it));
    held.erase(it);
    return item;
  }
  void clear() const { Held(handle_, layout()).clear(); }
  /// Room for so many keys, so that none of them needs more memory for the table.
  void reserve(std::size_t keys) const { Held(handle_, layout()).reserve(keys); }

  // All of it, as it is at one moment, in the order in which the keys came.
  [[nodiscard]] const_iterator begin() const { return const_iterator(items()); }
  [[nodiscard]] const_iterator end() const { return {}; }
  [[nodiscard]] std::vector<value_type> items() const {
    return collect<value_type>([](const Held& held, auto* it) { return item_in(held, it); });
  }
  [[nodiscard]] std::vector<K> keys() const {
    return collect<K>([](const Held& held, auto* it) { return key_in(held, it); });
  }
  [[nodiscard]] std::vector<V> values() const {
    return collect<V>([](const Held& held, auto* it) { return value_in(held, it); });
  }
  /// Another dictionary with the same.
  [[nodiscard]] Dict copy() const { return Dict(items()); }

  void swap(Dict& other) noexcept { std::swap(handle_, other.handle_); }
  friend void swap(Dict& a, Dict& b) noexcept { a.swap(b); }
  /// Whether both are the same dictionary.
  friend bool operator==(const Dict& a, const Dict& b) { return a.handle_ == b.handle_; }

 private:
  friend detail::HandleAccess;
  using Held = detail::HeldTable;
  using Key = detail::Key<K>;
  using Record = detail::SharedWord;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<Dict>(detail::ObjectKind::dict);
  static constexpr std::size_t kLeastBytes = sizeof(detail::RecordsHeader);
  static constexpr detail::RecordLayout layout() { return detail::table_layout<K, V>(); }
  explicit Dict(detail::Handle handle) : handle_(std::move(handle)) {
    detail::HeldRecords::require_layout(handle_, layout());
  }

  static K key_in(const Held& held, Record* it) { return Key::read(held, held.key_of(it)); }
  static V value_in(const Held& held, Record* it) {
    return detail::read_value<V>(held, held.value_of(it));
  }
  static value_type item_in(const Held& held, Record* it) {
    return {key_in(held, it), value_in(held, it)};
  }
  template <class T, class Read>
  std::vector<T> collect(Read read) const {
    const Held held(handle_, layout());
    std::vector<T> all;
    all.reserve(held.size());
    held.for_each([&](Record* it) { all.push_back(read(held, it)); });
    return all;
  }
  static void add(Held& held, const Key& wanted, const V& value) {
    detail::ValuePart<V> part(held.heap(), value);
    detail::KeyPart key(held.heap(), wanted);
    held.insert(wanted.view(), key.part(), part.part());
    key.given();
    part.given();
  }
  static void set(Held& held, Record* it, const V& value) {
    detail::ValuePart<V> part(held.heap(), value);
    held.set(it, part.part());
    part.given();
  }
  /// Encodes the value first: what does that may be slow, and is not the lock's business.
  bool put(const Key& wanted, const V& value, bool over) const {
    detail::ValuePart<V> part(handle_.member().heap(), value);
    Held held(handle_, layout());
    if (auto* const it = held.find(wanted.view())) {
      if (!over) return false;
      held.set(it, part.part());
      part.given();
      return false;
    }
    detail::KeyPart key(held.heap(), wanted);
    held.insert(wanted.view(), key.part(), part.part());
    key.given();
    part.given();
    return true;
  }

  detail::Handle handle_;
};

/// What `d[key]` is: reads and sets that value. Keeps the dictionary.
template <class K, class V>
class Dict<K, V>::Reference {
 public:
  Reference(const Reference&) = default;
  ~Reference() = default;

  // NOLINTBEGIN(misc-unconventional-assign-operator): it stands for the value, as vector<bool>'s
  const Reference& operator=(const V& value) const {
    dict_.insert_or_assign(key_, value);
    return *this;
  }
  const Reference& operator=(const Reference& other) const { return *this = V(other); }
  // NOLINTEND(misc-unconventional-assign-operator)
  /// Throws std::out_of_range.
  operator V() const { return dict_.at(key_); }  // NOLINT(google-explicit-constructor)
  [[nodiscard]] V get() const { return dict_.at(key_); }

  // Each one step, from V{} when the key is new.
  template <class U>
  const Reference& operator+=(const U& by) const {
    dict_.update(key_, [&](V& value) { value += by; });
    return *this;
  }
  template <class U>
  const Reference& operator-=(const U& by) const {
    dict_.update(key_, [&](V& value) { value -= by; });
    return *this;
  }
  template <class U>
  const Reference& operator*=(const U& by) const {
    dict_.update(key_, [&](V& value) { value *= by; });
    return *this;
  }
  const Reference& operator++() const { return *this += 1; }
  const Reference& operator--() const { return *this -= 1; }

  template <class U>
    requires(!std::same_as<U, Reference>) && requires(const V& value, const U& other) {
      { value == other } -> std::convertible_to<bool>;
    }
  friend bool operator==(const Reference& a, const U& b) {
    return a.get() == b;
  }
  /// Of the values.
  friend bool operator==(const Reference& a, const Reference& b)
    requires std::equality_comparable<V>
  {
    return a.get() == b.get();
  }

 private:
  friend Dict;
  Reference(Dict dict, K key) : dict_(std::move(dict)), key_(std::move(key)) {}
  Dict dict_;
  K key_;
};

template <class K, class V>
template <class F>
  requires(std::invocable<F, V&> || std::invocable<F, std::optional<V>&>)
auto Dict<K, V>::update(const K& key, F&& f) const {
  const Key wanted(key);
  Held held(handle_, layout());
  auto* const it = held.find(wanted.view());
  std::optional<V> value;
  if (it != nullptr) value.emplace(value_in(held, it));
  const auto finish = [&] {
    if (it != nullptr && value) {
      set(held, it, *value);
    } else if (it != nullptr) {
      held.erase(it);
    } else if (value) {
      add(held, wanted, *value);
    }
  };
  const auto call = [&]() -> decltype(auto) {
    if constexpr (std::invocable<F, V&>) {
      static_assert(
          std::default_initializable<V>,
          "update(key, f) makes a value for a new key: give V a default constructor, or f "
          "a parameter of type std::optional<V>&");
      if (!value) value.emplace();
      return std::invoke(std::forward<F>(f), *value);
    } else {
      return std::invoke(std::forward<F>(f), value);
    }
  };
  if constexpr (std::is_void_v<decltype(call())>) {
    call();
    finish();
  } else {
    std::decay_t<decltype(call())> result = call();
    finish();
    return result;
  }
}

}  // namespace brood

template <class K, class V>
inline constexpr bool brood::detail::kIsSharedObject<brood::Dict<K, V>> = true;
template <class K, class V>
struct std::hash<brood::Dict<K, V>> : brood::detail::HandleHash<brood::Dict<K, V>> {};
