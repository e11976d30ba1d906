#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/shared_memory.hpp>

#include "support/forked.hpp"
#include "support/sandbox.hpp"
#include "support/sanitizers.hpp"

namespace brood::shared_memory_test {
namespace {

using namespace brood::testing;

std::string unique_name(const char* what) {
  return "brood_test_" + std::to_string(::getpid()) + "_" + what;
}
bool exists(const std::string& name) { return ::access(("/dev/shm/" + name).c_str(), F_OK) == 0; }
detail::NameRegister& names() { return detail::Member::require()->segment().names(); }

template <class Call>
void expect_system_error(std::errc code, Call call, const std::string& word = "") {
  try {
    call();
    ADD_FAILURE() << "no error, expected " << std::make_error_code(code).message();
  } catch (const SystemError& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
  }
}

/// What others make, with the C library.
class Foreign {
 public:
  Foreign(std::string name, std::size_t bytes) : name_(std::move(name)) {
    const int fd = ::shm_open(("/" + name_).c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    ::close(fd);
  }
  Foreign(const Foreign&) = delete;
  Foreign& operator=(const Foreign&) = delete;
  ~Foreign() { ::shm_unlink(("/" + name_).c_str()); }

 private:
  std::string name_;
};

TEST(SharedMemory, IsFoundByItsNameWithItsExactSize) {
  for (const std::size_t bytes : {1U, 4095U, 4096U, 4097U, 1'000'001U}) {
    const auto made = SharedMemory::create(bytes, {.lifetime = Lifetime::object});
    EXPECT_TRUE(made.name().starts_with("brood_")) << made.name();
    EXPECT_EQ(made.size(), bytes);
    const auto found = SharedMemory::attach(made.name());
    EXPECT_EQ(found.size(), bytes);
    EXPECT_EQ(found.bytes().size(), bytes);
    EXPECT_EQ(found.bytes().back(), std::byte{0});
    made.bytes().back() = std::byte{7};
    EXPECT_EQ(found.bytes().back(), std::byte{7});
    EXPECT_NE(found.bytes().data(), made.bytes().data());
    EXPECT_EQ(found, made);
  }
}

TEST(SharedMemory, IsForThisUserAloneWhateverTheUmask) {
  const mode_t before = ::umask(0777);
  const auto made = SharedMemory::create(10, {.lifetime = Lifetime::object});
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(("/dev/shm/" + made.name()).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_EQ(status.st_size, 10);
}

TEST(SharedMemory, ItsMemoryIsTakenWhenItIsMade) {
  constexpr std::size_t kBytes = std::size_t{8} << 20U;
  const auto made = SharedMemory::create(kBytes, {.lifetime = Lifetime::object});
  struct stat status {};
  ASSERT_EQ(::stat(("/dev/shm/" + made.name()).c_str(), &status), 0);
  EXPECT_GE(static_cast<std::size_t>(status.st_blocks) * 512, kBytes);
}

TEST(SharedMemory, IsFilledBeforeAnybodyFindsIt) {
  const std::string name = unique_name("filled");
  const auto made = SharedMemory::create(100, {.name = name, .lifetime = Lifetime::object},
                                         [&](SharedMemory::Bytes bytes) {
                                           EXPECT_EQ(bytes.size(), 100U);
                                           EXPECT_FALSE(exists(name));
                                           std::memset(bytes.data(), 0x5a, bytes.size());
                                         });
  EXPECT_EQ(SharedMemory::attach(name).bytes()[99], std::byte{0x5a});
}

TEST(SharedMemory, WhatFillThrowsLeavesNothing) {
  const std::size_t before = names().size();
  EXPECT_THROW(SharedMemory::create(100, {.name = unique_name("thrown")},
                                    [](SharedMemory::Bytes) { throw std::runtime_error("no"); }),
               std::runtime_error);
  EXPECT_FALSE(exists(unique_name("thrown")));
  EXPECT_EQ(names().size(), before);
}

TEST(SharedMemory, OfOthersIsAttachedWithItsExactSizeAndLeftAlone) {
  const std::string name = unique_name("foreign");
  const Foreign foreign(name, 12345);
  {
    const auto found = SharedMemory::attach(name);
    EXPECT_EQ(found.size(), 12345U);
    found.bytes()[12344] = std::byte{1};
    EXPECT_EQ(SharedMemory::attach(name, 12345).bytes()[12344], std::byte{1});
  }
  EXPECT_TRUE(exists(name));
}

TEST(SharedMemory, IsFoundByOthersWithTheCLibrary) {
  const auto made = SharedMemory::create(5000, {.lifetime = Lifetime::object});
  const int fd = ::shm_open(("/" + made.name()).c_str(), O_RDWR, 0);
  ASSERT_GE(fd, 0);
  struct stat status {};
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, 5000);
  ::close(fd);
}

TEST(SharedMemory, AttachingNeverTakesTheNameAway) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  const auto made = SharedMemory::create(100, {.lifetime = Lifetime::object});
  for (int i = 0; i < 3; ++i) {
    in_child([&] {
      auto found = SharedMemory::attach(made.name());
      found.bytes()[1] = std::byte{2};
      found.close();
    });
  }
  EXPECT_EQ(made.bytes()[1], std::byte{2});
  EXPECT_TRUE(exists(made.name()));
}

TEST(SharedMemory, AForkOfTheCreatorTakesNothingAway) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  auto made = SharedMemory::create(100, {.lifetime = Lifetime::object});
  in_child([&] {
    made.close();
    EXPECT_TRUE(exists(made.name()));
  });
  EXPECT_TRUE(exists(made.name()));
}

TEST(SharedMemory, LivesAsLongAsItsLifetimeSays) {
  const std::size_t before = names().size();
  std::string name;
  {
    auto made = SharedMemory::create(1, {.lifetime = Lifetime::object});
    EXPECT_EQ(names().size(), before + 1);
    name = made.name();
    const SharedMemory copy = made;
    made.close();
    EXPECT_TRUE(exists(name)) << "a copy has it still";
  }
  EXPECT_FALSE(exists(name));
  EXPECT_EQ(names().size(), before);

  name = SharedMemory::create(1).name();
  EXPECT_TRUE(exists(name));
  EXPECT_EQ(names().size(), before + 1);
  SharedMemory::unlink(name);
  EXPECT_EQ(names().size(), before);

  name = SharedMemory::create(1, {.lifetime = Lifetime::until_unlinked}).name();
  EXPECT_TRUE(exists(name));
  EXPECT_EQ(names().size(), before);
  SharedMemory::unlink(name);
  EXPECT_FALSE(exists(name));
}

TEST(SharedMemory, StaysUsableWithoutItsName) {
  const auto made = SharedMemory::create(100);
  const auto found = SharedMemory::attach(made.name());
  found.unlink();
  EXPECT_FALSE(exists(made.name()));
  made.bytes()[0] = std::byte{3};
  EXPECT_EQ(found.bytes()[0], std::byte{3});
  expect_system_error(
      std::errc::no_such_file_or_directory, [&] { made.unlink(); }, made.name());
  expect_system_error(std::errc::no_such_file_or_directory,
                      [&] { SharedMemory::unlink(made.name()); });
}

TEST(SharedMemory, ALaterOneOfTheSameNameIsNotTakenForIt) {
  const std::string name = unique_name("again");
  auto first = SharedMemory::create(100, {.name = name, .lifetime = Lifetime::object});
  first.unlink();
  {
    const auto second = SharedMemory::create(100, {.name = name, .lifetime = Lifetime::object});
    EXPECT_FALSE(first == second);
    expect_system_error(
        std::errc::no_such_file_or_directory, [&] { first.unlink(); }, "other");
    first.close();
    EXPECT_TRUE(exists(name));
  }
  EXPECT_FALSE(exists(name));
}

TEST(SharedMemory, IsSeenAsValues) {
  struct Point {
    std::int32_t x, y;
  };
  const auto made = SharedMemory::create(24, {.lifetime = Lifetime::object});
  made.as<Point>(8) = {1, 2};
  EXPECT_EQ(made.as_span<std::int32_t>()[2], 1);
  EXPECT_EQ(made.as_span<std::int32_t>().size(), 6U);
  EXPECT_EQ((made.as_span<Point>(8, 2)[0].y), 2);
  made.as<std::atomic<std::uint64_t>>(16).fetch_add(5);
  EXPECT_EQ(made.as<std::uint64_t>(16), 5U);
  EXPECT_TRUE(made.as_span<Point>(24, 0).empty());
  using Big = std::array<char, 25>;
  EXPECT_THROW(static_cast<void>(made.as<Big>()), ArgumentError);
  EXPECT_THROW(static_cast<void>(made.as_span<Big>()), ArgumentError);
  EXPECT_THROW(static_cast<void>(made.as<Point>(2)), ArgumentError);
  EXPECT_THROW(static_cast<void>(made.as<Point>(20)), ArgumentError);
  EXPECT_THROW(static_cast<void>(made.as<Point>(28)), ArgumentError);
  EXPECT_THROW(static_cast<void>(made.as_span<Point>(8, std::size_t{1} << 61U)), ArgumentError);
  EXPECT_THROW(static_cast<void>(made.as<Point>(std::numeric_limits<std::size_t>::max() - 3)),
               ArgumentError);
  static_assert(!SharableBytes<std::string>);
  static_assert(!SharableBytes<int*>);
  static_assert(SharableBytes<std::atomic<int>>);
}

TEST(SharedMemory, AfterCloseItHasANameAndNoMore) {
  auto made = SharedMemory::create(100);
  const std::string name = made.name();
  made.close();
  made.close();
  EXPECT_TRUE(made.closed());
  EXPECT_EQ(made.name(), name);
  EXPECT_THROW(static_cast<void>(made.size()), StateError);
  EXPECT_THROW(static_cast<void>(made.bytes()), StateError);
  EXPECT_THROW(static_cast<void>(made.as<int>()), StateError);
  EXPECT_THROW(static_cast<void>(made.as_span<int>()), StateError);
  made.unlink();
  EXPECT_FALSE(exists(name));
  auto other = std::move(made);
  EXPECT_THROW(static_cast<void>(made.name()), StateError);  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(made.unlink(), StateError);
  made = SharedMemory::create(1, {.lifetime = Lifetime::object});
  EXPECT_EQ(made.size(), 1U);
}

TEST(SharedMemoryErrors, NamesThatExistAndThatDoNot) {
  const std::string name = unique_name("taken");
  const std::size_t before = names().size();
  {
    const Foreign foreign(name, 100);
    expect_system_error(
        std::errc::file_exists, [&] { SharedMemory::create(10, {.name = name}); }, name);
    EXPECT_TRUE(exists(name)) << "it is another's";
  }
  EXPECT_EQ(names().size(), before);
  expect_system_error(
      std::errc::no_such_file_or_directory, [&] { SharedMemory::attach(name); }, name);
  expect_system_error(
      std::errc::no_such_file_or_directory, [&] { SharedMemory::unlink(name); }, name);
}

TEST(SharedMemoryErrors, BadNames) {
  using namespace std::string_literals;
  for (const std::string& name : {"/x"s, "a/b"s, "."s, ".."s, "a\0b"s, std::string(255, 'x')}) {
    EXPECT_THROW(SharedMemory::create(1, {.name = name}), ArgumentError) << name;
    EXPECT_THROW(SharedMemory::attach(name), ArgumentError) << name;
    EXPECT_THROW(SharedMemory::unlink(name), ArgumentError) << name;
  }
  EXPECT_THROW(SharedMemory::attach(""), ArgumentError);
  EXPECT_THROW(SharedMemory::unlink(""), ArgumentError);
  for (const std::string& name : {"a:b\n c"s, std::string(254, 'x'), "\xff\xfe"s, "-"s}) {
    const auto made = SharedMemory::create(1, {.name = name, .lifetime = Lifetime::object});
    EXPECT_EQ(SharedMemory::attach(name), made);
  }
}

TEST(SharedMemoryErrors, Sizes) {
  EXPECT_THROW(SharedMemory::create(0), ArgumentError);
  for (const std::size_t bytes :
       {std::size_t{1} << 50U, std::size_t{1} << 62U, std::numeric_limits<std::size_t>::max()}) {
    EXPECT_THROW(SharedMemory::create(bytes), SystemError) << bytes;
  }
  const std::string name = unique_name("sizes");
  const Foreign foreign(name, 100);
  EXPECT_THROW(SharedMemory::attach(name, 99), ArgumentError);
  const Foreign unfinished(name + "0", 0);
  expect_system_error(
      std::errc::invalid_argument, [&] { SharedMemory::attach(name + "0"); }, "size is 0");
}

TEST(SharedMemoryErrors, WhatIsNoMemory) {
  const std::string name = unique_name("odd");
  const std::string path = "/dev/shm/" + name;
  ASSERT_EQ(::symlink("/etc/passwd", path.c_str()), 0);
  expect_system_error(std::errc::too_many_symbolic_link_levels,
                      [&] { SharedMemory::attach(name); });
  SharedMemory::unlink(name);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  expect_system_error(std::errc::no_such_device, [&] { SharedMemory::attach(name); });
  SharedMemory::unlink(name);
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  expect_system_error(std::errc::is_a_directory, [&] { SharedMemory::attach(name); });
  ::rmdir(path.c_str());
}

// --- What the system refuses ---------------------------------------------------------------------

class SharedMemoryRefused : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  }
  /// Runs it in a child that has a /dev/shm of its own, mounted so.
  static void with_dev_shm(const char* options, unsigned long flags,
                           const std::function<void()>& body, const char* where = "/dev/shm") {
    constexpr int kCannot = 77;
    const int code = exit_code_of([&] {
      static_cast<void>(detail::Member::require());
      if (::unshare(CLONE_NEWNS) != 0 ||
          ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("tmpfs", where, "tmpfs", flags, options) != 0) {
        ::_exit(kCannot);
      }
      body();
    });
    if (code == kCannot) GTEST_SKIP() << "mounting is not permitted here";
    EXPECT_EQ(code, 0) << "see above for what the child saw";
  }
};

TEST_F(SharedMemoryRefused, NoSpaceIsAnErrorAndNothingIsLeft) {
  with_dev_shm("size=1m", 0, [] {
    for (int round = 0; round < 3; ++round) {
      expect_system_error(std::errc::no_space_on_device,
                          [] { SharedMemory::create(std::size_t{2} << 20U); });
      // What is asked first does not tell: another took it meanwhile.
      const auto most = SharedMemory::create(900'000, {.lifetime = Lifetime::object});
      std::memset(most.bytes().data(), 1, most.size());
      expect_system_error(std::errc::no_space_on_device, [] { SharedMemory::create(300'000); });
    }
    EXPECT_TRUE(std::filesystem::is_empty("/dev/shm"));
    EXPECT_EQ(names().size(), 0U);
  });
}

TEST_F(SharedMemoryRefused, NoFilesLeftInTheTmpfs) {
  with_dev_shm("nr_inodes=2", 0, [] {
    const auto only = SharedMemory::create(1, {.lifetime = Lifetime::object});
    expect_system_error(std::errc::no_space_on_device, [] { SharedMemory::create(1); });
    EXPECT_EQ(names().size(), 1U);
  });
}

TEST_F(SharedMemoryRefused, AReadOnlyFolder) {
  with_dev_shm("", MS_RDONLY, [] {
    expect_system_error(
        std::errc::read_only_file_system, [] { SharedMemory::create(1); }, "mounted read-only");
  });
}

TEST_F(SharedMemoryRefused, NoFolderAtAll) {
  with_dev_shm(
      "", 0,
      [] {
        expect_system_error(
            std::errc::no_such_file_or_directory, [] { SharedMemory::create(1); }, "mount a tmpfs");
        expect_system_error(
            std::errc::no_such_file_or_directory, [] { SharedMemory::attach("x"); },
            "mount a tmpfs");
      },
      "/dev");
}

TEST_F(SharedMemoryRefused, ALimitOnFileSizesIsAnErrorAndNoSignal) {
  in_child([] {
    static_cast<void>(detail::Member::require());
    const rlimit limit{.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_system_error(
        std::errc::file_too_large, [] { SharedMemory::create((1 << 20) + 1); }, "ulimit -f");
    EXPECT_EQ(SharedMemory::create(1 << 20, {.lifetime = Lifetime::object}).size(), 1U << 20U);
  });
}

TEST_F(SharedMemoryRefused, NoDescriptorsLeft) {
  in_child([] {
    static_cast<void>(detail::Member::require());
    const auto made = SharedMemory::create(1, {.lifetime = Lifetime::object});
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 0;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect_system_error(
        std::errc::too_many_files_open, [] { SharedMemory::create(1); }, "ulimit -n");
    expect_system_error(
        std::errc::too_many_files_open, [&] { SharedMemory::attach(made.name()); }, "ulimit -n");
    EXPECT_EQ(made.bytes()[0], std::byte{0});
    EXPECT_EQ(names().size(), 1U);
  });
}

TEST_F(SharedMemoryRefused, AnotherUsersMemory) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs to become another user";
  const auto made = SharedMemory::create(1, {.lifetime = Lifetime::object});
  in_child([&] {
    ASSERT_EQ(::setresuid(65534, 65534, 65534), 0);
    expect_system_error(std::errc::permission_denied, [&] { SharedMemory::attach(made.name()); });
    expect_system_error(std::errc::operation_not_permitted,
                        [&] { SharedMemory::unlink(made.name()); });
  });
  EXPECT_TRUE(exists(made.name()));
}

TEST_F(SharedMemoryRefused, FilesWithoutNamesOrNamesForThemAreDoneWithout) {
  const std::string name = unique_name("otherwise");
  const std::vector<std::function<void()>> ways{
      [] { forbid_system_call(SYS_linkat, EPERM); },
      [] {
        forbid_system_call(SYS_openat, EOPNOTSUPP, std::uint32_t{O_TMPFILE | O_RDWR | O_CLOEXEC});
      },
      [] {
        forbid_system_call(SYS_openat, EOPNOTSUPP, std::uint32_t{O_TMPFILE | O_RDWR | O_CLOEXEC});
        forbid_system_call(SYS_renameat2, ENOSYS);
      }};
  for (const auto& forbid : ways) {
    in_child([&] {
      static_cast<void>(detail::Member::require());
      forbid();
      const auto fill = [](SharedMemory::Bytes bytes) { bytes[9] = std::byte{9}; };
      const SharedMemoryOptions options{.name = name, .lifetime = Lifetime::object};
      const auto made = SharedMemory::create(10, options, fill);
      EXPECT_EQ(SharedMemory::attach(name, 10).bytes()[9], std::byte{9});
      EXPECT_EQ(names().size(), 1U);
      expect_system_error(std::errc::file_exists, [&] { SharedMemory::create(10, options); });
      const auto more = SharedMemory::create(10, {.lifetime = Lifetime::object});
      EXPECT_EQ(names().size(), 2U);
    });
    EXPECT_FALSE(exists(name));
    EXPECT_EQ(names().size(), 0U);
  }
}

}  // namespace
}  // namespace brood::shared_memory_test
