// expect: a view such as std::string_view or std::span cannot cross to another process
#include <brood/bind.hpp>

#include <span>
#include <utility>

void refused() { brood::detail::require_sendable<std::pair<int, std::span<double>>>(); }
