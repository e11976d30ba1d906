#include "cluster/network.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>

#include "support/eventually.hpp"

namespace brood::testing {
namespace {

constexpr const char* kPrefix = "brood";
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

/// What others have left, who were killed before they could remove it.
void sweep() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(kNamespaces, error)) {
    const std::string name = entry.path().filename();
    int pid = 0;
    int end = 0;
    if (std::sscanf(name.c_str(), "brood%d-%n", &pid, &end) != 1 || end == 0) continue;
    if (::kill(pid, 0) == 0) continue;
    kill_in(name);
    run("ip netns del " + name);
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
