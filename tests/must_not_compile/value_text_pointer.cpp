// expect: a pointer to char cannot cross to another process: pass a std::string
#include <brood/bind.hpp>

#include <vector>

void refused() { brood::detail::require_sendable<std::vector<const char*>>(); }
