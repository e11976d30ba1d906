// expect: a raw pointer cannot cross to another process
#include <brood/bind.hpp>

void refused() { brood::detail::require_sendable<double*>(); }
