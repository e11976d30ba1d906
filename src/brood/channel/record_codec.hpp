// Layer: channel
// Values as they lie in the records of shared containers: plain ones as they are, others encoded.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <brood/channel/cell_sink.hpp>
#include <brood/channel/codec.hpp>
#include <brood/sync/hashed_records.hpp>

namespace brood::detail {

/// Whether a T lies in the words of its record as it is.
template <class T>
inline constexpr bool kLiesInRecord =
    is_bytewise<T> && sizeof(T) <= Part::kMostWords * sizeof(std::uint64_t);
template <class T>
inline constexpr std::uint8_t kRecordWords =
    kLiesInRecord<T> ? (sizeof(T) + 7) / 8 : std::uint8_t{Cell::kWords};

/// A value on its way into a record. Its block, if it has one, is freed unless it was given away.
template <class T>
class ValuePart {
 public:
  ValuePart(Heap& heap, const T& value) : sink_(heap) {
    if constexpr (kLiesInRecord<T>) {
      part_.words[kRecordWords<T> - 1] = 0;
      std::memcpy(part_.words.data(), &value, sizeof(T));
    } else {
      encode(sink_, value);
      sink_.seal(part_);
    }
  }
  [[nodiscard]] const Part& part() const { return part_; }
  /// It is the container's now.
  void given() {
    if constexpr (!kLiesInRecord<T>) sink_.given();
  }

 private:
  struct NoSink {
    explicit NoSink(Heap& /*heap*/) {}
  };
  Part part_;
  [[no_unique_address]] std::conditional_t<kLiesInRecord<T>, NoSink, CellSink> sink_;
};

/// The value in a record. Throws DecodeError, and what T's functions throw.
template <class T>
T read_value(const HeldRecords& records, const SharedWord* at) {
  if constexpr (kLiesInRecord<T>) {
    std::array<std::uint64_t, kRecordWords<T>> words;
    // relaxed: see SharedWord.
    for (std::size_t i = 0; i != words.size(); ++i)
      words[i] = at[i].load(std::memory_order_relaxed);
    ByteSource source(std::as_bytes(std::span(words)));
    return read_image<T>(source);
  } else {
    Cell::Words place;
    ByteSource source(records.bytes_of(at, place));
    return decode<T>(source);
  }
}

// --- keys ----------------------------------------------------------------------------------------

/// Whether a T is its bytes: equal values have equal ones.
template <class T>
inline constexpr bool kIsItsBytes = is_bytewise<T> && std::has_unique_object_representations_v<T>;

template <class T>
constexpr bool can_be_key();
template <class... Ts>
constexpr bool can_all_be_keys(TypeList<Ts...>) {
  return (can_be_key<std::remove_const_t<std::remove_all_extents_t<Ts>>>() && ...);
}

/// Whether equal values of T encode to equal bytes. Not those that have no order (unordered_map),
/// nor what is behind a pointer; what cereal functions write is up to them.
template <class T>
constexpr bool can_be_key() {
  if constexpr (kIsItsBytes<T> || std::is_floating_point_v<T>) {
    return true;
  } else if constexpr (is_bytewise<T> && !HasCodec<T>) {
    if constexpr (std::is_class_v<T> && Aggregate<T> && !enable_bytewise<T>) {
      return can_all_be_keys(FieldTypes<T>{});
    } else {
      return false;
    }
  } else if constexpr (kCrossing<T> == Crossing::codec || kCrossing<T> == Crossing::image) {
    if constexpr (
        requires { typename T::hasher; } || requires { typename T::element_type; }) {
      return false;
    } else {
      return can_all_be_keys(typename Codec<T>::Parts{});
    }
  } else if constexpr (kCrossing<T> == Crossing::fields) {
    return can_all_be_keys(FieldTypes<T>{});
  } else {
    return kCrossing<T> != Crossing::none;
  }
}

template <class T>
constexpr void require_key() {
  require_sendable<T>();
  if constexpr (Sendable<T>) {
    static_assert(can_be_key<T>(),
                  "a type of which equal values may have different bytes (an unordered container, "
                  "what a pointer points to, a class with brood::enable_bytewise that has padding) "
                  "cannot be a key in shared memory: use one whose equal values are equal "
                  "byte by byte");
  }
}

/// Whether a key lies in its record as it is.
template <class T>
inline constexpr bool kKeyLiesInRecord =
    (kIsItsBytes<T> && kLiesInRecord<T>) || std::floating_point<T>;

/// A key to look for.
template <class K>
class Key {
 public:
  static constexpr bool kInCell = !kKeyLiesInRecord<K>;
  static constexpr std::uint8_t kWords =
      kInCell ? std::uint8_t{Cell::kWords} : std::uint8_t{(sizeof(K) + 7) / 8};

  explicit Key(const K& key) {
    if constexpr (std::floating_point<K>) {
      // Zero has two signs, and an extended one bytes that say nothing.
      static_assert(sizeof(K) <= 8, "a long double cannot be a key: use a double");
      const K plain = key == K(0) ? K(0) : key;
      words_.fill(0);
      std::memcpy(words_.data(), &plain, sizeof(plain));
      view_ = {.hash = hash_words(words_.data(), kWords), .words = words_.data()};
    } else if constexpr (!kInCell) {
      words_[kWords - 1] = 0;
      std::memcpy(words_.data(), &key, sizeof(K));
      view_ = {.hash = hash_words(words_.data(), kWords), .words = words_.data()};
    } else {
      write(key);
      const std::span<const std::byte> bytes = sink_.bytes();
      view_ = {.hash = hash_bytes(bytes), .words = nullptr, .bytes = bytes};
      if (bytes.size() <= Cell::kInPlace) {
        words_ = Cell::in_place(bytes);
        view_.words = words_.data();
      }
    }
  }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;

  [[nodiscard]] const KeyView& view() const { return view_; }

  static K read(const HeldRecords& records, const SharedWord* at) {
    if constexpr (!kInCell) {
      return read_value<K>(records, at);
    } else {
      Cell::Words place;
      ByteSource source(records.bytes_of(at, place));
      return read_from(source);
    }
  }

 private:
  friend class KeyPart;
  /// A plain aggregate with padding, or with numbers that have more than one zero, goes field by
  /// field.
  static constexpr bool kByFields = is_bytewise<K> && !HasCodec<K> && !kIsItsBytes<K>;

  void write(const K& key) {
    if constexpr (kByFields) {
      write_fields(key);
    } else {
      encode(sink_, key);
    }
  }
  template <class T>
  void write_fields(const T& value) {
    if constexpr (std::is_array_v<T>) {
      for (const auto& element : value) write_fields(element);
    } else if constexpr (std::floating_point<T>) {
      const T plain = value == T(0) ? T(0) : value;
      sink_.write(&plain, sizeof(plain));
    } else if constexpr (kIsItsBytes<T> || HasCodec<T>) {
      encode(sink_, value);
    } else {
      for_each_field(value, [this](const auto& field) { this->write_fields(field); });
    }
  }
  static K read_from(ByteSource& source) {
    if constexpr (kByFields) {
      K key{};
      read_fields(source, key);
      return key;
    } else {
      return decode<K>(source);
    }
  }
  template <class T>
  static void read_fields(ByteSource& source, T& value) {
    if constexpr (std::is_array_v<T>) {
      for (auto& element : value) read_fields(source, element);
    } else if constexpr (kIsItsBytes<T> || HasCodec<T> || std::floating_point<T>) {
      value = decode<T>(source);
    } else {
      for_each_field(value, [&](auto& field) { read_fields(source, field); });
    }
  }

  struct NoSink {};
  KeyView view_;
  std::array<std::uint64_t, kWords> words_;
  [[no_unique_address]] std::conditional_t<kInCell, KeySink, NoSink> sink_;
};

/// The same key on its way into a record.
class KeyPart {
 public:
  template <class K>
  KeyPart(Heap& heap, const Key<K>& key) : sink_(heap) {
    if constexpr (!Key<K>::kInCell) {
      std::copy(key.words_.begin(), key.words_.end(), part_.words.begin());
    } else {
      sink_.take(key.sink_);
      sink_.seal(part_);
    }
  }
  [[nodiscard]] const Part& part() const { return part_; }
  void given() { sink_.given(); }

 private:
  Part part_;
  CellSink sink_;
};

template <class K, class V>
constexpr RecordLayout table_layout() {
  return {.key_words = Key<K>::kWords,
          .value_words = kRecordWords<V>,
          .key_in_cell = Key<K>::kInCell,
          .value_in_cell = !kLiesInRecord<V>,
          .hashed = true};
}
template <class K>
constexpr RecordLayout set_layout() {
  return {.key_words = Key<K>::kWords, .key_in_cell = Key<K>::kInCell, .hashed = true};
}
template <class T>
constexpr RecordLayout list_layout() {
  return {.value_words = kRecordWords<T>, .value_in_cell = !kLiesInRecord<T>};
}

}  // namespace brood::detail
