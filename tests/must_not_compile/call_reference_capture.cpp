// expect: a lambda that captures cannot cross to another process; pass what it captures as
// arguments: brood::bind
#include <brood/bind.hpp>

#include <vector>

void refused(std::vector<int>& sums) {
  const auto add = [&sums](int n) { sums.push_back(n); };
  brood::detail::require_callable<decltype(add), int>();
}
