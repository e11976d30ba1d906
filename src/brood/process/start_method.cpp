#include <brood/start_method.hpp>

#include <atomic>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/process/family.hpp>

namespace brood {
namespace {

constexpr int kNotSet = -1;
std::atomic<int> chosen{kNotSet};

}  // namespace

std::string to_string(StartMethod method) {
  switch (method) {
    case StartMethod::fork:
      return "fork";
    case StartMethod::spawn:
      return "spawn";
    case StartMethod::forkserver:
      break;
  }
  return "forkserver";
}

StartMethod start_method_from(const std::string& name) {
  for (const StartMethod method : get_all_start_methods()) {
    if (to_string(method) == name) return method;
  }
  throw StateError(
      fmt::format("there is no start method \"{}\": use forkserver, fork or spawn", name));
}

std::vector<StartMethod> get_all_start_methods() {
  return {StartMethod::forkserver, StartMethod::fork, StartMethod::spawn};
}

StartMethod get_start_method() {
  const int method = chosen.load();
  if (method != kNotSet) return static_cast<StartMethod>(method);
  const std::shared_ptr<detail::Family> family = detail::Family::current();
  return family && !family->has_runtime() ? StartMethod::fork : StartMethod::forkserver;
}

void set_start_method(StartMethod method) { chosen.store(static_cast<int>(method)); }

}  // namespace brood
