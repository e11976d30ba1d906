// Agents that Slurm starts: a real one, with a controller and three nodes, each on a machine of its
// own.
// Not for ThreadSanitizer: it does not know libnats' locks.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <brood/bind.hpp>

#include "cluster/on_machines.hpp"
#include "support/eventually.hpp"

namespace brood::testing::cluster_slurm_test {
namespace {

using namespace std::chrono_literals;

/// A program that stays in the foreground; killed with this object.
class Daemon {
 public:
  Daemon(std::vector<std::string> command, const std::function<bool()>& prepare,
         const std::string& output) {
    std::vector<char*> argv;
    for (std::string& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    ::close_range(3, ~0U, 0);
    ::setsid();
    if (prepare()) ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  int pid_ = 0;
};

std::string output_of(const std::string& command) {
  std::string text;
  std::fflush(nullptr);
  FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) throw std::runtime_error("popen");
  std::array<char, 4096> buffer{};
  for (std::size_t bytes = 0; (bytes = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    text.append(buffer.data(), bytes);
  }
  ::pclose(pipe);
  return text;
}

/// Nodes n1 to n3 are machines 1 to 3, the NATS server is on machine 4, with the controller.
class ClusterSlurm : public OnMachines {
 protected:
  static constexpr int kNodes = 3;
  static constexpr int kHead = 4;

  void SetUp() override {
    for (const char* program : {"munged", "slurmctld", "slurmd", "sbatch", "scontrol"}) {
      if (!std::filesystem::exists(std::string("/usr/sbin/") + program) &&
          !std::filesystem::exists(std::string("/usr/bin/") + program)) {
        GTEST_SKIP() << program << " is not installed: apt-get install munge slurmctld slurmd";
      }
    }
    make_machines(kHead);
    if (IsSkipped()) return;
    servers_.push_back(std::make_unique<NatsServer>(
        NatsServer::Place{.address = network_->address(kHead), .port = "4222", .enter = on(kHead)},
        std::vector<std::string>{"-js"}));
    ::setenv("PATH", (std::string(std::getenv("PATH")) + ":/usr/sbin").c_str(), 1);
    ::setenv("SLURM_CONF", file("slurm.conf").c_str(), 1);
    write_configuration();
    daemons_.push_back(std::make_unique<Daemon>(
        std::vector<std::string>{"munged", "--foreground", "--force", "--key-file=" + file("key"),
                                 "--socket=" + file("munge"), "--pid-file=" + file("munge.pid"),
                                 "--log-file=" + file("munge.log"),
                                 "--seed-file=" + file("munge.seed")},
        on(kHead), file("munge.out")));
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(file("munge")); }))
        << read_file(file("munge.out")) << read_file(file("munge.log"));
    daemons_.push_back(std::make_unique<Daemon>(
        std::vector<std::string>{"slurmctld", "-D", "-c", "-f", file("slurm.conf")}, on(kHead),
        file("slurmctld.out")));
    for (int node = 1; node <= kNodes; ++node) start_node(node);
    ASSERT_TRUE(eventually([&] { return output_of("sinfo -h -o '%T %D'") == "idle 3\n"; }))
        << output_of("sinfo -N -l") << read_file(file("slurmctld.out"));
  }
  void TearDown() override {
    if (HasFailure() && network_) {
      std::cerr << output_of("sinfo -N -l; scontrol show job");
      for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
        const std::string name = entry.path().filename();
        if (name.ends_with(".log") || name.ends_with(".out")) {
          std::cerr << "== " << name << '\n' << read_file(entry.path());
        }
      }
    }
    OnMachines::TearDown();
    // What jobs are there goes with the machines.
    daemons_.clear();
    ::unsetenv("SLURM_CONF");
  }

  [[nodiscard]] std::string file(const std::string& name) const { return dir_.file(name); }
  void start_node(int node) {
    const std::string name = fmt::format("n{}", node);
    daemons_.push_back(std::make_unique<Daemon>(
        std::vector<std::string>{"slurmd", "-D", "-N", name, "-f", file("slurm.conf")}, on(node),
        file("slurmd." + name + ".out")));
  }
  [[nodiscard]] ClusterPool pool() const {
    return ClusterPool(
        {.url = servers_.front()->url(), .key = "secret", .patience = 20s, .lease = 1s});
  }
  /// An array job of agents, one for each node. Returns its number.
  std::string submit_agents(const std::string& options) {
    {
      std::ofstream script(file("agents.sh"));
      script << "#!/bin/bash\n"
             << "export BROOD_CLUSTER_KEY=secret BROOD_CLUSTER_LEASE=1 BROOD_AGENT_WORKERS=1\n"
             << "export BROOD_TEST_JOURNAL=" << file("journal") << '\n'
             << "export BROOD_TEST_MACHINE=${SLURMD_NODENAME#n}\n"
             << "exec " << std::filesystem::read_symlink("/proc/self/exe").string()
             << " --brood-agent " << servers_.front()->url() << '\n';
    }
    const std::string said = output_of(
        fmt::format("sbatch --parsable --array=1-{} --chdir={} --output={} {} {}", kNodes,
                    dir_.path().string(), file("agent.%a.log"), options, file("agents.sh")));
    EXPECT_NE(said.find_first_of("123456789"), std::string::npos) << said;
    return said.substr(0, said.find('\n'));
  }

 private:
  void write_configuration() const {
    {
      std::ofstream key(file("key"));
      std::random_device random;
      for (int i = 0; i < 64; ++i) key << static_cast<char>(random());
    }
    ::chmod(file("key").c_str(), 0600);
    std::array<char, 256> host{};
    ::gethostname(host.data(), host.size() - 1);
    std::ofstream(file("slurm.conf"))
        << "ClusterName=brood\n"
        << fmt::format("SlurmctldHost={}({})\n", host.data(), network_->address(kHead))
        // A job that is queued again may start when the credential of its first run has ended.
        << "AuthType=auth/munge\nAuthInfo=socket=" << file("munge") << ",cred_expire=5\n"
        << "CredType=cred/munge\nSlurmUser=root\nMpiDefault=none\nSwitchType=switch/none\n"
        << "StateSaveLocation=" << file("state") << '\n'
        << "SlurmctldPidFile=" << file("slurmctld.pid") << '\n'
        << "SlurmdSpoolDir=" << file("spool.%n") << '\n'
        << "SlurmdPidFile=" << file("slurmd.%n.pid") << '\n'
        << "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
        << "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\n"
        << "SlurmdParameters=config_overrides\nReturnToService=2\nSlurmdTimeout=5\n"
        << "SchedulerParameters=sched_interval=2,batch_sched_delay=1\nKillWait=5\n";
    std::ofstream conf(file("slurm.conf"), std::ios::app);
    for (int node = 1; node <= kNodes; ++node) {
      conf << fmt::format("NodeName=n{} NodeHostname={} NodeAddr={} CPUs=2 State=UNKNOWN\n", node,
                          host.data(), network_->address(node));
    }
    conf << fmt::format("PartitionName=all Nodes=n[1-{}] Default=YES MaxTime=INFINITE State=UP\n",
                        kNodes);
    conf.close();
    std::filesystem::create_directory(file("state"));
  }

  std::vector<std::unique_ptr<Daemon>> daemons_;
};

TEST_F(ClusterSlurm, ANodeIsKilledAndSlurmStartsItsAgentElsewhere) {
  const ClusterPool pool = this->pool();
  // One element on each node.
  const std::string job = submit_agents("--requeue --exclusive");
  await(pool, kNodes);
  map(pool, "nothing, agents of Slurm");
  int killed = 0;
  map(pool, "a node of Slurm is killed", [&] {
    killed = runs().begin()->second.front();
    network_->kill(killed);
  });
  await(pool, kNodes - 1);
  start_node(killed);  // the machine is up again
  const auto begin = Clock::now();
  EXPECT_TRUE(eventually([&] { return pool.nodes().size() == kNodes; }, 60s));
  cost("until Slurm has started the agent again", begin);
  EXPECT_NE(output_of("scontrol show job -o " + job).find("Restarts=1"), std::string::npos);
  map(pool, "nothing, the agent is back");
}

TEST_F(ClusterSlurm, AgentsWhoseTimeIsNearlyUpFinishWhatTheyHave) {
  const ClusterPool pool = this->pool();
  const std::string job = submit_agents("--exclusive --time=1 --signal=B:TERM@10");
  start_agents(kHead, kHead, servers_.front()->url());  // one that stays
  await(pool, kNodes + 1);
  std::size_t tasks = 0;
  EXPECT_TRUE(eventually(
      [&] {
        EXPECT_EQ(pool.map(&work_and_note, numbers(kTasks)).size(), std::size_t{kTasks});
        tasks += kTasks;
        return output_of("squeue -h -j " + job).empty();
      },
      100s));
  const std::string jobs = output_of("scontrol show job -o " + job);
  std::size_t completed = 0;
  for (std::size_t at = 0; (at = jobs.find("JobState=COMPLETED", at)) != std::string::npos; ++at) {
    ++completed;
  }
  EXPECT_EQ(completed, std::size_t{kNodes}) << jobs;
  std::size_t begun = 0;
  std::set<int> machines;
  for (const auto& [number, where] : runs()) {
    begun += where.size();
    machines.insert(where.begin(), where.end());
  }
  EXPECT_EQ(begun, tasks) << "nothing is begun twice because of it";
  EXPECT_EQ(machines.size(), std::size_t{kNodes} + 1);
}

}  // namespace
}  // namespace brood::testing::cluster_slurm_test
