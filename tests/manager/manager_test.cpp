// Objects in a manager's server, under every start method. Names in comments are those of Python's
// tests from which a behaviour comes.
#include <gtest/gtest.h>

#include <brood/brood.hpp>

#include <string>
#include <vector>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"

namespace brood {
namespace {

class Managers : public testing::EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(Managers);

class Account {
 public:
  explicit Account(long balance) : balance_(balance) {}
  long deposit(long amount) { return balance_ += amount; }
  long balance() const { return balance_; }

 private:
  long balance_;
};

TEST_P(Managers, AMethodRunsInTheServerAndItsResultComesBack) {
  Manager manager;
  const Proxy<Account> account = manager.make<Account>(100);
  EXPECT_EQ(account.call<&Account::deposit>(5), 105);
  EXPECT_EQ(account.call<&Account::balance>(), 105);
}

}  // namespace
}  // namespace brood
