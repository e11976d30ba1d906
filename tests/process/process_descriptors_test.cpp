// Connections and descriptors as arguments of processes, under every start method. Names in
// brackets are the tests of CPython's _TestConnection and _TestPicklingConnections that ask for the
// same.
// Not for ThreadSanitizer: processes.
#include <brood/connection.hpp>
#include <brood/descriptor.hpp>
#include <brood/process.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::process_descriptors_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;

/// What each descriptor of a process leads to.
std::vector<std::string> open_files_of(int pid) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    std::error_code gone;
    files.push_back(std::filesystem::read_symlink(entry.path(), gone).string());
  }
  return files;
}

int server_pid() {
  const auto family = detail::Family::require();
  const auto tag = detail::Tag::from_bits(family->segment().header().watchdog.load());
  return family->registry().record(tag).pid.load();
}

/// Whether the first thread of a process sleeps in epoll_wait(); also where nobody may know.
bool waits_for_events(int pid) {
  const std::string text = testing::read_file("/proc/" + std::to_string(pid) + "/syscall");
  bool found = text.empty() || text.starts_with(std::to_string(SYS_epoll_pwait) + " ");
#ifdef SYS_epoll_wait
  found = found || text.starts_with(std::to_string(SYS_epoll_wait) + " ");
#endif
  return found;
}

/// Whether a thread of this process sleeps in poll().
bool polls(int thread) {
  const std::string text =
      testing::read_file("/proc/self/task/" + std::to_string(thread) + "/syscall");
  bool found = text.starts_with(std::to_string(SYS_ppoll) + " ");
#ifdef SYS_poll
  found = found || text.starts_with(std::to_string(SYS_poll) + " ");
#endif
  return found;
}

/// The limit on descriptors of a process, as long as this lives.
class FewDescriptors {
 public:
  FewDescriptors(int pid, std::size_t most) : pid_(pid) {
    ::prlimit(pid_, RLIMIT_NOFILE, nullptr, &before_);
    rlimit limit = before_;
    limit.rlim_cur = most;
    EXPECT_EQ(::prlimit(pid_, RLIMIT_NOFILE, &limit, nullptr), 0);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() { ::prlimit(pid_, RLIMIT_NOFILE, &before_, nullptr); }

 private:
  int pid_;
  rlimit before_{};
};

/// Takes all that are left.
std::vector<Descriptor> take_all_descriptors() {
  std::vector<Descriptor> all;
  all.reserve(1 << 16U);
  for (int fd = 0; (fd = ::fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0;) all.emplace_back(fd);
  return all;
}

class ProcessDescriptors : public testing::EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (IsSkipped()) return;
    Process([] {}).start().join();  // a server that was not there is
    server_ = server_pid();
    // With all that it opens before it serves.
    ASSERT_TRUE(eventually([&] { return waits_for_events(server_); }));
    server_files_ = open_files_of(server_);
  }
  void TearDown() override {
    if (!IsSkipped() && server_pid() == server_) {
      EXPECT_TRUE(
          eventually([&] { return open_files_of(server_).size() <= server_files_.size(); }, 5s))
          << "the fork server keeps " << ::testing::PrintToString(open_files_of(server_))
          << ", before " << ::testing::PrintToString(server_files_);
    }
    EveryStartMethod::TearDown();
  }
  testing::TempDir dir_;
  int server_ = 0;
  std::vector<std::string> server_files_;
};
BROOD_UNDER_EVERY_START_METHOD(ProcessDescriptors);

void echo(Connection end) {
  try {
    for (;;) end.send(end.recv<std::string>());
  } catch (const EndOfStream&) {
    return;
  }
}

TEST_P(ProcessDescriptors, AnEndOfAPipeIsAnArgument) {  // [test_connection, test_spawn_close]
  Pipe pipe;
  Process child(echo, std::move(pipe.second));
  EXPECT_TRUE(pipe.second.closed());  // NOLINT(bugprone-use-after-move)
  child.start();
  for (const std::size_t size : {0U, 3U, 1'000'000U}) {
    pipe.first.send(std::string(size, 'x'));
    EXPECT_EQ(pipe.first.recv<std::string>(), std::string(size, 'x'));
  }
  pipe.first.close();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
}

TEST_P(ProcessDescriptors, TheEndOfAKilledChildIsSeenAtOnce) {
  const auto wait_with = [](Connection end) {
    end.send(1);
    for (;;) ::pause();
  };
  std::vector<Connection> ends;
  std::vector<Process> children;
  for (int i = 0; i < 4; ++i) {
    Pipe pipe;
    ends.push_back(std::move(pipe.first));
    children.emplace_back(ProcessOptions{.daemon = true}, wait_with, std::move(pipe.second));
  }
  for (Process& child : children) child.start();
  for (Connection& end : ends) EXPECT_EQ(end.recv<int>(), 1);
  for (const std::size_t i : {1U, 0U, 3U, 2U}) {
    EXPECT_FALSE(ends[i].poll());
    children[i].kill();
    ASSERT_TRUE(ends[i].poll(20s)) << "somebody else has a copy of end " << i;
    EXPECT_THROW(ends[i].recv<int>(), EndOfStream);
    children[i].join();
  }
}

TEST_P(ProcessDescriptors, AChildHasNoMoreThanItsOwn) {
  const auto count = [](Connection to, std::vector<Descriptor> more) {
    to.send(static_cast<int>(open_files_of(::getpid()).size() - more.size()));
  };
  std::set<int> counts;
  for (const std::size_t more : {0U, 1U, 20U}) {
    Pipe pipe({.duplex = false});
    std::vector<Descriptor> files;
    for (std::size_t i = 0; i < more; ++i) files.push_back(Descriptor::copy_of(0));
    Process child(count, std::move(pipe.second), std::move(files));
    child.start();
    counts.insert(pipe.first.recv<int>());
    child.join();
  }
  EXPECT_EQ(counts.size(), 1U) << *counts.begin() << " and " << *counts.rbegin();
}

// The request comes first, then the death of the spare child, so that the server forks another
// while it holds the descriptors.
TEST_P(ProcessDescriptors, AChildForWhichThereWasNoSpareHasNoSecondCopies) {
  if (GetParam() != StartMethod::forkserver) GTEST_SKIP() << "only the fork server has spares";
  int spare = 0;
  ASSERT_TRUE(eventually([&] {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      const std::string stat = testing::read_file(entry.path() / "stat");
      if (stat.find("(brood-spare) S " + std::to_string(server_) + " ") == std::string::npos)
        continue;
      spare = std::stoi(name);
    }
    return spare != 0;
  }));
  Pipe pipe;
  Process child(
      {.daemon = true},
      [](Connection end) {
        end.close();
        for (;;) ::pause();
      },
      std::move(pipe.second));
  ASSERT_EQ(::kill(server_, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return testing::process_state(server_) == 'T'; }));
  std::atomic<int> thread{0};
  std::thread starter([&] {
    thread.store(detail::current_tid());
    child.start();
  });
  // It has sent its request when it waits for the answer.
  const bool asked = eventually([&] { return polls(thread.load()); });
  ASSERT_EQ(::kill(spare, SIGKILL), 0);
  const bool ended = eventually([&] { return testing::process_ended(spare); });
  ASSERT_EQ(::kill(server_, SIGCONT), 0);
  starter.join();
  EXPECT_TRUE(asked && ended);
  EXPECT_NE(child.pid(), spare);
  EXPECT_TRUE(pipe.first.poll(20s)) << "somebody has a copy";
  EXPECT_TRUE(child.is_alive());
}

TEST_P(ProcessDescriptors, AfterTheServerDiedTheyGoToTheNext) {
  if (GetParam() != StartMethod::forkserver) GTEST_SKIP() << "the others do without a server";
  Pipe pipe;
  Process child(echo, std::move(pipe.second));
  ASSERT_EQ(::kill(server_, SIGKILL), 0);
  child.start();
  pipe.first.send(std::string("hello"));
  EXPECT_EQ(pipe.first.recv<std::string>(), "hello");
  EXPECT_NE(server_pid(), server_);
  child.kill();
  ASSERT_TRUE(pipe.first.poll(20s)) << "somebody has a copy";
  EXPECT_THROW(pipe.first.recv<std::string>(), EndOfStream);
}

void write_through(const Descriptor& file, const std::string& text) {
  if (::write(file.get(), text.data(), text.size()) < 0) throw StateError("not written");
}

TEST_P(ProcessDescriptors, AFileIsAnArgument) {  // [test_fd_transfer, test_large_fd_transfer]
  for (const int lowest : {10, 300}) {
    const std::string path = dir_.file("out" + std::to_string(lowest));
    const Descriptor file(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    Descriptor copy(::fcntl(file.get(), F_DUPFD_CLOEXEC, lowest));
    ASSERT_GE(copy.get(), lowest);
    Process child(write_through, std::move(copy), "written");
    child.start().join();
    EXPECT_EQ(child.exitcode(), 0);
    EXPECT_EQ(testing::read_file(path), "written");
  }
}

// [test_access]
TEST_P(ProcessDescriptors, OneWayEndsStayOneWay) {
  Pipe in({.duplex = false});
  Pipe out({.duplex = false});
  Process child(
      [](Connection from, Connection to) {
        int refused = 0;
        try {
          from.send(1);
        } catch (const StateError&) {
          ++refused;
        }
        try {
          to.recv<int>();
        } catch (const StateError&) {
          ++refused;
        }
        to.send(from.recv<int>() + refused);
      },
      std::move(in.first), std::move(out.second));
  child.start();
  in.second.send(40);
  EXPECT_EQ(out.first.recv<int>(), 42);
  child.join();
}

struct Job {
  std::string name;
  Connection answer;
  std::map<int, std::optional<Descriptor>> files;
};

TEST_P(ProcessDescriptors, TheyMayBeInsideOfValues) {
  Pipe pipe;
  Pipe unused;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Descriptor reader(ends[0]);
  Job job{.name = "job", .answer = std::move(pipe.second), .files = {}};
  job.files[1] = Descriptor(ends[1]);
  job.files[2] = std::nullopt;
  job.files[3] = Descriptor();
  std::vector<std::unique_ptr<Connection>> more;
  more.push_back(std::make_unique<Connection>(std::move(unused.second)));
  more.push_back(nullptr);
  Process child(
      [](Job todo, std::vector<std::unique_ptr<Connection>> others) {
        write_through(todo.files.at(1).value(), "x");
        todo.answer.send(todo.name + std::to_string(others.size()) +
                         (others[0]->closed() ? " closed" : " open"));
      },
      std::move(job), std::move(more));
  child.start();
  EXPECT_EQ(pipe.first.recv<std::string>(), "job2 open");
  child.join();
  std::array<char, 2> bytes{};
  EXPECT_EQ(::read(reader.get(), bytes.data(), 2), 1);
  EXPECT_EQ(::read(reader.get(), bytes.data(), 2), 0);
  EXPECT_TRUE(unused.first.poll(20s));
}

std::vector<Descriptor> many(std::size_t count) {
  std::vector<Descriptor> files;
  for (std::size_t i = 0; i < count; ++i) files.push_back(Descriptor::copy_of(0));
  return files;
}

void count_open(Connection to, const std::vector<Descriptor>& files) {
  int open = 0;
  for (const Descriptor& file : files) open += ::fcntl(file.get(), F_GETFD) >= 0 ? 1 : 0;
  to.send(open);
}

TEST_P(ProcessDescriptors, ManyGoAndTooManyStayWhereTheyAre) {
  constexpr int kMost = static_cast<int>(detail::DescriptorOutbox::kMost);
  Pipe pipe;
  std::vector<Descriptor> files = many(kMost);
  const std::size_t before = open_files_of(::getpid()).size();
  EXPECT_THROW(Process(count_open, std::move(pipe.second), std::move(files)), StateError);
  EXPECT_EQ(open_files_of(::getpid()).size(), before);
  ASSERT_EQ(files.size(), std::size_t{kMost});  // NOLINT(bugprone-use-after-move): it came back
  ASSERT_FALSE(pipe.second.closed());           // NOLINT(bugprone-use-after-move)
  EXPECT_FALSE(pipe.first.poll());
  files.pop_back();
  Process child(count_open, std::move(pipe.second), std::move(files));
  child.start();
  EXPECT_EQ(pipe.first.recv<int>(), kMost - 1);
  child.join();
  EXPECT_TRUE(pipe.first.poll());
}

TEST_P(ProcessDescriptors, WithoutDescriptorsLeftThereIsAnErrorAndTheFamilyGoesOn) {
  Pipe pipe;
  {
    const FewDescriptors few(::getpid(), 100);
    const std::vector<Descriptor> taken = take_all_descriptors();
    EXPECT_THROW(Process(echo, std::move(pipe.second)), SystemError);
  }
  ASSERT_FALSE(pipe.second.closed()) << "it came back";  // NOLINT(bugprone-use-after-move)
  Process child(echo, std::move(pipe.second));
  {
    const FewDescriptors few(::getpid(), 100);
    const std::vector<Descriptor> taken = take_all_descriptors();
    const std::size_t before = taken.size();
    EXPECT_THROW(child.start(), Error);
    EXPECT_THROW(child.start(), Error);
    EXPECT_EQ(take_all_descriptors().size(), 0U) << "of " << before;
  }
  EXPECT_FALSE(pipe.first.poll()) << "what was to go is still there";
  child.start();
  pipe.first.send(std::string("hello"));
  EXPECT_EQ(pipe.first.recv<std::string>(), "hello");
  pipe.first.close();
  child.join();
}

TEST_P(ProcessDescriptors, AServerWithoutDescriptorsSaysSo) {
  if (GetParam() != StartMethod::forkserver) GTEST_SKIP() << "the others do without a server";
  Pipe pipe;
  Process child(count_open, std::move(pipe.second), many(100));
  {
    const FewDescriptors few(server_, server_files_.size() + 20);
    try {
      child.start();
      ADD_FAILURE() << "it was started";
    } catch (const StartError& e) {
      EXPECT_NE(std::string(e.what()).find("Too many open files"), std::string::npos) << e.what();
    }
    Process another([] {});
    another.start().join();
    EXPECT_EQ(another.exitcode(), 0);
  }
  EXPECT_EQ(server_pid(), server_);
  Process([] {}).start().join();  // the spare child, which has the limit of when it was made
  child.start();
  EXPECT_EQ(pipe.first.recv<int>(), 100);
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
}

TEST_P(ProcessDescriptors, OneThatIsNeverStartedClosesThem) {
  Pipe pipe;
  {
    const Process child(echo, std::move(pipe.second));
    EXPECT_FALSE(pipe.first.poll());
  }
  EXPECT_TRUE(pipe.first.poll());
  EXPECT_THROW(pipe.first.recv<int>(), EndOfStream);
  // Nor does a child that was forked meanwhile keep it.
  Pipe another;
  {
    const Process waits(echo, std::move(another.second));
    Process child({.daemon = true}, [] {
      for (;;) ::pause();
    });
    child.start();
    Process other(echo, Pipe().first);
    other.start().join();
    other = Process([] {});
  }
  EXPECT_TRUE(another.first.poll(20s));
}

void give_on(Connection end, Connection sign) {
  Process grandchild(echo, std::move(end));
  grandchild.start();
  sign.send(*grandchild.pid());
  grandchild.join();
  sign.send(0);
}

TEST_P(ProcessDescriptors, AChildGivesThemToItsChild) {
  Pipe pipe;
  Pipe sign({.duplex = false});
  Process child(give_on, std::move(pipe.second), std::move(sign.second));
  child.start();
  const int pid = sign.first.recv<int>();
  EXPECT_NE(pid, child.pid());
  pipe.first.send(std::string("hello"));
  EXPECT_EQ(pipe.first.recv<std::string>(), "hello");
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(pipe.first.poll(20s)) << "the child in between has a copy";
  EXPECT_THROW(pipe.first.recv<std::string>(), EndOfStream);
  EXPECT_EQ(sign.first.recv<int>(), 0);
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
}

// In a fork the parent's objects can be reached; they are not owners there.
std::unique_ptr<Process>& waiting_process() {
  static std::unique_ptr<Process> process;
  return process;
}

TEST_P(ProcessDescriptors, ObjectsOfTheParentDoNotCloseWhatTheChildHas) {
  Pipe pipe;
  const auto answer = [](Connection end) {
    waiting_process().reset();
    end.send(std::string("still open"));
  };
  waiting_process() = std::make_unique<Process>(answer, std::move(pipe.second));
  waiting_process()->start();
  EXPECT_EQ(pipe.first.recv<std::string>(), "still open");
  waiting_process()->join();
  EXPECT_EQ(waiting_process()->exitcode(), 0);
  waiting_process().reset();
}

}  // namespace
}  // namespace brood::process_descriptors_test
