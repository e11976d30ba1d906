#include <brood/descriptor.hpp>

#include <brood/platform/program.hpp>

namespace brood {

Descriptor Descriptor::copy_of(int fd) { return Descriptor(detail::duplicate(fd).release()); }

namespace detail {

void Codec<Descriptor>::write(Encoder& to, const Descriptor& descriptor) {
  to.put(descriptor.valid());
  if (descriptor.valid()) put_descriptor(to, descriptor.get());
}

Descriptor Codec<Descriptor>::read(Decoder& from) {
  return from.get<bool>() ? Descriptor(get_descriptor(from).release()) : Descriptor();
}

}  // namespace detail
}  // namespace brood
