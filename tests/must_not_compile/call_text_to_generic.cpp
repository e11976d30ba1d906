// expect: a pointer to char cannot cross to another process: pass a std::string
#include <brood/bind.hpp>

void refused() {
  const auto print = [](const auto& text) { return text[0]; };
  brood::detail::require_callable<decltype(print), const char(&)[6]>();
}
