// expect: brood::enable_bytewise is only for trivially copyable classes
#include <brood/bind.hpp>

#include <string>

class Text {
 public:
  explicit Text(std::string text);

 private:
  std::string text_;
};
template <>
inline constexpr bool brood::enable_bytewise<Text> = true;

void refused() { brood::detail::require_sendable<Text>(); }
