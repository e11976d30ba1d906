#pragma once

#include <memory>
#include <utility>

namespace brood::detail {

/// An item of a pipeline, of any type that moves; or nothing. Private memory, one thread at a time.
class ItemValue {
 public:
  ItemValue() = default;
  template <class T>
  static ItemValue of(T value) {
    ItemValue made;
    made.held_ = std::make_unique<Of<T>>(std::move(value));
    return made;
  }
  explicit operator bool() const { return held_ != nullptr; }
  /// T must be the type that it was made of: the pipeline's types say so at compile time.
  template <class T>
  [[nodiscard]] T& as() const {
    return static_cast<Of<T>&>(*held_).value;
  }

 private:
  struct Any {
    Any() = default;
    Any(const Any&) = delete;
    Any& operator=(const Any&) = delete;
    virtual ~Any() = default;
  };
  template <class T>
  struct Of final : Any {
    explicit Of(T&& given) : value(std::move(given)) {}
    T value;
  };
  std::unique_ptr<Any> held_;
};

}  // namespace brood::detail
