// Layer: cluster
// A dictionary that machines share.
// Length: one class, most of it what its calls promise.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/record_codec.hpp>
#include <brood/channel/snapshot.hpp>
#include <brood/cluster/key_value.hpp>
#include <brood/cluster/stored_value.hpp>
#include <brood/cluster_options.hpp>

namespace brood {

/// A dictionary on the server of a cluster, which any program on any machine reads and changes,
/// with the calls of a Dict.
///
///     brood::ClusterDict<std::string, int> words("words", {.url = "nats://head:4222"});
///     words["a"] += 1;                                    // one atomic step
///     for (const auto& [word, count] : words) ...
///
/// Who says the same name, on the same server, in a cluster of the same name, has the same
/// dictionary; it stays on the server until unlink(). A handle: copies are the same dictionary; it
/// travels as a ClusterQueue does, see there. Keys and values are copied in and out; keys are equal
/// if they encode to the same bytes.
///
/// At once: any process, any thread. A call for one key is one step for all others: those that
///   change something because of what is there set it only if that is still there, or try again. So
///   a function that is given to update() may run several times, and only its last run counts: it
///   should do nothing but change the value.
/// Bytes: in the server's store, values signed with the key of the cluster, and not to be mistaken
///   for those of another key; up to its max_payload, 1 MiB unless it is told otherwise; keys up to
///   1024 bytes.
/// Death: who is killed in a call has changed all of it or nothing. What returned is there as long
///   as the server has what it has: one that loses its store loses the dictionary, and calls throw
///   EngineError then; one that is killed may lose what it was given in the last moments, unless
///   `replicas` are on others.
/// Once: a change that was made is made once, unless the server went away in the middle of it and
///   somebody changed the same key before it was back: then an update() may count twice, and two
///   may have popped the same.
/// Across fork: not there; as ClusterQueue.
/// Errors: std::out_of_range for a key that is not there, from at() and when d[key] is read;
///   EngineError when the server does not answer for ClusterOptions::patience, or has lost the
///   dictionary; AuthenticationError for another key of the cluster; TypeMismatch for another K or
///   V; ArgumentError for a handle to shared memory and for a key that is too long;
///   MessageTooLarge; DecodeError; what the functions throw that it is given, and nothing has
///   changed.
///
/// Not as in a Dict: items(), keys(), values() and iteration are no picture of one moment, what is
/// changed meanwhile is in them as it was or as it is; their order is that in which keys were last
/// set; update() with many pairs sets one after the other, as a Dict's. There is no popitem(),
/// copy() or reserve(). size() is the server's word, which is not signed. Each call goes to the
/// server and back, changes that look first twice.
template <class K, class V>
class ClusterDict {
 public:
  using key_type = K;
  using mapped_type = V;
  using value_type = std::pair<K, V>;
  using size_type = std::size_t;
  using const_iterator = detail::SnapshotIterator<value_type>;
  using iterator = const_iterator;
  class Reference;

  /// Makes it, or finds the one that is there. `name`: letters, digits, - and _. Throws
  /// ArgumentError; EngineError; AuthenticationError and TypeMismatch if it was made with another
  /// key, K or V.
  explicit ClusterDict(std::string name, ClusterOptions cluster = {})
      : store_(
            (require_types(), std::make_shared<detail::KeyValue>(
                                  detail::place_of(std::move(cluster)), setup(std::move(name))))) {}

  [[nodiscard]] const std::string& name() const { return store_->name(); }

  // Looking.
  /// Nothing when the key is not there. get() is Python's name.
  [[nodiscard]] std::optional<V> find(const K& key) const {
    return value_of(store_->get(bytes(key)));
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
  [[nodiscard]] bool contains(const K& key) const { return store_->get(bytes(key)).revision != 0; }
  [[nodiscard]] std::size_t count(const K& key) const { return contains(key) ? 1 : 0; }
  [[nodiscard]] std::size_t size() const { return store_->size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }

  /// `d[key] = value` sets it, `V v = d[key]` is at(key), `d[key] += 1` is an update().
  [[nodiscard]] Reference operator[](K key) const { return Reference(*this, std::move(key)); }

  // Changing.
  /// True when the key is new. `d[key] = value` does not ask, and takes half the time.
  bool insert_or_assign(const K& key, const V& value) const {  // NOLINT(modernize-use-nodiscard)
    const Bytes at = bytes(key);
    const Bytes to = detail::stored_bytes(value);
    for (unsigned round = 0;; ++round) {
      detail::KeyValue::give_way(round);
      const std::uint64_t revision = store_->get(at).revision;
      if (store_->set_if(at, to, revision)) return revision == 0;
    }
  }
  /// Leaves a key alone that is there. True when it is new.
  bool insert(const value_type& item) const { return try_emplace(item.first, item.second); }
  template <class... Args>
  bool try_emplace(const K& key, Args&&... args) const {
    return store_->set_if(bytes(key), detail::stored_bytes(V(std::forward<Args>(args)...)), 0);
  }
  /// What the key has, `value` when it is new.
  V setdefault(const K& key, const V& value) const {
    for (unsigned round = 0;; ++round) {
      detail::KeyValue::give_way(round);
      if (try_emplace(key, value)) return value;
      if (std::optional<V> found = find(key)) return std::move(*found);
    }
  }
  /// Sets each of a range of pairs, one after the other, as dict.update().
  template <std::ranges::input_range Range>
    requires std::constructible_from<value_type, std::ranges::range_reference_t<Range>>
  void update(Range&& items) const {
    for (auto&& item : items) {
      const value_type& pair = item;
      set(pair.first, pair.second);
    }
  }
  void update(std::initializer_list<value_type> items) const {
    update(std::ranges::subrange(items.begin(), items.end()));
  }
  /// Changes a value as one step: `f(V&)` gets what the key has, or a V{} when it is new. A
  /// function that takes a std::optional<V>& sees whether it is there, and takes it away by
  /// resetting it. It runs again when somebody else changed the key meanwhile. Returns what f
  /// returned at last, by value.
  template <class F>
    requires(std::invocable<F&, V&> || std::invocable<F&, std::optional<V>&>)
  auto update(const K& key, F&& f) const;

  /// True when it was there.
  bool erase(const K& key) const {  // NOLINT(modernize-use-nodiscard)
    return take_out(key).revision != 0;
  }
  /// Takes it out: nothing when it was not there.
  std::optional<V> pop(const K& key) const { return value_of(take_out(key)); }
  std::optional<V> extract(const K& key) const { return pop(key); }
  void clear() const { store_->clear(); }
  /// Takes it from the server, with what is in it. Handles to it find it gone.
  void unlink() const { store_->remove(); }

  // All of it, as it is while it is looked at, in the order in which the keys were last set.
  // Iteration goes through a copy that begin() makes.
  [[nodiscard]] const_iterator begin() const { return const_iterator(items()); }
  [[nodiscard]] const_iterator end() const { return {}; }
  [[nodiscard]] std::vector<value_type> items() const {
    std::vector<value_type> all;
    for (const auto& [key, value] : store_->items()) {
      all.emplace_back(detail::stored_value<K>(key), detail::stored_value<V>(value));
    }
    return all;
  }
  [[nodiscard]] std::vector<K> keys() const {
    std::vector<K> all;
    for (const auto& [key, value] : store_->items()) all.push_back(detail::stored_value<K>(key));
    return all;
  }
  [[nodiscard]] std::vector<V> values() const {
    std::vector<V> all;
    for (const auto& [key, value] : store_->items()) all.push_back(detail::stored_value<V>(value));
    return all;
  }

  /// Whether both are the same dictionary.
  friend bool operator==(const ClusterDict& a, const ClusterDict& b) {
    return a.name() == b.name() && a.store_->place() == b.store_->place();
  }

 private:
  friend struct detail::Codec<ClusterDict>;
  using Bytes = detail::KeyValue::Bytes;
  using Entry = detail::KeyValue::Entry;
  explicit ClusterDict(std::shared_ptr<detail::KeyValue> store) : store_(std::move(store)) {}

  static constexpr void require_types() {
    detail::require_storable<V>();
    detail::require_key<K>();
    static_assert(!detail::is_bytewise<K> || detail::kIsItsBytes<K>,
                  "a key of a ClusterDict must be equal byte by byte: a number without fractions, "
                  "a string, a pair or container of such, a plain struct without padding");
  }
  static detail::KeyValue::Setup setup(std::string name) {
    return {.name = std::move(name), .type = detail::stored_type<K, V>()};
  }
  static Bytes bytes(const K& key) { return detail::stored_bytes(key); }
  static std::optional<V> value_of(const Entry& entry) {
    if (entry.revision == 0) return std::nullopt;
    return detail::stored_value<V>(entry.value);
  }
  void set(const K& key, const V& value) const {
    store_->set(bytes(key), detail::stored_bytes(value));
  }
  [[nodiscard]] Entry take_out(const K& key) const {
    const Bytes at = bytes(key);
    for (unsigned round = 0;; ++round) {
      detail::KeyValue::give_way(round);
      Entry found = store_->get(at);
      if (found.revision == 0 || store_->erase_if(at, found.revision)) return found;
    }
  }

  std::shared_ptr<detail::KeyValue> store_;
};

/// What `d[key]` is: reads and sets that value. Keeps the dictionary.
template <class K, class V>
class ClusterDict<K, V>::Reference {
 public:
  Reference(const Reference&) = default;
  ~Reference() = default;

  // NOLINTBEGIN(misc-unconventional-assign-operator): it stands for the value, as vector<bool>'s
  const Reference& operator=(const V& value) const {
    dict_.set(key_, value);
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

 private:
  friend ClusterDict;
  Reference(ClusterDict dict, K key) : dict_(std::move(dict)), key_(std::move(key)) {}
  ClusterDict dict_;
  K key_;
};

template <class K, class V>
template <class F>
  requires(std::invocable<F&, V&> || std::invocable<F&, std::optional<V>&>)
auto ClusterDict<K, V>::update(const K& key, F&& f) const {
  const Bytes at = bytes(key);
  std::optional<V> value;
  const auto call = [&]() -> decltype(auto) {
    if constexpr (std::invocable<F&, V&>) {
      static_assert(
          std::default_initializable<V>,
          "update(key, f) makes a value for a new key: give V a default constructor, or f "
          "a parameter of type std::optional<V>&");
      if (!value) value.emplace();
      return std::invoke(f, *value);
    } else {
      return std::invoke(f, value);
    }
  };
  const auto finish = [&](std::uint64_t revision) {
    if (value) return store_->set_if(at, detail::stored_bytes(*value), revision);
    return revision == 0 || store_->erase_if(at, revision);
  };
  for (unsigned round = 0;; ++round) {
    detail::KeyValue::give_way(round);
    const Entry found = store_->get(at);
    value = value_of(found);
    if constexpr (std::is_void_v<decltype(call())>) {
      call();
      if (finish(found.revision)) return;
    } else {
      std::decay_t<decltype(call())> result = call();
      if (finish(found.revision)) return result;
    }
  }
}

/// As the name of the dictionary, and where it is: see PlaceName.
template <class K, class V>
struct detail::Codec<ClusterDict<K, V>> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const ClusterDict<K, V>& dict) {
    to.put(dict.store_->place());
    to.put(dict.name());
    to.put(stored_type<K, V>().print);
  }
  static ClusterDict<K, V> read(Decoder& from) {
    auto place = from.get<PlaceName>();
    auto name = from.get<std::string>();
    require_print<K, V>(from.get<std::uint64_t>(), "dictionary", name);
    return ClusterDict<K, V>(
        std::make_shared<KeyValue>(std::move(place), ClusterDict<K, V>::setup(std::move(name))));
  }
};

}  // namespace brood

template <class K, class V>
struct std::hash<brood::ClusterDict<K, V>> {
  std::size_t operator()(const brood::ClusterDict<K, V>& dict) const noexcept {
    return std::hash<std::string>()(dict.name());
  }
};
