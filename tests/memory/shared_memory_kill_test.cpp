// Kills who makes shared memory with a name at any instruction: what is found is whole, and what is
// there is registered.
// Not for ThreadSanitizer: processes that are killed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include <brood/memory/member.hpp>
#include <brood/shared_memory.hpp>

#include "support/proof.hpp"
#include "support/sandbox.hpp"
#include "support/single_step.hpp"

namespace brood::shared_memory_kill_test {
namespace {

using testing::forbid_system_call;
using testing::prove_everything;
using testing::SingleStep;

constexpr std::size_t kBytes = 5000;
const std::string kName = "brood_test_kill_" + std::to_string(::getpid());
const std::string kPath = "/dev/shm/" + kName;

detail::NameRegister& names() { return detail::Member::require()->segment().names(); }

void make() {
  static_cast<void>(SharedMemory::create(kBytes, {.name = kName}, [](SharedMemory::Bytes bytes) {
    std::memset(bytes.data(), 0x77, bytes.size());
  }));
}
std::size_t names_in_folder() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    ++count;
  }
  return count;
}

class SharedMemoryKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
    before_ = names_in_folder();
    ASSERT_EQ(names().size(), 0U);
  }

  /// What is wrong now, if anything. Whatever is in the folder is to be found in the register.
  std::string look() const {
    struct stat status {};
    if (::stat(kPath.c_str(), &status) != 0) return {};
    if (status.st_size != static_cast<off_t>(kBytes)) return "it has not its size";
    if (names().size() == 0) return "it is not registered";
    const auto found = SharedMemory::attach(kName);
    const bool whole = std::all_of(found.bytes().begin(), found.bytes().end(),
                                   [](std::byte byte) { return byte == std::byte{0x77}; });
    return whole ? "" : "it is not filled";
  }

  void run(const std::function<void()>& operation) {
    std::uint64_t all = 0;
    SingleStep::SystemCalls calls;
    bool found = false;
    {
      SingleStep child(operation);
      calls = child.walk([&] {
        if (HasFatalFailure()) return;
        const bool there = ::access(kPath.c_str(), F_OK) == 0;
        if (there && !found) {
          ASSERT_EQ(look(), "") << "at instruction " << child.steps();
        }
        found = found || there;
        // Somebody who is stopped between two looks could be so anywhere in the folder.
        if (!there && child.steps() % 64 == 0) {
          ASSERT_LE(names_in_folder(), before_ + names().size())
              << "at instruction " << child.steps();
        }
      });
      all = child.steps();
    }
    if (HasFatalFailure()) return;
    RecordProperty("instructions", static_cast<int>(all));
    ASSERT_TRUE(found);
    names().unlink_all();
    const std::uint64_t stride = prove_everything() ? 11 : std::max<std::uint64_t>(1, all / 12);
    for (std::uint64_t at = 1; at < all; at += stride) {
      {
        SingleStep child(operation);
        child.step_past(calls, at);
        child.kill();
      }
      ASSERT_EQ(look(), "") << "killed at instruction " << at << " of " << all;
      // What the watchdog does when this was not the last of the family; may be killed, done again.
      if (at % 2 == 0) names().unlink_of(detail::Member::require()->self());
      ASSERT_EQ(look(), "") << "killed at instruction " << at << " of " << all;
      names().unlink_all();
      ASSERT_EQ(names_in_folder(), before_) << "killed at instruction " << at << " of " << all;
      ASSERT_EQ(names().size(), 0U);
    }
  }

  std::size_t before_ = 0;
};

TEST_F(SharedMemoryKill, AtAnyInstructionOfMakingOneItIsNothingOrWholeAndRegistered) { run(make); }

TEST_F(SharedMemoryKill, AlsoWhereFilesWithoutNamesAreImpossible) {
  run([] {
    forbid_system_call(SYS_openat, EOPNOTSUPP, std::uint32_t{O_TMPFILE | O_RDWR | O_CLOEXEC});
    make();
  });
}

TEST_F(SharedMemoryKill, TakingAllNamesAwayMayBeKilledAndDoneAgain) {
  const auto make_three = [] {
    make();
    static_cast<void>(SharedMemory::create(1));
    static_cast<void>(SharedMemory::create(1, {.lifetime = Lifetime::object}));
  };
  std::uint64_t all = 0;
  SingleStep::SystemCalls calls;
  make_three();
  {
    SingleStep child([] { names().unlink_all(); });
    calls = child.walk([] {});
    all = child.steps();
  }
  const std::uint64_t stride = prove_everything() ? 5 : std::max<std::uint64_t>(1, all / 25);
  for (std::uint64_t at = 1; at < all; at += stride) {
    make_three();
    {
      SingleStep child([] { names().unlink_all(); });
      child.step_past(calls, at);
      child.kill();
    }
    // Whoever has got the name since keeps it.
    const bool is_free = ::access(kPath.c_str(), F_OK) != 0;
    if (is_free) ::close(::open(kPath.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
    names().unlink_all();
    ASSERT_EQ(names().size(), 0U);
    ASSERT_EQ(::access(kPath.c_str(), F_OK) == 0, is_free) << "killed at instruction " << at;
    if (is_free) ::unlink(kPath.c_str());
    ASSERT_EQ(names_in_folder(), before_) << "killed at instruction " << at;
  }
}

}  // namespace
}  // namespace brood::shared_memory_kill_test
