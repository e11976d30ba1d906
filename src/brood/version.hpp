// Layer: platform
// Which Brood this is, and what may be mixed.
//
// The version is MAJOR.MINOR.PATCH. Until 1.0 a new MINOR may change anything: what users write,
// the binary interface of the shared library, the layout of shared memory; a new PATCH changes none
// of these. From 1.0 on that is so for MAJOR. So find_package(brood 0.1) takes 0.1.x and nothing
// else, and the shared library's SONAME is libbrood.so.0.1.
//
// The processes of a family run one build of one program, and always agree. Programs that only
// share names (SharedMemory, ShareableList) or talk over a Listener may be of different versions
// as long as the headers of those say nothing else; a mismatch is an error, never a crash.
#pragma once

// CMakeLists.txt reads the project's version from these lines.
#define BROOD_VERSION_MAJOR 0
#define BROOD_VERSION_MINOR 1
#define BROOD_VERSION_PATCH 0

// For #if: BROOD_VERSION >= BROOD_VERSION_NUMBER(0, 2, 0)
#define BROOD_VERSION_NUMBER(major, minor, patch) ((major)*1'000'000 + (minor)*1'000 + (patch))
#define BROOD_VERSION \
  BROOD_VERSION_NUMBER(BROOD_VERSION_MAJOR, BROOD_VERSION_MINOR, BROOD_VERSION_PATCH)

namespace brood {

struct Version {
  int major = 0;
  int minor = 0;
  int patch = 0;
  friend constexpr bool operator==(const Version&, const Version&) = default;
};

/// Of the headers that the caller was compiled with.
inline constexpr Version kVersion{BROOD_VERSION_MAJOR, BROOD_VERSION_MINOR, BROOD_VERSION_PATCH};

/// Of the library that is linked, or was loaded: the same, unless an installation is mixed up.
[[nodiscard]] Version library_version() noexcept;

}  // namespace brood
