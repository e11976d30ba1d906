// expect: an aggregate with a base class cannot cross to another process as it is
#include <brood/bind.hpp>

#include <string>

struct Named {
  std::string name;
};
struct Counted : Named {
  int count;
};

void refused() { brood::detail::require_sendable<Counted>(); }
