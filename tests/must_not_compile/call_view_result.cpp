// expect: a view such as std::string_view or std::span cannot cross to another process
#include <brood/bind.hpp>

#include <string_view>

std::string_view name(int number);

void refused() { brood::detail::require_callable<decltype(name), int>(); }
