#!/bin/sh
# pkg_config.sh PKG_CONFIG PC_DIR OUTPUT COMPILER...: compiles a consumer with the flags that
# pkg-config tells, and runs it.
set -eu
pkg_config=$1 pc_dir=$2 output=$3
shift 3
flags=$(PKG_CONFIG_PATH="$pc_dir" "$pkg_config" --cflags --libs brood)
# shellcheck disable=SC2086 # the flags are words
"$@" -o "$output" $flags
"$output"
