// expect: an argument does not convert to the type of the function's parameter
#include <brood/bind.hpp>

#include <string>

struct Account {
  long balance;
  long deposit(long amount);
};

void refused() {
  brood::detail::require_callable<decltype(&Account::deposit), Account, std::string>();
}
