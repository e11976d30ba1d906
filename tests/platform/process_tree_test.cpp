// Not for ThreadSanitizer: processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/process_tree.hpp>

#include "support/eventually.hpp"
#include "support/forked.hpp"
#include "support/sanitizers.hpp"

namespace brood::detail::process_tree_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;

/// A pipe whose writing end everybody in a tree has: at its end, all of them are gone.
class Kin {
 public:
  Kin() {
    if (::pipe2(ends_, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  }
  Kin(const Kin&) = delete;
  Kin& operator=(const Kin&) = delete;
  ~Kin() {
    ::close(ends_[0]);
    parted();
  }
  /// Done by the one who is none of them.
  void parted() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }
  [[nodiscard]] bool all_gone(Deadline deadline = patience()) const {
    char byte = 0;
    return wait_readable(ends_[0], deadline) && ::read(ends_[0], &byte, 1) == 0;
  }

 private:
  int ends_[2] = {-1, -1};
};

/// Forks in a child of the test: what it makes is not this process's.
template <class Body>
int branch(Body body) {
  const int pid = ::fork();
  if (pid != 0) return pid;
  body();
  ::_exit(0);
}

[[noreturn]] void wait_for_ever() {
  for (;;) ::pause();
}

TEST(ProcessTree, ListsChildren) {
  std::vector<Forked> children;
  for (int i = 0; i < 3; ++i) children.emplace_back(&wait_for_ever);
  for (const auto& found : {children_of(::getpid()), children_of_by_search(::getpid())}) {
    for (const Forked& child : children) {
      EXPECT_NE(std::find(found.begin(), found.end(), child.pid()), found.end());
    }
  }
  EXPECT_EQ(children_of(children[0].pid()), std::vector<int>());
  const int pid = children[0].pid();
  children[0].kill();
  EXPECT_EQ(children_of(pid), std::vector<int>());
  EXPECT_EQ(children_of_by_search(pid), std::vector<int>());
}

TEST(ProcessTree, EndsThoseWhoDoNotListen) {
  Kin kin;
  const Gate ready;
  Forked child([&] {
    branch([&] {
      ::signal(SIGTERM, SIG_IGN);
      branch([&] {
        ready.open();
        wait_for_ever();
      });
      wait_for_ever();
    });
    wait_for_ever();
  });
  kin.parted();
  ASSERT_TRUE(ready.pass());
  TreeKill kill(ProcessHandle::open(child.pid()));
  EXPECT_TRUE(kill.asked_any());
  EXPECT_FALSE(kill.obeyed(Deadline::after(5ms)));
  kill.finish();
  EXPECT_TRUE(kin.all_gone());
  EXPECT_EQ(child.wait(), -SIGKILL);
}

TEST(ProcessTree, NobodyIsAskedWhoWouldJustDie) {
  Forked child(&wait_for_ever);
  TreeKill kill(ProcessHandle::open(child.pid()));
  EXPECT_FALSE(kill.asked_any());
  EXPECT_TRUE(kill.obeyed(Deadline::now()));
  ASSERT_TRUE(await_state(child.pid(), 'T')) << "it waits for the others to end";
  kill.finish();
  EXPECT_EQ(child.wait(), -SIGKILL);
}

TEST(ProcessTree, TimeToTidyUp) {
  Kin kin;
  const Gate ready;
  static const Shared<std::atomic<int>> tidied;
  tidied->store(0);
  const auto obey = [](int) {
    tidied->fetch_add(1);
    ::_exit(7);
  };
  Forked child([&] {
    ::signal(SIGTERM, obey);
    branch([&] {
      branch([&] {
        ready.open();
        wait_for_ever();
      });
      ready.open();
      wait_for_ever();
    });
    wait_for_ever();
  });
  kin.parted();
  ASSERT_TRUE(ready.pass() && ready.pass());
  TreeKill kill(ProcessHandle::open(child.pid()));
  EXPECT_TRUE(kill.asked_any());
  EXPECT_TRUE(kill.obeyed(patience()));
  EXPECT_EQ(*tidied, 3);
  kill.finish();
  EXPECT_TRUE(kin.all_gone());
  EXPECT_EQ(child.wait(), 7);
}

TEST(ProcessTree, DaemonsDoNotGetAway) {
  Kin kin;
  const Gate ready;
  Forked child([&] {
    adopt_orphans();
    const int daemon = branch([&] {
      ::setsid();
      branch([&] {
        ::signal(SIGTERM, SIG_IGN);
        if (!eventually([] { return ::getppid() != 1; })) ::_exit(1);
        ready.open();
        wait_for_ever();
      });
    });
    ::waitpid(daemon, nullptr, 0);
    ready.open();
    wait_for_ever();
  });
  kin.parted();
  ASSERT_TRUE(ready.pass() && ready.pass());
  // With a parent that just dies of SIGTERM it would be lost.
  TreeKill kill(ProcessHandle::open(child.pid()));
  EXPECT_TRUE(kill.asked_any());
  kill.finish();
  EXPECT_TRUE(kin.all_gone());
}

TEST(ProcessTree, ForksAsFastAsItCan) {
  for (int round = 0; round < 2; ++round) {
    Kin kin;
    const Shared<std::atomic<unsigned>> forks;
    const Shared<std::atomic<int>> root;
    // What is left of them is reaped here, and not by the first process of the machine.
    Forked nursery([&] {
      adopt_orphans();
      *root = branch([&] {
        adopt_orphans();
        ::signal(SIGTERM, SIG_IGN);
        // Each makes a successor and ends; a second line makes children that stay.
        branch([&] {
          for (;;) {
            // NOTE: should it get away, it ends by itself.
            if (forks->fetch_add(1) > 20000 || ::fork() != 0) ::_exit(0);
          }
        });
        for (int made = 0; made < 30; ++made) {
          branch([&] {
            branch(&wait_for_ever);
            wait_for_ever();
          });
        }
        for (;;) {
          if (::waitpid(-1, nullptr, WNOHANG) <= 0) std::this_thread::yield();
        }
      });
      while (::waitpid(-1, nullptr, 0) > 0) continue;
    });
    kin.parted();
    ASSERT_TRUE(eventually([&] { return *forks > 50U + 40U * static_cast<unsigned>(round); }));
    TreeKill kill(ProcessHandle::open(*root));
    EXPECT_TRUE(kill.asked_any());
    kill.finish();
    EXPECT_TRUE(kin.all_gone());
    EXPECT_EQ(nursery.wait(), 0);
  }
}

TEST(ProcessTree, ChildrenOfOtherThreadsToo) {
  Kin kin;
  const Gate ready;
  Forked child([&] {
    std::thread([&] {
      branch(&wait_for_ever);
      ready.open();
      wait_for_ever();
    }).detach();
    wait_for_ever();
  });
  kin.parted();
  ASSERT_TRUE(ready.pass());
  TreeKill(ProcessHandle::open(child.pid())).finish();
  EXPECT_TRUE(kin.all_gone());
}

TEST(ProcessTree, AParentThatWaitsInVforkCannotBeStopped) {
  if (kAddressSanitizer) GTEST_SKIP() << "the sanitizer makes a fork of it";
  Kin kin;
  const Gate ready;
  Forked child([&] {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    const int pid = ::vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork): as popen does
#pragma GCC diagnostic pop
    if (pid == 0) {
      ready.open();
      wait_for_ever();
    }
    for (;;) branch(&wait_for_ever);  // at which it gets when its child is gone
  });
  kin.parted();
  ASSERT_TRUE(ready.pass());
  ASSERT_TRUE(await_state(child.pid(), 'D'));
  TreeKill(ProcessHandle::open(child.pid())).finish();
  EXPECT_TRUE(kin.all_gone());
  EXPECT_EQ(child.wait(), -SIGKILL);
}

TEST(ProcessTree, OneWhoIsInItIsSpared) {
  Kin kin;
  const Gate ready;
  const Gate done;
  Forked child([&] {
    branch(&wait_for_ever);
    branch([&] {
      TreeKill(ProcessHandle::open(::getppid())).finish();
      done.open();
    });
    wait_for_ever();
  });
  kin.parted();
  EXPECT_TRUE(done.pass());
  EXPECT_TRUE(kin.all_gone());
  EXPECT_EQ(child.wait(), -SIGKILL);
  EXPECT_THROW(TreeKill(ProcessHandle::open(::getpid())), StateError);
}

TEST(ProcessTree, OneThatHasEnded) {
  Forked child([] {});
  const ProcessHandle process = ProcessHandle::open(child.pid());
  ASSERT_TRUE(process.wait_ended(patience()));
  TreeKill zombie(process);
  EXPECT_FALSE(zombie.asked_any());
  zombie.finish();
  EXPECT_EQ(child.wait(), 0);
  TreeKill gone(process);
  EXPECT_TRUE(gone.obeyed(Deadline::now()));
  gone.finish();
  gone.finish();
  TreeKill never_seen(ProcessHandle::of_ended());
  EXPECT_FALSE(never_seen.asked_any());
}

TEST(ProcessTree, FinishesWhenItIsLeft) {
  Kin kin;
  Forked child([] {
    ::signal(SIGTERM, SIG_IGN);
    wait_for_ever();
  });
  kin.parted();
  {
    TreeKill kill(ProcessHandle::open(child.pid()));
    const TreeKill moved(std::move(kill));
  }
  EXPECT_EQ(child.wait(), -SIGKILL);
}

TEST(ProcessTree, WithoutDescriptors) {
  Kin kin;
  const Gate ready;
  Forked child([&] {
    ::signal(SIGTERM, SIG_IGN);
    for (int i = 0; i < 20; ++i) branch(&wait_for_ever);
    ready.open();
    wait_for_ever();
  });
  kin.parted();
  ASSERT_TRUE(ready.pass());
  Forked killer([&] {
    const ProcessHandle process = ProcessHandle::open(child.pid());
    std::vector<Fd> all;
    for (;;) {
      const int fd = ::dup(0);
      if (fd < 0) break;
      all.emplace_back(fd);
      if (all.size() > 60000) ::_exit(3);
    }
    for (int i = 0; i < 8; ++i) all.pop_back();
    TreeKill(process).finish();
  });
  EXPECT_EQ(killer.wait(), 0);
  EXPECT_TRUE(kin.all_gone());
}

}  // namespace
}  // namespace brood::detail::process_tree_test
