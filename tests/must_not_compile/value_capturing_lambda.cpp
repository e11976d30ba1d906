// expect: a lambda that captures cannot cross to another process; pass what it captures as
// arguments: brood::bind
#include <brood/bind.hpp>

#include <vector>

void refused(int offset) {
  const auto lambda = [offset](int n) { return n + offset; };
  brood::detail::VectorSink sink;
  brood::detail::encode(sink, std::vector{lambda});
}
