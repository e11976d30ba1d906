#pragma once

#include <cstddef>
#include <initializer_list>
#include <ranges>
#include <utility>

#include <brood/array.hpp>
#include <brood/barrier.hpp>
#include <brood/condition.hpp>
#include <brood/dict.hpp>
#include <brood/event.hpp>
#include <brood/joinable_queue.hpp>
#include <brood/list.hpp>
#include <brood/lock.hpp>
#include <brood/namespace.hpp>
#include <brood/queue.hpp>
#include <brood/semaphore.hpp>
#include <brood/set.hpp>
#include <brood/value.hpp>

namespace brood::detail {

/// What a manager of Python's makes by name. Here these are shared by themselves and need no
/// server: each call makes one as its class does, which lives as long as a process holds it,
/// whatever becomes of the manager.
class SharedTypes {
 public:
  template <class K, class V>
  [[nodiscard]] static Dict<K, V> dict(std::initializer_list<std::pair<K, V>> items = {}) {
    return Dict<K, V>(items);
  }
  template <class K, class V, class Range>
  [[nodiscard]] static Dict<K, V> dict(Range&& items) {
    return Dict<K, V>(std::forward<Range>(items));
  }
  template <class T>
  [[nodiscard]] static List<T> list(std::initializer_list<T> items = {}) {
    return List<T>(items);
  }
  template <class T, class Range>
  [[nodiscard]] static List<T> list(Range&& items) {
    return List<T>(std::forward<Range>(items));
  }
  template <class T>
  [[nodiscard]] static Set<T> set(std::initializer_list<T> items = {}) {
    return Set<T>(items);
  }
  template <class T, class Range>
  [[nodiscard]] static Set<T> set(Range&& items) {
    return Set<T>(std::forward<Range>(items));
  }
  [[nodiscard]] static Namespace name_space() { return {}; }
  template <class T>
  [[nodiscard]] static Queue<T> queue(std::size_t maxsize = 0) {
    return Queue<T>(maxsize);
  }
  template <class T>
  [[nodiscard]] static JoinableQueue<T> joinable_queue(std::size_t maxsize = 0) {
    return JoinableQueue<T>(maxsize);
  }
  [[nodiscard]] static Lock lock() { return {}; }
  [[nodiscard]] static RLock rlock() { return {}; }
  [[nodiscard]] static Event event() { return {}; }
  [[nodiscard]] static Condition condition() { return Condition(); }
  template <class... Args>
  [[nodiscard]] static Semaphore semaphore(Args... args) {
    return Semaphore(args...);
  }
  template <class... Args>
  [[nodiscard]] static BoundedSemaphore bounded_semaphore(Args... args) {
    return BoundedSemaphore(args...);
  }
  template <class... Args>
  [[nodiscard]] static Barrier barrier(Args&&... args) {
    return Barrier(std::forward<Args>(args)...);
  }
  template <class T>
  [[nodiscard]] static Value<T> value(const T& first = T()) {
    return Value<T>(first);
  }
  template <class T>
  [[nodiscard]] static Array<T> array(std::size_t size, const T& value = T()) {
    return Array<T>(size, value);
  }
  template <class T, std::ranges::sized_range Range>
  [[nodiscard]] static Array<T> array(Range&& range) {
    return Array<T>(std::forward<Range>(range));
  }
  template <class T>
  [[nodiscard]] static Array<T> array(std::initializer_list<T> values) {
    return Array<T>(values);
  }
};

}  // namespace brood::detail
