// Families that log to stderr, and end in several ways: log_program MODE METHOD [late_server].
#include <signal.h>
#include <unistd.h>

#include <string>

#include <brood/event.hpp>
#include <brood/log.hpp>
#include <brood/process.hpp>
#include <brood/process/log_output.hpp>
#include <brood/runtime.hpp>
#include <brood/start_method.hpp>

#include "support/late_child.hpp"

namespace {

void count_up() {
  for (int i = 0; i != 200; ++i) brood::log::info("{} and more", i);
}
void speak(brood::Event go, brood::Event spoken) {
  go.wait();
  brood::log::info("from the child");
  spoken.set();
  for (;;) ::pause();
}
void speak_much(brood::Event spoken) {
  for (int i = 0; i != 100; ++i) brood::log::info("{}", i);
  spoken.set();
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 3 && argv[3] == std::string("late_server")) {
    brood::testing::stop_child_of("brood_log_progr", 1);
  }
  brood::Runtime runtime(argc, argv);
  if (argc < 3) return 2;
  const std::string mode = argv[1];
  brood::set_start_method(brood::start_method_from(argv[2]));
  brood::Event spoken;
  if (mode == "stderr") {
    brood::log::to_stderr();
    brood::Process a({.name = "a"}, count_up);
    brood::Process b({.name = "b"}, count_up);
    a.start();
    b.start();
    count_up();
    a.join();
    b.join();
    return a.exitcode() == 0 && b.exitcode() == 0 ? 0 : 1;
  }
  if (mode == "die") {
    brood::log::to_root();
    brood::Event go;
    brood::Process child(speak, go, spoken);
    child.start();
    // Nobody takes records from here on, as in a root that is killed before that thread's turn.
    const brood::detail::LogOutput::Pause pause;
    go.set();
    spoken.wait();
    brood::log::info("from the root");
    ::kill(::getpid(), SIGKILL);
  }
  if (mode == "daemon") {
    brood::log::to_root();
    brood::Process child({.daemon = true}, speak_much, spoken);
    child.start();
    spoken.wait();
    return 0;
  }
  return 2;
}
