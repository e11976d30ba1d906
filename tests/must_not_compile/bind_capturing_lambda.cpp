// expect: a lambda that captures cannot cross to another process; pass what it captures as
// arguments: brood::bind
#include <brood/bind.hpp>

auto refused(int& n) {
  return brood::bind([&n](int by) { return n += by; }, 1);
}
