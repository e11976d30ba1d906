#include <brood/channel/function_pointer.hpp>

#include <optional>
#include <span>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/module.hpp>

namespace brood::detail {
namespace {

/// Of the words and the type's name, which is the same in every process of one build.
std::uint64_t checksum(std::span<const std::uint64_t> words, const std::type_info& type) {
  constexpr std::uint64_t kPrime = 0x9e3779b97f4a7c15U;
  std::uint64_t sum = 0x62726f6f64U;
  for (const char* c = type.name(); *c != '\0'; ++c) {
    sum = (sum ^ static_cast<unsigned char>(*c)) * 0x100000001b3U;
  }
  for (const std::uint64_t word : words) {
    sum = (sum ^ word) * kPrime;
    sum ^= sum >> 29U;
  }
  return sum;
}

template <std::size_t N>
void put_checked(ByteSink& to, const std::array<std::uint64_t, N>& words,
                 const std::type_info& type) {
  const std::uint64_t sum = checksum(words, type);
  to.write(words.data(), sizeof(words));
  to.write(&sum, sizeof(sum));
}

template <std::size_t N>
std::array<std::uint64_t, N> get_checked(ByteSource& from, const std::type_info& type) {
  std::array<std::uint64_t, N> words{};
  std::uint64_t sum = 0;
  from.read(words.data(), sizeof(words));
  from.read(&sum, sizeof(sum));
  if (sum != checksum(words, type)) from.throw_corrupt("a pointer to a function or member");
  return words;
}

}  // namespace

void put_function(ByteSink& to, const void* address, const std::type_info& type) {
  CodePlace place;  // all zero: a null pointer
  if (address != nullptr) {
    const std::optional<CodePlace> found = place_of(address);
    if (!found) {
      throw Error(fmt::format(
          "the function at {} cannot cross to another process: it lies in no loaded module's code, "
          "such as functions which are made at run time",
          address));
    }
    place = *found;
  }
  put_checked(to, std::array{place.module, place.offset}, type);
}

void* get_function(ByteSource& from, const std::type_info& type) {
  const auto [module, offset] = get_checked<2>(from, type);
  if (module == 0 && offset == 0) return nullptr;
  const FoundCode found = find_code({module, offset});
  if (found.address != nullptr) return found.address;
  if (found.module_is_loaded) from.throw_corrupt("the place of a function");
  throw UnknownFunction(fmt::format(
      "no module with the key {:#018x} is loaded here, so its function at offset {:#x} cannot be "
      "called: the sender runs another build of the program, or has loaded a library that this "
      "process has not (dlopen it here too, or before the processes are started)",
      module, offset));
}

void put_member_offset(ByteSink& to, std::uint64_t offset, const std::type_info& type) {
  put_checked(to, std::array{offset}, type);
}

std::uint64_t get_member_offset(ByteSource& from, const std::type_info& type) {
  return get_checked<1>(from, type)[0];
}

}  // namespace brood::detail
