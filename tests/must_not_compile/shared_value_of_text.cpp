// expect: only values whose bytes can be copied lie in shared memory
// expect: For text use std::array<char, N>
#include <string>

#include <brood/value.hpp>

void share() { brood::Value<std::string> name; }
