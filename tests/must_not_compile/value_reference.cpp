// expect: a reference cannot cross to another process: pass the object by value
#include <brood/bind.hpp>

#include <string>
#include <tuple>

void refused() { brood::detail::require_sendable<std::tuple<int, std::string&>>(); }
