// brood-cluster: see usage().
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <brood/version.hpp>

#include "commands.hpp"
#include "failure.hpp"
#include "options.hpp"

namespace {

int run(const tool::Options& options) {
  if (options.command == "up") return tool::up(options);
  if (options.command == "down") return tool::down(options);
  if (options.command == "status") return tool::status(options);
  if (options.command == "env") return tool::env(options);
  return tool::slurm(options);
}

}  // namespace

int main(int argc, char** argv) {
  // What is opened later must not get the number of a standard stream that is closed.
  while (true) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd > 2) ::close(fd);
    if (fd > 2 || fd < 0) break;
  }
  constexpr int kExitUsage = 2;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words == std::vector<std::string>{"--version"}) {
    fmt::print("brood-cluster {}.{}.{}\n", brood::kVersion.major, brood::kVersion.minor,
               brood::kVersion.patch);
    return 0;
  }
  if (words == std::vector<std::string>{"--help"}) {
    fmt::print("{}", tool::usage({}));
    return 0;
  }
  try {
    const tool::Options options = tool::parse(words);
    if (options.help) {
      fmt::print("{}", tool::usage(options.command));
      return 0;
    }
    return run(options);
  } catch (const tool::UsageError& e) {
    fmt::print(stderr, "brood-cluster: {}; --help tells more\n", e.what());
    return kExitUsage;
  } catch (const std::exception& e) {
    fmt::print(stderr, "brood-cluster: {}\n", e.what());
    return 1;
  }
}
