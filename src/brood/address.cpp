#include <brood/address.hpp>

#include <fmt/format.h>

namespace brood {

std::string Address::to_string() const {
  switch (kind) {
    case Kind::path:
      return name;
    case Kind::abstract:
      return "@" + name;
    case Kind::tcp:
      break;
  }
  return name.find(':') == std::string::npos ? fmt::format("{}:{}", name, port)
                                             : fmt::format("[{}]:{}", name, port);
}

}  // namespace brood
