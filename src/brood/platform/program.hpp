#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/platform/fd.hpp>
#include <brood/platform/terminal_signals.hpp>

namespace brood::detail {

/// The command line of this process, as the kernel has it; {"brood"} without /proc.
std::vector<std::string> command_line();

/// The environment as it is now: "NAME=value" each.
std::vector<std::string> environment();
/// Makes `variables` this process's environment. Only while no other thread runs.
void set_environment(std::span<const std::string> variables);

/// An open directory: the working one. Throws SystemError.
Fd open_working_directory();
/// Goes there. Throws SystemError.
void change_directory(const Fd& directory);

/// Executes this program again in a new process: same arguments, this environment with `extra`
/// added, same standard streams and working directory, `descriptors` as numbers 3, 4 ... and no
/// other. Signals are as in a fresh process; those of a terminal wait, if `signals` says so.
/// Returns the process id. Safe while other threads run. Throws SystemError, also when exec itself
/// fails.
int execute_again(std::span<const std::string> arguments, std::span<const std::string> extra,
                  std::span<const int> descriptors,
                  TerminalSignals signals = TerminalSignals::come);
inline constexpr int kFirstPassedFd = 3;

/// The value of an environment variable, if it is set.
std::optional<std::string> environment_variable(const char* name);
/// Only while no other thread runs.
void set_environment_variable(const char* name, const std::string& value);
void unset_environment_variable(const char* name) noexcept;

/// Puts the given descriptors in the place of the standard streams 0, 1, 2; a negative one closes
/// the stream.
void set_standard_streams(std::span<const int> streams) noexcept;
/// The standard streams that are open: 0, 1 and 2, or -1 where one is closed.
std::vector<int> open_standard_streams();
/// The same descriptor at a number of 10 or above, close-on-exec: out of the way of programs that
/// expect the lowest numbers. The same number where there is none left.
Fd move_high(Fd fd);
/// A descriptor that an earlier execute_again passed; marks it close-on-exec.
Fd take_passed_descriptor(int number);
/// Copies a descriptor, close-on-exec. Throws SystemError.
Fd duplicate(int fd);

}  // namespace brood::detail
