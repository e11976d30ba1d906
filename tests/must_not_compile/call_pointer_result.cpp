// expect: the result is a raw pointer, which cannot cross to another process
#include <brood/bind.hpp>

const char* name(int number);

void refused() { brood::detail::require_callable<decltype(name), int>(); }
