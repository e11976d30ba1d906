#include <brood/channel/snapshot.hpp>

#include <stdexcept>

#include <fmt/format.h>

namespace brood::detail {

void throw_no_key(const std::string& key) {
  throw std::out_of_range(fmt::format("there is no key {} in this container", key));
}

void throw_no_index(std::size_t index, std::size_t size) {
  throw std::out_of_range(fmt::format("index {} of a list of {}", index, size));
}

void throw_is_empty(const char* what) {
  throw std::out_of_range(fmt::format("nothing can be taken from a {} that is empty", what));
}

}  // namespace brood::detail
