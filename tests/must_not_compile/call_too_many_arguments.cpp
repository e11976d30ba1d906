// expect: this function takes another number of arguments
#include <brood/bind.hpp>

struct Account {
  long balance;
  long deposit(long amount);
};

void refused() {
  brood::detail::require_callable<decltype(&Account::deposit), Account, long, long>();
}
