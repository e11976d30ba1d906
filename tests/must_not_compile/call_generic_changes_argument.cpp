// expect: a parameter by non-const reference cannot be changed from another process
#include <brood/bind.hpp>

#include <vector>

void refused() {
  const auto clear = [](auto& numbers) { numbers.clear(); };
  brood::detail::require_callable<decltype(clear), std::vector<int>>();
}
