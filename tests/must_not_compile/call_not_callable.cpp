// expect: this cannot be called: pass a function
#include <brood/bind.hpp>

void refused() { brood::detail::require_callable<int, int>(); }
