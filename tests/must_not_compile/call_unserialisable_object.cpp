// expect: this type cannot be serialised: give it a serialize() function as for cereal
#include <brood/bind.hpp>

class Account {
 public:
  explicit Account(long balance);
  long balance() const;

 private:
  long balance_;
};

void refused() { brood::detail::require_callable<decltype(&Account::balance), Account>(); }
