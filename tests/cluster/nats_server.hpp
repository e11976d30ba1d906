// A nats-server of the test's own.
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

namespace brood::testing {

/// To be started and restarted by the main thread: it is killed when the thread that did ends.
class NatsServer {
 public:
  static bool there() {
    return ::access("/usr/sbin/nats-server", X_OK) == 0 ||
           ::access("/usr/bin/nats-server", X_OK) == 0;
  }

  /// Where it listens, and what its process does before.
  struct Place {
    std::string address;
    std::string port;
    std::function<bool()> enter = {};
  };

  /// `configuration`: of a file, beside the arguments.
  explicit NatsServer(std::vector<std::string> more = {"-js"},
                      const std::string& configuration = {})
      : more_(std::move(more)), place_{.address = "127.0.0.1", .port = {}} {
    if (!configuration.empty()) {
      std::ofstream(dir_.file("conf")) << configuration << std::flush;
      more_.insert(more_.end(), {"-c", dir_.file("conf")});
    }
    // Below the ports that connections get: a client that tries again and again to connect to a
    // port of those may meet itself there, and then no server can have it back.
    constexpr unsigned kFirst = 20'000;
    constexpr unsigned kPorts = 12'000;
    std::random_device random;
    for (int turn = 0; turn != 20; ++turn) {
      place_.port = std::to_string(kFirst + random() % kPorts);
      if (start()) return;
    }
    throw std::runtime_error("nats-server does not start: " + log());
  }
  NatsServer(Place place, std::vector<std::string> more)
      : more_(std::move(more)), place_(std::move(place)) {
    restart();
  }
  NatsServer(const NatsServer&) = delete;
  NatsServer& operator=(const NatsServer&) = delete;
  ~NatsServer() { kill(); }

  [[nodiscard]] std::string url() const { return "nats://" + address(); }
  [[nodiscard]] std::string address() const { return place_.address + ":" + place_.port; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  /// At the same address.
  void restart() {
    if (!start()) throw std::runtime_error("nats-server does not start again: " + log());
  }
  /// All of it, or one stream's.
  void wipe_store(const std::string& stream = {}) {
    const std::filesystem::path all = dir_.file("store");
    std::filesystem::remove_all(stream.empty() ? all
                                               : all / "jetstream" / "$G" / "streams" / stream);
  }
  /// Bytes.
  [[nodiscard]] std::uintmax_t stored() const {
    std::uintmax_t bytes = 0;
    std::error_code gone;
    for (std::filesystem::recursive_directory_iterator at(dir_.file("store"), gone), end;
         !gone && at != end; at.increment(gone)) {
      std::error_code error;
      const std::uintmax_t size = at->is_regular_file(error) ? at->file_size(error) : 0;
      if (!error) bytes += size;
    }
    return bytes;
  }
  [[nodiscard]] std::string store() const { return dir_.file("store"); }
  [[nodiscard]] std::string log() const { return read_file(dir_.file("log")); }

 private:
  /// False when it has ended, instead of being ready.
  bool start() {
    std::filesystem::remove(dir_.file("log"));
    std::vector<std::string> arguments{"nats-server",   "-a",  place_.address,     "-p",
                                       place_.port,     "-sd", dir_.file("store"), "-l",
                                       dir_.file("log")};
    arguments.insert(arguments.end(), more_.begin(), more_.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (place_.enter && !place_.enter()) ::_exit(127);
      ::execvp("nats-server", argv.data());
      ::execv("/usr/sbin/nats-server", argv.data());
      ::_exit(127);
    }
    bool ended = false;
    static_cast<void>(eventually([&] {
      ended = ::waitpid(pid_, nullptr, WNOHANG) == pid_;
      return ended || log().find("Server is ready") != std::string::npos;
    }));
    if (ended) pid_ = 0;
    return !ended;
  }

  TempDir dir_;
  std::vector<std::string> more_;
  int pid_ = 0;
  Place place_;
};

}  // namespace brood::testing
