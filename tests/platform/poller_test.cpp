#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <limits>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/process_handle.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::poller_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using Keys = std::vector<std::uint64_t>;

Fd event(unsigned value = 0) { return Fd(::eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK)); }
void raise_event(const Fd& fd) { ASSERT_EQ(::eventfd_write(fd.get(), 1), 0); }
void clear_event(const Fd& fd) {
  eventfd_t value = 0;
  ASSERT_EQ(::eventfd_read(fd.get(), &value), 0);
}

Keys sorted(Keys keys) {
  std::sort(keys.begin(), keys.end());
  return keys;
}

TEST(Poller, TellsWhoIsReadyForAsLongAsTheyAre) {
  Poller poller;
  const Fd first = event();
  const Fd second = event();
  poller.add(first.get(), 10);
  poller.add(second.get(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(poller.wait(Deadline::now()), Keys{});
  raise_event(second);
  EXPECT_EQ(poller.wait(Deadline::never()), Keys{std::numeric_limits<std::uint64_t>::max()});
  raise_event(first);
  EXPECT_EQ(sorted(poller.wait(patience())), (Keys{10, std::numeric_limits<std::uint64_t>::max()}));
  clear_event(second);
  EXPECT_EQ(poller.wait(Deadline::now()), Keys{10});
}

TEST(Poller, ForgetsWhatIsRemoved) {
  Poller poller;
  const Fd fd = event(1);
  poller.add(fd.get(), 1);
  EXPECT_EQ(poller.wait(Deadline::now()), Keys{1});
  poller.remove(fd.get());
  EXPECT_EQ(poller.wait(Deadline::now()), Keys{});
  poller.remove(fd.get());  // harmless
  poller.add(fd.get(), 2);
  EXPECT_EQ(poller.wait(Deadline::now()), Keys{2});
}

TEST(Poller, ManyAtOnceAreAllSeenInTheEnd) {
  Poller poller;
  std::vector<Fd> all;
  for (std::uint64_t i = 0; i < 150; ++i) {
    all.push_back(event(1));
    poller.add(all.back().get(), i);
  }
  Keys seen;
  const Deadline deadline = patience();
  while (seen.size() < all.size() && !deadline.passed()) {
    for (const std::uint64_t key : poller.wait(Deadline::now())) {
      clear_event(all[key]);
      seen.push_back(key);
    }
  }
  std::sort(seen.begin(), seen.end());
  ASSERT_EQ(seen.size(), all.size());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
}

TEST(Poller, ReturnsAtTheDeadlineAndNotBefore) {
  Poller poller;
  const Fd fd = event();
  poller.add(fd.get(), 1);
  for (const auto wait : {300us, 2500us}) {
    const auto start = Deadline::Clock::now();
    EXPECT_EQ(poller.wait(Deadline::after(wait)), Keys{});
    EXPECT_GE(Deadline::Clock::now() - start, wait);
  }
}

TEST(Poller, SeesTheEndOfAProcessAndOfAPipe) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  Forked child([] {
    for (;;) ::pause();
  });
  const ProcessHandle process = ProcessHandle::open(child.pid());
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  Poller poller;
  poller.add(process.descriptor(), 1);
  poller.add(reader.get(), 2);
  EXPECT_EQ(poller.wait(Deadline::now()), Keys{});
  child.signal(SIGKILL);
  EXPECT_EQ(poller.wait(patience()), Keys{1});
  poller.remove(process.descriptor());
  writer.reset();
  EXPECT_EQ(poller.wait(patience()), Keys{2});
}

TEST(Poller, FailuresAreErrors) {
  Poller poller;
  EXPECT_THROW(poller.add(-1, 1), SystemError);
  const Fd fd = event();
  poller.add(fd.get(), 1);
  EXPECT_THROW(poller.add(fd.get(), 2), SystemError);
  poller.close();
  EXPECT_THROW(poller.wait(Deadline::now()), SystemError);
}

TEST(WaitReadable, WaitsUntilTheDeadlineOrAByte) {
  const Fd fd = event();
  EXPECT_FALSE(wait_readable(fd.get(), Deadline::now()));
  for (const auto wait : {300us, 2500us}) {
    const auto start = Deadline::Clock::now();
    EXPECT_FALSE(wait_readable(fd.get(), Deadline::after(wait)));
    EXPECT_GE(Deadline::Clock::now() - start, wait);
  }
  std::thread other([&] { raise_event(fd); });
  EXPECT_TRUE(wait_readable(fd.get(), Deadline::never()));
  other.join();
  EXPECT_TRUE(wait_readable(fd.get(), Deadline::now()));
}

TEST(WaitReadable, GoesOnAfterASignal) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  const Fd fd = event();
  const Gate handled;
  static const Gate* in_handler = nullptr;
  in_handler = &handled;
  Forked child([&] {
    struct sigaction action {};
    action.sa_handler = [](int) { in_handler->open(); };
    ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
    handled.open();
    EXPECT_TRUE(wait_readable(fd.get(), patience()));
  });
  ASSERT_TRUE(handled.pass());
  ASSERT_TRUE(await_state(child.pid(), 'S'));
  child.signal(SIGUSR1);
  ASSERT_TRUE(handled.pass());
  raise_event(fd);
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace brood::detail::poller_test
