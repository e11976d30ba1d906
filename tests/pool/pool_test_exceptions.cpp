#include "pool_test_support.hpp"

using brood::testing::BadInput;
BROOD_REGISTER_EXCEPTION(BadInput);
