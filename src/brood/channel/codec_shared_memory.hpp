// Layer: channel
// How shared memory with a name crosses: by its name, and by what tells it from later memory of
// that name.
#pragma once

#include <cstdint>
#include <string>

#include <brood/channel/codec_containers.hpp>
#include <brood/platform/named_memory.hpp>
#include <brood/shareable_list.hpp>
#include <brood/shared_memory.hpp>

namespace brood::detail {

inline void put_shared_memory(Encoder& to, const SharedMemory& memory) {
  to.put(memory.name());
  to.put(SharedMemoryAccess::identity(memory).device);
  to.put(SharedMemoryAccess::identity(memory).inode);
}

/// Its handles attach when they are read; what throws then is what attach() throws.
template <>
struct Codec<SharedMemory> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1 + 2 * sizeof(std::uint64_t);
  static void write(Encoder& to, const SharedMemory& memory) { put_shared_memory(to, memory); }
  static SharedMemory read(Decoder& from) {
    const auto name = from.get<std::string>();
    const auto device = from.get<std::uint64_t>();
    const auto inode = from.get<std::uint64_t>();
    return SharedMemoryAccess::attach(name, {.device = device, .inode = inode});
  }
};

template <>
struct Codec<ShareableList> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = Codec<SharedMemory>::kLeast;
  static void write(Encoder& to, const ShareableList& list) {
    put_shared_memory(to, list.memory());
  }
  static ShareableList read(Decoder& from) {
    const auto name = from.get<std::string>();
    const auto device = from.get<std::uint64_t>();
    const auto inode = from.get<std::uint64_t>();
    return SharedMemoryAccess::attach_list(name, {.device = device, .inode = inode});
  }
};

}  // namespace brood::detail
