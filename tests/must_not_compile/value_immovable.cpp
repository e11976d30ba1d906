// expect: a type that its cereal functions restore must be movable
#include <brood/bind.hpp>

class Fixed {
 public:
  Fixed() = default;
  Fixed(const Fixed&) = delete;
  Fixed& operator=(const Fixed&) = delete;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value_);
  }

 private:
  int value_ = 0;
};

void refused() { brood::detail::require_sendable<Fixed>(); }
