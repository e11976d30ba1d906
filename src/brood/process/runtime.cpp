#include <brood/runtime.hpp>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <brood/process/agent_main.hpp>
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
    : family_(enter(std::vector<std::string>(argv, argv + argc))) {
  const detail::AgentMain run = detail::agent_main();
  for (int i = 1; run != nullptr && i < argc; ++i) {
    if (std::string_view(argv[i]) != "--brood-agent") continue;
    const int code = run(i + 1 < argc ? argv[i + 1] : "");
    family_->shut_down();
    std::exit(code);
  }
}

Runtime::~Runtime() { family_->shut_down(); }

}  // namespace brood
