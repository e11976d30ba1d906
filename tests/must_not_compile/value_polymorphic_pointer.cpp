// expect: a smart pointer to a polymorphic class would lose the derived part
#include <brood/bind.hpp>

#include <memory>

struct Shape {
  virtual ~Shape() = default;
};

void refused() { brood::detail::require_sendable<std::shared_ptr<Shape>>(); }
