// Layer: channel
// How the standard library's containers cross: their size, then their elements. Containers of
// bytewise elements that lie in a row are one copy of memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <forward_list>
#include <iterator>
#include <list>
#include <map>
#include <new>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <brood/channel/archive.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood::detail {

/// Large arrays of what must be aligned begin at a multiple of their alignment, so that they can be
/// read in one piece: behind their size is a byte that says how many bytes were left out for that.
template <class T>
constexpr bool is_set_straight(std::size_t size) {
  return alignof(T) > 1 && size >= (std::size_t{64} << 10U) / sizeof(T);
}

/// Writes bytewise elements, and before them how many.
template <class T>
void write_images(Encoder& to, const T* values, std::size_t size) {
  to.put_size(size);
  if (is_set_straight<T>(size)) {
    constexpr std::byte kNothing[alignof(T)]{};
    const std::size_t over = (to.sink().written() + 1) % alignof(T);
    to.put(static_cast<unsigned char>(over == 0 ? 0 : alignof(T) - over));
    to.sink().write(kNothing, over == 0 ? 0 : alignof(T) - over);
  }
  to.sink().write(values, size * sizeof(T));
}

/// Reads `size` bytewise elements to the end of an empty vector or string. Throws DecodeError.
template <class Container>
void read_images(Decoder& from, Container& to, std::size_t size) {
  using T = typename Container::value_type;
  if (is_set_straight<T>(size)) from.source().take(from.template get<unsigned char>());
  to.reserve(size);
  want_huge_pages(to.data(), size * sizeof(T));
  if constexpr (!holds_bool<T>()) {
    if (from.source().is_aligned(alignof(T))) {
      const auto* const values = reinterpret_cast<const T*>(from.source().take(size * sizeof(T)));
      to.insert(to.end(), values, values + size);
      return;
    }
  }
  // Through a small buffer, which stays in the cache: the bytes are misaligned, and resize() would
  // write each element first.
  constexpr std::size_t kBlock = std::max<std::size_t>(1, 4096 / sizeof(T));
  alignas(T) std::byte buffer[kBlock * sizeof(T)];
  while (size > 0) {
    const std::size_t count = std::min(size, kBlock);
    from.source().read(buffer, count * sizeof(T));
    const T* const block = std::launder(reinterpret_cast<const T*>(buffer));
    if constexpr (holds_bool<T>()) {
      for (std::size_t i = 0; i < count; ++i) {
        if (!valid_image(block[i])) from.source().throw_corrupt("a bool");
      }
    }
    to.insert(to.end(), block, block + count);
    size -= count;
  }
}

template <class C, class Traits, class A>
  requires is_bytewise<C>
struct Codec<std::basic_string<C, Traits, A>> {
  using Value = std::basic_string<C, Traits, A>;
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const Value& text) { write_images(to, text.data(), text.size()); }
  static Value read(Decoder& from) {
    const std::size_t size = from.get_size(sizeof(C));
    if (sizeof(C) == 1 && size < 4096) {
      return Value(reinterpret_cast<const C*>(from.source().take(size)), size);
    }
    Value text;
    read_images(from, text, size);
    return text;
  }
};

template <class T, class A>
struct Codec<std::vector<T, A>> {
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const std::vector<T, A>& values) {
    if constexpr (is_bytewise<T>) {
      write_images(to, values.data(), values.size());
    } else {
      to.put_size(values.size());
      for (const T& value : values) to.put_element<T>(value);
    }
  }
  static std::vector<T, A> read(Decoder& from) {
    const std::size_t size = from.get_size(Decoder::least_bytes_of_element<T>());
    std::vector<T, A> values;
    if constexpr (is_bytewise<T>) {
      read_images(from, values, size);
    } else {
      values.reserve(from.modest<T>(size));
      for (std::size_t i = 0; i < size; ++i) values.push_back(from.get_element<T>());
    }
    return values;
  }
};

/// Eight to a byte.
template <class A>
struct Codec<std::vector<bool, A>> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const std::vector<bool, A>& bits) {
    to.put_size(bits.size() / 8);
    to.put(static_cast<unsigned char>(bits.size() % 8));
    for (std::size_t at = 0; at < bits.size(); at += 8) {
      unsigned byte = 0;
      for (std::size_t i = at; i < bits.size() && i < at + 8; ++i) {
        byte |= unsigned{bits[i]} << (i - at);
      }
      to.put(static_cast<unsigned char>(byte));
    }
  }
  static std::vector<bool, A> read(Decoder& from) {
    const std::size_t bytes = from.get_size(1);
    const std::size_t rest = from.get<unsigned char>();
    if (rest >= 8 || bytes > from.source().remaining()) {
      from.source().throw_corrupt("the number of bools");
    }
    std::vector<bool, A> bits(bytes * 8 + rest);
    for (std::size_t at = 0; at < bits.size(); at += 8) {
      const unsigned byte = from.get<unsigned char>();
      for (std::size_t i = at; i < bits.size() && i < at + 8; ++i) {
        bits[i] = (byte >> (i - at) & 1U) != 0;
      }
    }
    return bits;
  }
};

/// Containers to whose end elements are added.
template <class Container>
struct SequenceCodec {
  using T = typename Container::value_type;
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const Container& values) {
    to.put_size(static_cast<std::size_t>(std::distance(values.begin(), values.end())));
    for (const T& value : values) to.put_element<T>(value);
  }
  static Container read(Decoder& from) {
    const std::size_t size = from.get_size(Decoder::least_bytes_of_element<T>());
    Container values;
    if constexpr (requires { values.emplace_back(); }) {
      for (std::size_t i = 0; i < size; ++i) values.push_back(from.get_element<T>());
    } else {
      auto last = values.before_begin();
      for (std::size_t i = 0; i < size; ++i) {
        last = values.insert_after(last, from.get_element<T>());
      }
    }
    return values;
  }
};
template <class T, class A>
struct Codec<std::deque<T, A>> : SequenceCodec<std::deque<T, A>> {};
template <class T, class A>
struct Codec<std::list<T, A>> : SequenceCodec<std::list<T, A>> {};
template <class T, class A>
struct Codec<std::forward_list<T, A>> : SequenceCodec<std::forward_list<T, A>> {};

/// Containers with keys. Only those whose order or hash has no state: it does not cross.
template <class Container>
struct KeyedCodec {
  using Key = typename Container::key_type;
  using Parts = TypeList<Key, typename Container::value_type>;
  static constexpr bool kMaps = !std::is_same_v<Key, typename Container::value_type>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const Container& values) {
    to.put_size(values.size());
    for (const auto& value : values) {
      if constexpr (kMaps) {
        to.put_element<Key>(value.first);
        to.put<typename Container::mapped_type>(value.second);
      } else {
        to.put_element<Key>(value);
      }
    }
  }
  static Container read(Decoder& from) {
    const std::size_t size = from.get_size(Decoder::least_bytes_of_element<Key>());
    Container values;
    if constexpr (requires { values.reserve(size); }) {
      values.reserve(from.modest<typename Container::value_type>(size));
    }
    for (std::size_t i = 0; i < size; ++i) {
      Key key = from.get_element<Key>();
      if constexpr (kMaps) {
        values.emplace_hint(values.end(), std::move(key),
                            from.get<typename Container::mapped_type>());
      } else {
        values.emplace_hint(values.end(), std::move(key));
      }
    }
    return values;
  }
};
template <class K, class Less, class A>
  requires std::is_empty_v<Less>
struct Codec<std::set<K, Less, A>> : KeyedCodec<std::set<K, Less, A>> {};
template <class K, class Less, class A>
  requires std::is_empty_v<Less>
struct Codec<std::multiset<K, Less, A>> : KeyedCodec<std::multiset<K, Less, A>> {};
template <class K, class V, class Less, class A>
  requires std::is_empty_v<Less>
struct Codec<std::map<K, V, Less, A>> : KeyedCodec<std::map<K, V, Less, A>> {};
template <class K, class V, class Less, class A>
  requires std::is_empty_v<Less>
struct Codec<std::multimap<K, V, Less, A>> : KeyedCodec<std::multimap<K, V, Less, A>> {};

template <class Hash, class Equal>
inline constexpr bool kStateless = std::is_empty_v<Hash> && std::is_empty_v<Equal>;
template <class K, class H, class E, class A>
  requires kStateless<H, E>
struct Codec<std::unordered_set<K, H, E, A>> : KeyedCodec<std::unordered_set<K, H, E, A>> {};
template <class K, class H, class E, class A>
  requires kStateless<H, E>
struct Codec<std::unordered_multiset<K, H, E, A>>
    : KeyedCodec<std::unordered_multiset<K, H, E, A>> {};
template <class K, class V, class H, class E, class A>
  requires kStateless<H, E>
struct Codec<std::unordered_map<K, V, H, E, A>> : KeyedCodec<std::unordered_map<K, V, H, E, A>> {};
template <class K, class V, class H, class E, class A>
  requires kStateless<H, E>
struct Codec<std::unordered_multimap<K, V, H, E, A>>
    : KeyedCodec<std::unordered_multimap<K, V, H, E, A>> {};

/// Stacks and queues: the container in them, which is a protected member.
template <class Adaptor>
struct AdaptorCodec {
  using Container = typename Adaptor::container_type;
  using Parts = TypeList<Container>;
  static constexpr std::size_t kLeast = 1;
  struct Opened : Adaptor {
    static const Container& in(const Adaptor& adaptor) { return adaptor.*&Opened::c; }
    static Container& in(Adaptor& adaptor) { return adaptor.*&Opened::c; }
  };
  static void write(Encoder& to, const Adaptor& adaptor) { to.put<Container>(Opened::in(adaptor)); }
  static Adaptor read(Decoder& from) {
    Adaptor adaptor;
    Opened::in(adaptor) = from.get<Container>();
    return adaptor;
  }
};
template <class T, class C>
struct Codec<std::stack<T, C>> : AdaptorCodec<std::stack<T, C>> {};
template <class T, class C>
struct Codec<std::queue<T, C>> : AdaptorCodec<std::queue<T, C>> {};
template <class T, class C, class Less>
  requires std::is_empty_v<Less>
struct Codec<std::priority_queue<T, C, Less>> : AdaptorCodec<std::priority_queue<T, C, Less>> {};

}  // namespace brood::detail
