#include <brood/runtime.hpp>

#include <string>
#include <vector>

#include <brood/process/family.hpp>

namespace brood {
namespace {

std::shared_ptr<detail::Family> enter(std::vector<std::string> arguments) {
  detail::Family::enter_if_executed(arguments);  // does not return in a child
  return detail::Family::found(true, std::move(arguments));
}

}  // namespace

Runtime::Runtime() : family_(enter({})) {}

Runtime::Runtime(int argc, const char* const* argv)
    : family_(enter(std::vector<std::string>(argv, argv + argc))) {}

Runtime::~Runtime() { family_->shut_down(); }

}  // namespace brood
