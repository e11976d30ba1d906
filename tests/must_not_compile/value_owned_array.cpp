// expect: a smart pointer to an array or with a deleter of its own cannot cross
#include <brood/bind.hpp>

#include <memory>

void refused() { brood::detail::require_sendable<std::unique_ptr<int[]>>(); }
