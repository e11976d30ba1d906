// expect: what_cereal_restores_needs_a_default_constructor
#include <brood/bind.hpp>

class Account {
 public:
  explicit Account(long balance);
  template <class Archive>
  void serialize(Archive& archive) {
    archive(balance_);
  }

 private:
  long balance_;
};

Account refused(brood::detail::ByteSource& source) {
  return brood::detail::decode<Account>(source);
}
