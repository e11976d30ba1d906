// expect: this callable cannot be called with values of these types
#include <brood/bind.hpp>

struct Overloaded {
  int operator()(int) const;
  int operator()(double, double) const;
};

void refused() { brood::detail::require_callable<Overloaded, int, int, int>(); }
