#include <brood/cluster/stored_value.hpp>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {

std::string readable_type(std::string_view text) {
  // "... [with T = int; std::string_view = ...]" (gcc), "... [T = int]" (clang)
  constexpr std::string_view kBefore = "T = ";
  const std::size_t begin = text.find(kBefore);
  if (begin == std::string_view::npos) return std::string(text);
  text.remove_prefix(begin + kBefore.size());
  const std::size_t end = text.find("; std::string_view = ");
  return std::string(text.substr(0, end != std::string_view::npos ? end : text.rfind(']')));
}

void refuse_print(const char* noun, const std::string& name, const std::string& type) {
  throw TypeMismatch(
      fmt::format("a handle to {} '{}' that came here is not one of {}", noun, name, type));
}

void refuse_shared_memory() {
  throw ArgumentError(
      "a handle to shared memory (a Queue, Value, Lock, SharedArray ...) means nothing to another "
      "machine: put values, a ClusterQueue or a ClusterDict");
}

}  // namespace brood::detail
