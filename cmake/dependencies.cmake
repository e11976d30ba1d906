# What the library needs. Each failure names the Debian package that cures it.

# brood_require(<what> <debian package> <find_package arguments>...)
macro(brood_require what debian_package package)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "Brood needs ${what}, which was not found. On Debian: "
                        "apt-get install ${debian_package}")
  endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
brood_require("POSIX threads" libc6-dev Threads)
brood_require("{fmt} 9 or later" libfmt-dev fmt 9)
brood_require("cereal 1.3" libcereal-dev cereal)
brood_require("OpenSSL 3" libssl-dev OpenSSL 3)
brood_require("spdlog 1.10 or later" libspdlog-dev spdlog 1.10)
brood_require("pkg-config" pkg-config PkgConfig)
pkg_check_modules(LIBSECCOMP QUIET IMPORTED_TARGET libseccomp>=2.5)
if(NOT LIBSECCOMP_FOUND)
  message(FATAL_ERROR "Brood needs libseccomp 2.5 or later, which was not found. On Debian: "
                      "apt-get install libseccomp-dev")
endif()
brood_require("the Boost headers 1.81 or later (for Boost.PFR)" libboost1.81-dev Boost 1.81)

# Other machines, in a library of its own.
pkg_check_modules(LIBNATS QUIET IMPORTED_TARGET libnats>=3.4)
set(brood_cluster_wanted OFF)
if(PROJECT_IS_TOP_LEVEL AND LIBNATS_FOUND)
  set(brood_cluster_wanted ON)
endif()
option(BROOD_WITH_CLUSTER "Build brood::cluster, pools over many machines, on NATS"
       ${brood_cluster_wanted})
if(BROOD_WITH_CLUSTER AND NOT LIBNATS_FOUND)
  message(FATAL_ERROR "BROOD_WITH_CLUSTER is on, but libnats 3.4 or later was not found. On Debian: "
                      "apt-get install libnats-dev")
endif()

# elfutils turns addresses into functions and lines in stack traces; without it they are
# module+offset. It is loaded when the first stack is described, so only its headers are needed here
# and programs do not link it.
find_path(BROOD_LIBDW_INCLUDE_DIR elfutils/libdwfl.h)
mark_as_advanced(BROOD_LIBDW_INCLUDE_DIR)
if(BROOD_LIBDW_INCLUDE_DIR)
  set(brood_libdw_found ON)
else()
  set(brood_libdw_found OFF)
endif()
option(BROOD_WITH_LIBDW "Name functions and lines in stack traces, with elfutils' libdw"
       ${brood_libdw_found})
if(BROOD_WITH_LIBDW AND NOT BROOD_LIBDW_INCLUDE_DIR)
  message(FATAL_ERROR "BROOD_WITH_LIBDW is on, but elfutils' libdw was not found. On Debian: "
                      "apt-get install libdw-dev")
endif()
