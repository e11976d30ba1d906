// The smallest class that is a handle to a shared object.
#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

#include <brood/channel/handle_codec.hpp>

namespace brood::testing {

class Thing {
 public:
  explicit Thing(int value, std::size_t bytes = sizeof(int))
      : handle_(detail::Handle::create(kObjectType, bytes)) {
    number().store(value);
  }
  std::atomic<int>& number() const {
    return *reinterpret_cast<std::atomic<int>*>(handle_.payload().data());
  }
  detail::ObjectRef ref() const { return handle_.ref(); }
  friend bool operator==(const Thing&, const Thing&) = default;

 private:
  friend detail::HandleAccess;
  static constexpr detail::ObjectType kObjectType{.kind = 1000, .contents = 1};
  static constexpr std::size_t kLeastBytes = sizeof(int);
  explicit Thing(detail::Handle handle) : handle_(std::move(handle)) {}
  detail::Handle handle_;
};

}  // namespace brood::testing

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::testing::Thing> = true;
