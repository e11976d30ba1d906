// A nats-server of the test's own.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

namespace brood::testing {

class NatsServer {
 public:
  static bool there() {
    return ::access("/usr/sbin/nats-server", X_OK) == 0 ||
           ::access("/usr/bin/nats-server", X_OK) == 0;
  }

  explicit NatsServer(std::vector<std::string> more = {"-js"}) : more_(std::move(more)) {
    start("-1");
    const std::string ports = dir_.file("nats-server_" + std::to_string(pid_) + ".ports");
    if (!eventually([&] { return read_file(ports).find("nats://") != std::string::npos; })) {
      throw std::runtime_error("nats-server did not say its port: " + read_file(dir_.file("log")));
    }
    const std::string text = read_file(ports);
    const std::size_t begin = text.find("nats://");
    url_ = text.substr(begin, text.find('"', begin) - begin);
    port_ = url_.substr(url_.rfind(':') + 1);
  }
  NatsServer(const NatsServer&) = delete;
  NatsServer& operator=(const NatsServer&) = delete;
  ~NatsServer() { kill(); }

  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + port_; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  /// At the same address.
  void restart() { start(port_); }
  void wipe_store() { std::filesystem::remove_all(dir_.file("store")); }
  [[nodiscard]] std::string log() const { return read_file(dir_.file("log")); }

 private:
  void start(const std::string& port) {
    std::vector<std::string> arguments{"nats-server",
                                       "-a",
                                       "127.0.0.1",
                                       "-p",
                                       port,
                                       "--ports_file_dir",
                                       dir_.path(),
                                       "-sd",
                                       dir_.file("store"),
                                       "-l",
                                       dir_.file("log")};
    arguments.insert(arguments.end(), more_.begin(), more_.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::execvp("nats-server", argv.data());
      ::execv("/usr/sbin/nats-server", argv.data());
      ::_exit(127);
    }
  }

  TempDir dir_;
  std::vector<std::string> more_;
  int pid_ = 0;
  std::string url_;
  std::string port_;
};

}  // namespace brood::testing
