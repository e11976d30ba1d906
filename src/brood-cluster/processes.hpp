// Processes of this machine that outlive the one that started them.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tool {

/// A process as it is found again: nobody else has both.
struct ProcessId {
  int pid = 0;
  std::uint64_t start = 0;  // when, in the kernel's ticks since it began
};

/// Executes `command` in a session of its own, its output in `log`, without input; `environment` is
/// added to this process's. Throws Failure when it cannot be executed.
ProcessId start_detached(const std::vector<std::string>& command,
                         const std::vector<std::string>& environment,
                         const std::filesystem::path& log);

[[nodiscard]] bool lives(const ProcessId& process);
/// If it lives.
void send_signal(const ProcessId& process, int signal);
/// True when none of them lives any more, in time.
bool await_end(const std::vector<ProcessId>& processes, std::chrono::seconds patience);

/// "ended with 1", "was killed by SIGSEGV"; empty while it runs. For those that this process
/// started; others "ended".
std::string how_it_ended(const ProcessId& process);

/// The last lines of a file, indented; empty if there is none.
std::string end_of(const std::filesystem::path& log);

/// The file that a command names, as execvp would find it, and in the folders of system programs.
/// Empty if there is none that can be executed.
std::filesystem::path find_program(const std::string& name);

/// Ctrl-C or SIGTERM has come: Failure is thrown.
void check_interrupt();

}  // namespace tool
