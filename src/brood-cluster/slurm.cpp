#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "commands.hpp"
#include "failure.hpp"
#include "state.hpp"

namespace tool {

int slurm(const Options& options) {
  namespace fs = std::filesystem;
  const StateFolder folder(options);
  const State state = folder.load();
  const fs::path program = find_program(options.app.front());
  if (program.empty()) {
    throw Failure(fmt::format("{} is no program that can be executed", options.app.front()));
  }
  std::string command = shell_word(program.string());
  for (std::size_t i = 1; i != options.app.size(); ++i) command += ' ' + shell_word(options.app[i]);
  std::string more;
  if (!options.partition.empty()) more += "#SBATCH --partition=" + options.partition + "\n";
  if (!options.time.empty()) more += "#SBATCH --time=" + options.time + "\n";
  fmt::print(R"end(#!/bin/bash
# Agents for the cluster {0}. Each is a task of an array: one that is lost with its node is queued
# again; before its time is over it is told to end, gives back what it has, and others take it.
#SBATCH --job-name=brood-{0}
#SBATCH --array=1-{1}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={2}
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
{3}
set -eu
secrets={4}
if [ "$(stat -c %a "$secrets")" != 600 ]; then
  echo "$secrets: others could read the key: chmod 600 it, or make a new cluster" >&2
  exit 1
fi
. "$secrets"
export BROOD_AGENT_WORKERS="${{SLURM_CPUS_PER_TASK:-{2}}}"
exec {5} --brood-agent
)end",
             state.name, options.array, options.cpus, more,
             shell_word(folder.agents_file().string()), command);
  return 0;
}

}  // namespace tool
