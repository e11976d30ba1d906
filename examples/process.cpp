// Functions in processes of their own: arguments, names, exit codes, and a crash that costs nobody
// else anything.
#include <brood/brood.hpp>

#include <csignal>
#include <cstdio>
#include <string>

// [functions]
void greet(const std::string& name, int times) {
  for (int i = 1; i <= times; ++i) std::printf("%s: hello %d\n", name.c_str(), i);
}
void crash() { std::raise(SIGKILL); }
// [/functions]

int main(int argc, char** argv) {
  // [process]
  brood::Runtime runtime(argc, argv);  // the first line of main

  brood::Process anna(greet, "Anna", 2);
  anna.start();
  anna.join();

  brood::Process broken({.name = "broken"}, crash);
  broken.start();
  broken.join();
  std::printf("%s ended with %d, this process goes on\n", broken.name().c_str(),
              *broken.exitcode());
  // [/process]
}
