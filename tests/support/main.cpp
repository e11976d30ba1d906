// Every test program: a Runtime first, as any program that uses Brood, then the tests. Children
// that spawn executes again arrive here too and leave in the Runtime's constructor.
#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>

#include <brood/runtime.hpp>

#include "support/leak_check.hpp"
#include "support/sandbox.hpp"

namespace {
const pid_t executed = ::getpid();
}

// Asked by LeakSanitizer, where there is one. In the child of a fork it looks for the parent's
// threads, and has crashed at that; what a child does is seen in those that spawn executes.
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return ::getpid() == executed ? 0 : 1; }

int main(int argc, char** argv) {
  // Not in a child, which shall see its parent's.
  if (std::getenv("BROOD_FAMILY") == nullptr) brood::testing::take_shared_memory_folder();
  brood::Runtime runtime(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new brood::testing::LeakCheck);
  return RUN_ALL_TESTS();
}
