#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include <brood/errors.hpp>
#include <brood/platform/memory_file.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::memory_file_test {
namespace {

using namespace brood::testing;

constexpr std::size_t kMiB = std::size_t{1} << 20U;

std::size_t resident_bytes(const Fd& file) {
  struct stat status {};
  EXPECT_EQ(::fstat(file.get(), &status), 0);
  return static_cast<std::size_t>(status.st_blocks) * 512;
}

TEST(MemoryFile, IsSparseAndOfTheSizeAskedFor) {
  const Fd file = create_memory_file("test", 64 * kMiB);
  struct stat status {};
  ASSERT_EQ(::fstat(file.get(), &status), 0);
  EXPECT_EQ(static_cast<std::size_t>(status.st_size), 64 * kMiB);
  EXPECT_EQ(status.st_blocks, 0);
}

TEST(MemoryFile, NobodyCanChangeItsSize) {
  const Fd file = create_memory_file("test", kMiB);
  const Mapping mapping(file, kMiB);
  EXPECT_EQ(::ftruncate(file.get(), 4096), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(file.get(), 2 * kMiB), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::fallocate(file.get(), 0, 0, 2 * kMiB), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
  EXPECT_EQ(errno, EPERM);
  mapping.data()[kMiB - 1] = std::byte{1};  // still there
  struct stat status {};
  ASSERT_EQ(::fstat(file.get(), &status), 0);
  EXPECT_EQ(static_cast<std::size_t>(status.st_size), kMiB);
}

TEST(MemoryFile, IsClosedByExec) {
  const Fd file = create_memory_file("test", kMiB);
  EXPECT_NE(::fcntl(file.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(MemoryFile, ImpossibleSizesAreErrors) {
  try {
    const Fd file = create_memory_file("toobig", std::numeric_limits<std::size_t>::max());
    ADD_FAILURE() << "made it";
  } catch (const SystemError& e) {
    EXPECT_NE(std::string(e.what()).find("toobig"), std::string::npos) << e.what();
  }
}

TEST(MemoryFile, ALimitOnFileSizesIsAnErrorAndNoSignal) {
  in_child([] {
    const rlimit limit{.rlim_cur = kMiB, .rlim_max = kMiB};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_TRUE(create_memory_file("fits", kMiB).valid());
    try {
      const Fd file = create_memory_file("toobig", 2 * kMiB);
      ADD_FAILURE() << "made it";
    } catch (const SystemError& e) {
      EXPECT_EQ(e.code(), std::errc::file_too_large) << e.what();
      EXPECT_NE(std::string(e.what()).find("ulimit -f"), std::string::npos) << e.what();
    }
  });
}

TEST(MemoryFile, IsSharedByMappingsAndProcesses) {
  const Fd file = create_memory_file("test", kMiB);
  const Mapping here(file, kMiB);
  const Mapping there(file, kMiB);
  EXPECT_NE(here.data(), there.data());
  here.data()[5000] = std::byte{42};
  EXPECT_EQ(there.data()[5000], std::byte{42});
  if (kThreadSanitizer) return;
  in_child([&] {
    EXPECT_EQ(here.data()[5000], std::byte{42});
    const Mapping own(file, kMiB);
    own.data()[5001] = std::byte{43};
  });
  EXPECT_EQ(there.data()[5001], std::byte{43});
}

TEST(Mapping, BeginsWhereAHugePageCan) {
  const Fd file = create_memory_file("test", 5 * kMiB);
  const Mapping mapping(file, 5 * kMiB);
  const Mapping other(file, 5 * kMiB);
  for (const Mapping* each : {&mapping, &other}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(each->data()) % kHugePage, 0U);
  }
  mapping.data()[5 * kMiB - 1] = std::byte{7};
  EXPECT_EQ(other.data()[5 * kMiB - 1], std::byte{7});
}

TEST(Mapping, LeavesNothingOfItsPlaceBehind) {
  const Fd file = create_memory_file("test", 8 * kMiB);
  const auto mapped = [] {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * page_size();
  };
  const std::size_t before = mapped();
  {
    const Mapping mapping(file, 8 * kMiB);
    EXPECT_LT(mapped(), before + 9 * kMiB);
  }
  EXPECT_LT(mapped(), before + kMiB);
}

TEST(Mapping, MovesAndUnmapsOnce) {
  const Fd file = create_memory_file("test", kMiB);
  Mapping first(file, kMiB);
  std::byte* data = first.data();
  data[0] = std::byte{9};
  Mapping second(std::move(first));
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the point
  EXPECT_EQ(first.size(), 0U);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.size(), kMiB);
  {
    Mapping third;
    EXPECT_FALSE(third.valid());
    third = std::move(second);
    EXPECT_EQ(third.data()[0], std::byte{9});
  }
  second = Mapping();
  unsigned char resident = 0;
  EXPECT_EQ(::mincore(data, page_size(), &resident), -1) << "still mapped";
  EXPECT_EQ(errno, ENOMEM);
}

TEST(Mapping, NoRoomIsInvalidAndOtherFailuresThrow) {
  const Fd file = create_memory_file("test", kMiB);
  const std::size_t too_much = std::size_t{1} << 62U;
  EXPECT_FALSE(Mapping::try_map(file, too_much).valid());
  try {
    const Mapping mapping(file, too_much);
    ADD_FAILURE() << "mapped it";
  } catch (const SystemError& e) {
    EXPECT_EQ(e.code(), std::errc::not_enough_memory);
  }
  EXPECT_THROW(Mapping::try_map(Fd(), kMiB), SystemError);
  EXPECT_THROW(Mapping::try_map(file, 0), SystemError);
}

TEST(PopulatePages, TakesPagesAndKeepsContents) {
  const Fd file = create_memory_file("test", 4 * kMiB);
  const Mapping mapping(file, 4 * kMiB);
  mapping.data()[page_size()] = std::byte{7};
  EXPECT_LE(resident_bytes(file), kMiB);
  ASSERT_TRUE(populate_pages(mapping.data(), 2 * kMiB));
  EXPECT_GE(resident_bytes(file), 2 * kMiB);
  EXPECT_LT(resident_bytes(file), 4 * kMiB);
  EXPECT_EQ(mapping.data()[page_size()], std::byte{7});
  EXPECT_EQ(mapping.data()[0], std::byte{0});
}

/// Bytes that are mapped by huge pages, of the mapping in which `data` is.
std::size_t huge_bytes(const std::byte* data) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<unsigned long long>(data);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long begin = 0;
    unsigned long long end = 0;
    unsigned long long kb = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx ", &begin, &end) == 2) {
      inside = begin <= wanted && wanted < end;
    } else if (inside && std::sscanf(line.c_str(), "ShmemPmdMapped: %llu", &kb) == 1) {
      return static_cast<std::size_t>(kb) * 1024;
    }
  }
  return 0;
}

/// Whether this kernel makes huge pages of shared memory now.
bool there_are_huge_pages() {
  constexpr int kCollapse = 25;
  const Fd file = create_memory_file("probe", kHugePage);
  const Mapping mapping(file, kHugePage);
  mapping.data()[0] = std::byte{1};
  return ::madvise(mapping.data(), kHugePage, kCollapse) == 0;
}

TEST(PopulatePages, TakesHugePagesForAllOthersToo) {
  if (!there_are_huge_pages()) GTEST_SKIP() << "the kernel makes no huge pages";
  const Fd file = create_memory_file("test", 16 * kMiB);
  const Mapping mapping(file, 16 * kMiB);
  const Mapping other(file, 16 * kMiB);
  ASSERT_TRUE(populate_pages(mapping.data() + kMiB, 12 * kMiB));
  EXPECT_EQ(resident_bytes(file), 12 * kMiB) << "what is no whole huge page is small ones";
  EXPECT_EQ(huge_bytes(mapping.data()), 10 * kMiB);
  std::memset(mapping.data() + kMiB, 0xab, 12 * kMiB);
  EXPECT_EQ(std::count(other.data() + kMiB, other.data() + 13 * kMiB, std::byte{0xab}), 12 * kMiB);
  EXPECT_EQ(huge_bytes(other.data()), 10 * kMiB) << "one fault for each";
  discard_pages(mapping.data() + kMiB, 12 * kMiB);
  EXPECT_EQ(resident_bytes(file), 0U);
}

TEST(PopulatePages, OfWhatHasSomePagesKeepsTheContents) {
  const Fd file = create_memory_file("test", 8 * kMiB);
  const Mapping mapping(file, 8 * kMiB);
  const Mapping other(file, 8 * kMiB);
  // The first of a huge page, the last, one in the middle, and none.
  const std::array<std::size_t, 3> with{0, 2 * kHugePage - 1, 2 * kHugePage + kMiB};
  for (const std::size_t at : with) other.data()[at] = std::byte{7};
  ASSERT_TRUE(populate_pages(mapping.data(), 8 * kMiB));
  EXPECT_EQ(resident_bytes(file), 8 * kMiB);
  EXPECT_EQ(std::count(mapping.data(), mapping.data() + 8 * kMiB, std::byte{0}),
            8 * kMiB - with.size());
  for (const std::size_t at : with) {
    EXPECT_EQ(mapping.data()[at], std::byte{7}) << at;
    other.data()[at] = std::byte{8};
    EXPECT_EQ(mapping.data()[at], std::byte{8}) << at;
  }
}

TEST(PopulatePages, BeyondTheFileItFailsAndNothingIsSignalled) {
  const Fd file = create_memory_file("test", kMiB);
  const Mapping mapping(file, 2 * kMiB);  // the second half would raise SIGBUS
  errno = 0;
  EXPECT_FALSE(populate_pages(mapping.data(), 2 * kMiB));
  EXPECT_EQ(errno, ENOMEM);
}

TEST(DiscardPages, GivesThemBackFromAllProcesses) {
  const Fd file = create_memory_file("test", 4 * kMiB);
  const Mapping mapping(file, 4 * kMiB);
  const Mapping other(file, 4 * kMiB);
  ASSERT_TRUE(populate_pages(mapping.data(), 4 * kMiB));
  std::memset(mapping.data(), 0xab, 4 * kMiB);
  ASSERT_GE(resident_bytes(file), 4 * kMiB);
  discard_pages(mapping.data() + kMiB, 2 * kMiB);
  EXPECT_LE(resident_bytes(file), 2 * kMiB + page_size());
  EXPECT_EQ(other.data()[kMiB - 1], std::byte{0xab});
  EXPECT_EQ(other.data()[kMiB], std::byte{0});
  EXPECT_EQ(other.data()[3 * kMiB - 1], std::byte{0});
  EXPECT_EQ(other.data()[3 * kMiB], std::byte{0xab});
}

TEST(MemoryLimits, AreThoseOfTheProcess) {
  EXPECT_EQ(page_size(), static_cast<std::size_t>(::getpagesize()));
  if (kThreadSanitizer) return;
  in_child([] {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &limit), 0);
    if (limit.rlim_cur == RLIM_INFINITY) {
      EXPECT_EQ(address_space_limit(), std::numeric_limits<std::size_t>::max());
    }
    limit.rlim_cur = std::size_t{1} << 45U;
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
    EXPECT_EQ(address_space_limit(), std::size_t{1} << 45U);
  });
}

}  // namespace
}  // namespace brood::detail::memory_file_test
