// expect: a view such as std::string_view or std::span cannot cross to another process
#include <brood/bind.hpp>

#include <string_view>

void refused() { brood::detail::require_sendable<std::string_view>(); }
