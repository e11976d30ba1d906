// A log for all processes: what they say comes to the root in order, what a killed one said last
// too.
#include <brood/brood.hpp>

#include <csignal>
#include <cstdio>
#include <string>

// [work]
void work(int number) {
  brood::log::debug("begins with {}", number);
  if (number == 2) {
    brood::log::error("{} is too much", number);
    std::raise(SIGKILL);
  }
  brood::log::info("done with {}", number);
}
// [/work]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  // [main]
  brood::log::to_root([](const brood::log::Record& record) {  // or to_stderr(), to_files("logs")
    std::printf("%s %.*s: %.*s\n", std::string(to_string(record.level)).c_str(),
                static_cast<int>(record.process.size()), record.process.data(),
                static_cast<int>(record.text.size()), record.text.data());
  });
  for (int i = 1; i <= 3; ++i) {
    if (i == 3) brood::log::set_level(brood::log::Level::debug);  // for the whole family, now
    brood::Process child(work, i);
    child.start();
    child.join();
  }
  // [/main]
}
