// What the program can do: each prints, and returns its exit status.
#pragma once

#include "options.hpp"

namespace tool {

int up(const Options& options);
int down(const Options& options);
int status(const Options& options);
int env(const Options& options);
int slurm(const Options& options);

}  // namespace tool
