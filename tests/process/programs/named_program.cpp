// A family that makes shared memory with names, and waits to be killed: named_program METHOD PREFIX
// [end | alone]. `alone`: with a thread that runs before the Runtime, and without children.
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>

#include <brood/brood.hpp>
#include <brood/shared_memory.hpp>

namespace {

void say(const std::string& text) {
  const std::string line = text + "\n";
  if (::write(1, line.data(), line.size()) < 0) std::_Exit(9);
}

void make_and_wait(std::string prefix) {
  const auto family = brood::SharedMemory::create(100, {.name = prefix + "_child"});
  const auto object = brood::SharedMemory::create(
      100, {.name = prefix + "_childs_object", .lifetime = brood::Lifetime::object});
  say("child");
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  const bool alone = argc > 3 && argv[3] == std::string("alone");
  if (alone) {
    std::thread([] {
      for (;;) ::pause();
    }).detach();
  }
  brood::Runtime runtime(argc, argv);
  if (argc < 3) return 2;
  brood::set_start_method(brood::start_method_from(argv[1]));
  const std::string prefix = argv[2];
  static_cast<void>(brood::SharedMemory::create(100, {.name = prefix + "_dropped"}));
  const auto family = brood::SharedMemory::create(100, {.name = prefix + "_root"});
  if (alone) {
    say("alone");
    for (;;) ::pause();
  }
  const auto kept = brood::SharedMemory::create(
      100, {.name = prefix + "_kept", .lifetime = brood::Lifetime::until_unlinked});
  brood::Process child({.daemon = true}, make_and_wait, prefix);
  child.start();
  say("pid " + std::to_string(child.pid().value()));
  if (argc > 3) {
    brood::SharedMemory::attach(prefix + "_root").bytes()[0] = std::byte{1};
    return 0;
  }
  for (;;) ::pause();
}
