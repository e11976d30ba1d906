// expect: an aggregate with a member that is a reference
#include <brood/bind.hpp>

struct View {
  const int& number;
};

void refused() { brood::detail::require_sendable<View>(); }
