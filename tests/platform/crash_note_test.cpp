// Not for ThreadSanitizer: processes.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include <brood/platform/code_location.hpp>
#include <brood/platform/crash_note.hpp>

#include "support/forked.hpp"
#include "support/sanitizers.hpp"

namespace brood::detail::crash_note_test {
namespace {

using namespace brood::testing;

class CrashNoteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kAddressSanitizer) GTEST_SKIP() << "the sanitizer's own handlers are left alone";
  }

  template <class Body>
  void run(Body body) {
    note_->clear();
    Forked child([&] {
      const rlimit none{0, 0};
      ::setrlimit(RLIMIT_CORE, &none);
      leave_crash_note_in(*note_);
      body();
    });
    pid_ = child.pid();
    code_ = child.wait();
    data_ = read(*note_, pid_, -code_);
    stack_.clear();
    if (data_) {
      for (const std::string& line : data_->describe_stack()) stack_ += line + "\n";
    }
  }
  void expect_in_stack(const std::string& function) const {
    if (!reads_debug_information()) return;
    EXPECT_NE(stack_.find(function), std::string::npos) << stack_;
  }

  const Shared<CrashNote> note_;
  int pid_ = 0;
  int code_ = 0;
  std::optional<CrashData> data_;
  std::string stack_;
};

[[gnu::noinline]] void write_at(std::uintptr_t address) {
  *reinterpret_cast<volatile int*>(address) = 1;
  asm volatile("");
}
[[gnu::noinline]] int careless(std::uintptr_t address) {
  write_at(address);
  return 1 + static_cast<int>(address);
}
[[gnu::noinline]] int endless(int depth) {
  static volatile bool deeper = true;
  if (!deeper) return 0;
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  const int below = endless(depth + 1);
  return below + frame[0];
}
[[gnu::noinline]] int call_nowhere(int (*nowhere)()) {
  const int result = nowhere();
  asm volatile("");
  return result + 1;
}
[[gnu::noinline]] void fail() { throw std::runtime_error("not caught"); }
void fail_where_nothing_may() noexcept { fail(); }
[[gnu::noinline]] void give_up() { std::abort(); }

TEST_F(CrashNoteTest, SaysWhere) {
  run([] { careless(0x10); });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->code, SEGV_MAPERR);
  EXPECT_EQ(data_->address, 0x10u);
  ASSERT_GE(data_->stack.size(), 3u);
  EXPECT_NE(data_->stack[0].module, 0u);
  expect_in_stack("write_at");
  expect_in_stack("careless");
  EXPECT_EQ(describe_signal_code(SIGSEGV, data_->code), "nothing is mapped there");
}

TEST_F(CrashNoteTest, AStackOverflow) {
  run([] { endless(0); });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->stack.size(), CrashNote::kMaxFrames);
  expect_in_stack("endless");
}

TEST_F(CrashNoteTest, ACallIntoNowhere) {
  run([] { call_nowhere(nullptr); });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_GE(data_->stack.size(), 2u);
  expect_in_stack("call_nowhere");
  run([] { call_nowhere(reinterpret_cast<int (*)()>(0x1234)); });
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->address, 0x1234u);
  expect_in_stack("call_nowhere");
}

TEST_F(CrashNoteTest, ADamagedStack) {
  run([] {
    // The frames behind the first few lead nowhere.
    char* frame = static_cast<char*>(__builtin_frame_address(0));
    for (char* at = frame; at < frame + 2048; at += sizeof(long)) *reinterpret_cast<long*>(at) = 16;
    write_at(0x20);
    ::_exit(1);
  });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->address, 0x20u);
  EXPECT_GE(data_->stack.size(), 1u);
}

TEST_F(CrashNoteTest, EverySignal) {
  run([] { give_up(); });
  EXPECT_EQ(code_, -SIGABRT);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->address, 0u);
  EXPECT_EQ(describe_signal_code(SIGABRT, data_->code), "sent");
  expect_in_stack("give_up");
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP}) {
    run([signal] { ::raise(signal); });
    EXPECT_EQ(code_, -signal);
    ASSERT_TRUE(data_) << signal;
    EXPECT_GE(data_->stack.size(), 2u);
  }
  run([] { __builtin_trap(); });
  EXPECT_EQ(code_, -SIGILL);
  EXPECT_TRUE(data_);
#if defined(__x86_64__)
  run([] { asm volatile("int3"); });
  EXPECT_EQ(code_, -SIGTRAP);
  EXPECT_TRUE(data_);
  run([] {
    volatile int zero = 0;
    asm volatile("cltd; idivl %1" : : "a"(1), "m"(zero) : "edx");
  });
  EXPECT_EQ(code_, -SIGFPE);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->code, FPE_INTDIV);
#endif
  run([] { ::raise(SIGKILL); });
  EXPECT_EQ(code_, -SIGKILL);
  EXPECT_FALSE(data_);
}

TEST_F(CrashNoteTest, TerminateByAnExceptionShowsTheThrow) {
  run([] {
    static_cast<void>(std::freopen("/dev/null", "w", stderr));
    fail_where_nothing_may();
  });
  EXPECT_EQ(code_, -SIGABRT);
  ASSERT_TRUE(data_);
  EXPECT_GE(data_->stack.size(), 4u);
  expect_in_stack("fail()");
}

TEST_F(CrashNoteTest, AnyThread) {
  run([] {
    std::thread([] { careless(0x30); }).detach();
    for (;;) ::pause();
  });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->address, 0x30u);
  // Many at once: one is noted.
  run([] {
    for (int i = 0; i < 8; ++i) std::thread([] { careless(0x30); }).detach();
    for (;;) ::pause();
  });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->address, 0x30u);
}

TEST_F(CrashNoteTest, OthersHandlersStay) {
  note_->clear();
  Forked child([&] {
    ::signal(SIGSEGV, [](int) { ::_exit(42); });
    leave_crash_note_in(*note_);
    write_at(0x10);
  });
  const int pid = child.pid();
  EXPECT_EQ(child.wait(), 42);
  EXPECT_FALSE(read(*note_, pid, SIGSEGV));
  // One that is installed later and passes on what it gets.
  run([] {
    static struct sigaction before {};
    struct sigaction own {};
    own.sa_flags = SA_SIGINFO | SA_ONSTACK;
    own.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
      before.sa_sigaction(signal, info, context);
    };
    ::sigaction(SIGSEGV, &own, &before);
    write_at(0x50);
  });
  EXPECT_EQ(code_, -SIGSEGV);
  ASSERT_TRUE(data_);
  EXPECT_EQ(data_->address, 0x50u);
}

TEST_F(CrashNoteTest, AForkWritesNothing) {
  run([] {
    Forked fork([] { write_at(0x10); });
    ::_exit(fork.wait() == -SIGSEGV ? 7 : 8);
  });
  EXPECT_EQ(code_, 7);
  EXPECT_EQ(note_->state.load(), CrashNote::kEmpty);
}

TEST_F(CrashNoteTest, NonsenseIsNotBelieved) {
  note_->state.store(CrashNote::kComplete);
  note_->pid = 5;
  note_->signal = SIGSEGV;
  note_->frames.store(1000000);
  for (CodePlace& place : note_->stack) place = {.module = 3, .offset = ~std::uint64_t{0}};
  for (auto& entry : note_->names) {
    entry.module = 3;
    entry.name.fill('x');
  }
  EXPECT_FALSE(read(*note_, 6, SIGSEGV));
  EXPECT_FALSE(read(*note_, 5, SIGABRT));
  const auto data = read(*note_, 5, SIGSEGV);
  ASSERT_TRUE(data);
  EXPECT_EQ(data->stack.size(), CrashNote::kMaxFrames);
  const auto lines = data->describe_stack();
  ASSERT_EQ(lines.size(), CrashNote::kMaxFrames);
  EXPECT_EQ(lines[0], "? (" + std::string(40, 'x') + "+0xffffffffffffffff)");
}

}  // namespace
}  // namespace brood::detail::crash_note_test
