#!/bin/sh
# deb.sh CPACK BUILD FOLDER PKG_CONFIG VERSION RUNTIME COMPILER...: makes the Debian packages, looks
# into them, and compiles and runs a consumer with what they contain. RUNTIME: the package of the
# shared library.
set -eu
cpack=$1 build=$2 folder=$3 pkg_config=$4 version=$5 runtime=$6
shift 6

fail() {
  echo "deb.sh: $*" >&2
  exit 1
}

rm -rf "$folder"
mkdir -p "$folder"
"$cpack" -G DEB --config "$build/CPackConfig.cmake" -B "$folder" >"$folder/log" 2>&1 ||
  { cat "$folder/log" && fail "cpack failed"; }
for package in libbrood-dev brood-tools "$runtime"; do
  deb=$(ls "$folder/${package}_${version}"_*.deb) || fail "there is no package $package"
  [ "$(dpkg-deb -f "$deb" Package)" = "$package" ] || fail "$deb is named otherwise inside"
  [ -n "$(dpkg-deb -f "$deb" Depends)" ] || fail "$package depends on nothing"
  dpkg-deb -x "$deb" "$folder/root"
done
for package in libbrood-dev brood-tools; do
  dpkg-deb -f "$folder/${package}_${version}"_*.deb Depends | grep -qF "$runtime (= $version)" ||
    fail "$package does not ask for its $runtime"
done
[ -f "$folder/root/usr/include/brood/brood.hpp" ] || fail "the headers are not in /usr/include"
[ -x "$folder/root/usr/bin/brood-top" ] || fail "brood-top is not in /usr/bin"
pc=$(dirname "$(find "$folder/root/usr" -name brood.pc)")
lib=$(cd "$pc/.." && pwd)
flags=$(PKG_CONFIG_PATH="$pc" "$pkg_config" --cflags --libs brood)
# shellcheck disable=SC2086 # the flags are words
"$@" -o "$folder/consumer" $flags
LD_LIBRARY_PATH="$lib" "$folder/consumer"
LD_LIBRARY_PATH="$lib" "$folder/root/usr/bin/brood-top" --version | grep -q "$version"
if [ -n "$(find "$folder/root/usr" -name 'libbrood_cluster.so.*')" ]; then
  LD_LIBRARY_PATH="$lib" "$folder/root/usr/bin/brood-cluster" --version | grep -q "$version"
fi
