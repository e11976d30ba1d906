// expect: an argument does not convert to the type of the function's parameter
#include <brood/bind.hpp>

#include <string>

bool is_prime(unsigned long n);

void refused() { brood::detail::require_callable<decltype(is_prime), std::string>(); }
