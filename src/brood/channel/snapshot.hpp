// Layer: channel
// What a shared container held at one moment, for iterators and errors.
#pragma once

#include <concepts>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace brood::detail {

/// Goes through a snapshot, which it keeps; the end is one without any. A forward iterator.
template <class T>
class SnapshotIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  using pointer = const T*;
  using reference = const T&;

  SnapshotIterator() = default;
  explicit SnapshotIterator(std::vector<T> all) {
    if (!all.empty()) all_ = std::make_shared<const std::vector<T>>(std::move(all));
  }
  reference operator*() const { return (*all_)[at_]; }
  pointer operator->() const { return &(*all_)[at_]; }
  SnapshotIterator& operator++() {
    if (++at_ == all_->size()) *this = {};
    return *this;
  }
  SnapshotIterator operator++(int) {
    SnapshotIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const SnapshotIterator& a, const SnapshotIterator& b) {
    return a.all_ == b.all_ && a.at_ == b.at_;
  }

 private:
  std::shared_ptr<const std::vector<T>> all_;
  std::size_t at_ = 0;
};

/// Throw std::out_of_range.
[[noreturn]] void throw_no_key(const std::string& key);
[[noreturn]] void throw_no_index(std::size_t index, std::size_t size);
[[noreturn]] void throw_is_empty(const char* what);

template <class K>
[[noreturn]] void throw_missing(const K& key) {
  if constexpr (std::convertible_to<const K&, std::string>) {
    throw_no_key("'" + std::string(key) + "'");
  } else if constexpr (std::is_arithmetic_v<K>) {
    throw_no_key(std::to_string(key));
  } else {
    throw_no_key("that was asked for");
  }
}

}  // namespace brood::detail
