// expect: a std::function cannot cross to another process
#include <brood/bind.hpp>

#include <functional>

void refused() { brood::detail::require_callable<std::function<int(int)>, int>(); }
