#include <brood/channel/descriptor_box.hpp>

#include <fmt/format.h>

#include <brood/channel/archive.hpp>
#include <brood/errors.hpp>
#include <brood/platform/program.hpp>

namespace brood::detail {

std::size_t DescriptorOutbox::add(int fd) { return add(duplicate(fd)); }

std::size_t DescriptorOutbox::add(Fd fd) {
  if (numbers_.size() == kMost) {
    throw StateError(fmt::format(
        "more than {} descriptors cannot go to another process with one value: send several",
        kMost));
  }
  numbers_.reserve(numbers_.size() + 1);
  ForkLocalFd& copy = copies_.emplace_back(std::move(fd));
  numbers_.push_back(copy.get());
  return numbers_.size() - 1;
}

void put_descriptor(Encoder& to, int fd) {
  DescriptorOutbox* const outbox = to.sink().outbox();
  if (outbox == nullptr) {
    throw StateError(
        "a connection or descriptor cannot go this way: give it to a Process as an argument, or "
        "send "
        "it through a Connection");
  }
  to.put_size(outbox->add(fd));
}

Fd get_descriptor(Decoder& from) {
  const std::size_t number = from.get_number();
  DescriptorInbox* const inbox = from.source().inbox();
  Fd fd = inbox != nullptr ? inbox->take(number) : Fd();
  if (!fd.valid()) from.source().throw_corrupt("a descriptor (it did not come with them)");
  return fd;
}

}  // namespace brood::detail
