// Layer: channel
// The descriptors that travel beside the bytes of a value: the value's bytes say their numbers in
// the order in which they were added.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <brood/platform/fd.hpp>
#include <brood/platform/fork_local_fd.hpp>

namespace brood::detail {

class Encoder;
class Decoder;

/// Copies of the descriptors of a value on its way: the sender may close its own.
class DescriptorOutbox {
 public:
  /// So many can go with one value.
  static constexpr std::size_t kMost = 240;

  /// Copies `fd`. Its number among those of this value. Throws StateError if there are too many;
  /// SystemError.
  std::size_t add(int fd);
  /// The same with one that the caller has no more use for.
  std::size_t add(Fd fd);

  [[nodiscard]] bool empty() const { return numbers_.empty(); }
  [[nodiscard]] std::span<const int> numbers() const { return numbers_; }

 private:
  std::vector<ForkLocalFd> copies_;
  std::vector<int> numbers_;
};

/// What came. Each is taken once; the rest is closed.
class DescriptorInbox {
 public:
  DescriptorInbox() = default;
  explicit DescriptorInbox(std::vector<Fd> descriptors) : descriptors_(std::move(descriptors)) {}

  /// Invalid if there is no such number, or not any more.
  Fd take(std::size_t number) {
    return number < descriptors_.size() ? std::move(descriptors_[number]) : Fd();
  }

 private:
  std::vector<Fd> descriptors_;
};

/// Writes a descriptor of a value; throws StateError, with what to do instead, where none can
/// travel. The counterpart throws DecodeError if it did not come.
void put_descriptor(Encoder& to, int fd);
Fd get_descriptor(Decoder& from);

}  // namespace brood::detail
