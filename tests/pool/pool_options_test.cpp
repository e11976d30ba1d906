// What a pool is not made with. Names in brackets are those of CPython's suites that ask for the
// same.
#include <gtest/gtest.h>

#include <chrono>

#include <brood/errors.hpp>
#include <brood/pool.hpp>

namespace pool_options_test {
namespace {

using namespace std::chrono_literals;
using brood::ArgumentError;
using brood::Pool;
using brood::StateError;

// [test_make_pool, test_max_workers_negative, test_max_workers_too_large]
TEST(PoolOptions, NonsenseIsRefused) {
  EXPECT_THROW(Pool({.workers = -1}), StateError);
  EXPECT_THROW(Pool({.workers = -1000}), StateError);
  EXPECT_THROW(Pool({.workers = 1'000'000}), StateError);
}

// [test_pool_maxtasksperchild_invalid]
TEST(PoolOptions, LimitsOfWorkersThatCannotBeAreRefused) {
  EXPECT_THROW(Pool({.workers = 1, .max_worker_age = -1s}), ArgumentError);
  EXPECT_THROW(Pool({.workers = 1, .idle_timeout = -1s}), ArgumentError);
  EXPECT_THROW(Pool({.workers = 1, .max_workers = 1000}), ArgumentError);
  EXPECT_THROW(Pool({.workers = 0}).resize(1), StateError);
}

}  // namespace
}  // namespace pool_options_test
