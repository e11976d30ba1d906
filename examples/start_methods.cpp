// What a child sees of its parent under each start method: a global that was changed after the
// Runtime was made.
#include <brood/brood.hpp>

#include <cstdio>

// [global]
int setting = 1;

void look(int argument) {
  std::printf("  the global is %d, the argument is %d\n", setting, argument);
}
// [/global]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  setting = 2;
  // [methods]
  for (const brood::StartMethod method : brood::get_all_start_methods()) {
    std::printf("%s:\n", brood::to_string(method).c_str());
    std::fflush(stdout);
    brood::Process child({.start_method = method}, look, setting);
    child.start();
    child.join();
  }
  // [/methods]
}
