// Linked to the contract programs beside what a user wrote: chooses, before main, the start method
// that the test names in its environment. Children that are executed again choose the same.
#include <brood/start_method.hpp>

#include <cstdlib>

namespace {

[[maybe_unused]] const bool kChosen = [] {
  const char* const name = std::getenv("BROOD_CONTRACT_START_METHOD");
  if (name != nullptr) brood::set_start_method(brood::start_method_from(name));
  return name != nullptr;
}();

}  // namespace
