#include "cluster/network.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>

#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

namespace brood::testing {
namespace {

constexpr const char* kPrefix = "brood";
/// In the environment of whatever comes of a process that has a network: its name.
constexpr const char* kNetwork = "BROOD_TEST_NETWORK";
constexpr const char* kNamespaces = "/run/netns";

struct Said {
  std::string text;  // with what it said on stderr
  bool good = false;
};
Said run(const std::string& script) {
  Said said;
  std::fflush(nullptr);
  FILE* const pipe =
      ::popen(("PATH=$PATH:/usr/sbin:/sbin\n{\n" + script + "\n} 2>&1").c_str(), "re");
  if (pipe == nullptr) throw std::runtime_error("popen");
  std::array<char, 4096> buffer{};
  for (std::size_t bytes = 0; (bytes = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    said.text.append(buffer.data(), bytes);
  }
  said.good = ::pclose(pipe) == 0;
  return said;
}

void must(const std::string& script) {
  const Said said = run("set -e\n" + script);
  if (!said.good) throw std::runtime_error(script + ": " + said.text);
}

std::vector<int> processes_in(const std::string& name) {
  std::vector<int> pids;
  std::istringstream text(run("ip netns pids " + name).text);
  for (int pid = 0; text >> pid;) pids.push_back(pid);
  return pids;
}

void kill_in(const std::string& name) {
  const bool gone = eventually([&] {
    const std::vector<int> pids = processes_in(name);
    for (const int pid : pids) ::kill(pid, SIGKILL);
    return pids.empty();
  });
  if (!gone) throw std::runtime_error("processes in " + name + " do not end");
}

/// The process that made the network of this name, if it does not run any more; else 0.
int dead_maker(const char* name) {
  int pid = 0;
  if (std::sscanf(name, "brood%d", &pid) != 1 || ::kill(pid, 0) == 0) return 0;
  return pid;
}

/// What others have left, who were killed before they could remove it. Namespaces go with the last
/// process that is in them, wherever they were mounted, which was seen by who made them alone.
void sweep() {
  const std::string mark = fmt::format("{}=", kNetwork);
  std::error_code error;
  const auto network_of = [&error](const std::string& pid) {
    return std::filesystem::read_symlink("/proc/" + pid + "/ns/net", error).string();
  };
  std::vector<std::string> pids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") == std::string::npos) pids.push_back(pid);
  }
  // Some overwrite their environment with what ps shall show, but are where others are.
  std::set<std::string> networks;
  for (const std::string& pid : pids) {
    const std::string all = read_file("/proc/" + pid + "/environ");
    const std::size_t at = all.find(mark);
    if (at == std::string::npos || dead_maker(all.c_str() + at + mark.size()) == 0) continue;
    const std::string network = network_of(pid);
    if (!network.empty() && network != network_of("self")) networks.insert(network);
    ::kill(std::atoi(pid.c_str()), SIGKILL);
  }
  for (const std::string& pid : pids) {
    if (networks.contains(network_of(pid))) ::kill(std::atoi(pid.c_str()), SIGKILL);
  }
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kNamespaces, error)) {
    names.push_back(entry.path().filename());
  }
  for (const std::string& name : names) {
    if (dead_maker(name.c_str()) != 0) run("ip netns del " + name);
  }
}

}  // namespace

std::string Network::missing() {
  if (::geteuid() != 0) return "network namespaces need root";
  if (!run("command -v ip").good) return "`ip` is missing: apt-get install iproute2";
  const std::string name = fmt::format("{}{}-try", kPrefix, ::getpid());
  const Said said = run(fmt::format("ip netns add {0} && ip netns del {0}", name));
  return said.good ? "" : "no network namespaces here: " + said.text;
}

Network::Network(int machines) : machines_(machines) {
  sweep();
  ::setenv(kNetwork, fmt::format("{}{}", kPrefix, ::getpid()).c_str(), 1);
  // The bridge is in a namespace too: of this machine's network only one link is seen.
  std::string script = fmt::format(
      "ip netns add {0}\n"
      "ip -n {0} link add bridge type bridge\n"
      "ip -n {0} link set bridge up\n",
      name(-1));
  for (int machine = 0; machine <= machines_; ++machine) {
    const std::string in = machine == 0 ? "" : "-n " + name(machine);
    const std::string link = machine == 0 ? name(0) : "eth0";
    if (machine > 0) script += fmt::format("ip netns add {}\n", name(machine));
    script += fmt::format(
        "ip -n {0} link add m{1} type veth peer name {2} netns {3}\n"
        "ip -n {0} link set m{1} master bridge up\n"
        "ip {4} addr add {5}/24 dev {2}\n"
        "ip {4} link set {2} up\n",
        name(-1), machine, link, machine == 0 ? std::to_string(::getpid()) : name(machine), in,
        address(machine));
    if (machine > 0) script += fmt::format("ip {} link set lo up\n", in);
  }
  try {
    must(script);
  } catch (...) {
    remove();
    throw;
  }
}

Network::~Network() {
  for (int machine = 1; machine <= machines_; ++machine) kill(machine);
  remove();
  ::unsetenv(kNetwork);
}

void Network::remove() const {
  std::string script = fmt::format("ip link del {}\n", name(0));
  for (int machine = 1; machine <= machines_; ++machine) {
    script += fmt::format("ip netns del {}\n", name(machine));
  }
  run(script + fmt::format("ip netns del {}\n", name(-1)));
}

std::string Network::name(int machine) const {
  const std::string number = machine < 0 ? "hub" : std::to_string(machine);
  return fmt::format("{}{}-{}", kPrefix, ::getpid(), number);
}

std::string Network::address(int machine) const {
  constexpr int kNetworks = 100;
  constexpr int kFirst = 100;
  constexpr int kHosts = 250;
  return fmt::format("10.{}.{}.{}", kFirst + ::getpid() / kHosts % kNetworks, ::getpid() % kHosts,
                     machine + 1);
}

std::function<bool()> Network::enter(int machine) const {
  return [path = fmt::format("{}/{}", kNamespaces, name(machine))] {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const bool good = fd >= 0 && ::setns(fd, CLONE_NEWNET) == 0;
    if (fd >= 0) ::close(fd);
    return good;
  };
}

void Network::cut(int machine) const {
  must(fmt::format("ip -n {} link set m{} nomaster", name(-1), machine));
}

void Network::heal(int machine) const {
  must(fmt::format("ip -n {} link set m{} master bridge", name(-1), machine));
}

void Network::separate(int one, int other) const {
  must(fmt::format("ip -n {} route add blackhole {}/32\nip -n {} route add blackhole {}/32",
                   name(one), address(other), name(other), address(one)));
}

void Network::rejoin(int one, int other) const {
  must(fmt::format("ip -n {} route del blackhole {}/32\nip -n {} route del blackhole {}/32",
                   name(one), address(other), name(other), address(one)));
}

std::vector<int> Network::processes(int machine) const { return processes_in(name(machine)); }

void Network::kill(int machine) const { kill_in(name(machine)); }

}  // namespace brood::testing
