// expect: the result is a reference, which cannot cross to another process: return it by value
#include <brood/bind.hpp>

#include <string>

const std::string& name(int number);

void refused() { brood::detail::require_callable<decltype(name), int>(); }
