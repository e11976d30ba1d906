// expect: this function takes another number of arguments
#include <brood/bind.hpp>

int power(int base, int exponent = 2);

void refused() { brood::detail::require_callable<decltype(power), int>(); }
