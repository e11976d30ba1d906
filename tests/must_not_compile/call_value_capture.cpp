// expect: a lambda that captures cannot cross to another process; pass what it captures as
// arguments: brood::bind
#include <brood/bind.hpp>

void refused(int offset) {
  const auto add = [offset](int n) { return n + offset; };
  brood::detail::require_callable<decltype(add), int>();
}
