// Shared memory whose names go with what made them. Names in comments are those of Python's tests.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <brood/brood.hpp>

#include <unistd.h>

#include <string>
#include <system_error>
#include <vector>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"

namespace brood::shared_memory_manager_test {
namespace {

using testing::eventually;

class SharedMemoryManagers : public testing::EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(SharedMemoryManagers);

bool exists(const std::string& name) {
  try {
    static_cast<void>(SharedMemory::attach(name));
    return true;
  } catch (const SystemError& e) {
    if (e.code() != std::errc::no_such_file_or_directory) throw;
    return false;
  }
}

// _TestSharedMemory.test_shared_memory_SharedMemoryManager_basics
TEST_P(SharedMemoryManagers, WhatItMadeIsGoneWhenItIs) {
  std::vector<std::string> names;
  {
    SharedMemoryManager manager;
    SharedMemory memory = manager.shared_memory(100);
    memory.as<int>() = 17;
    const ShareableList list = manager.shareable_list({1, 2.5, "text"});
    const ShareableList numbers = manager.shareable_list(std::vector<int>{1, 2, 3});
    names = manager.names();
    ASSERT_EQ(names.size(), 3U);
    EXPECT_EQ(names[0], memory.name());
    for (const std::string& name : names) EXPECT_TRUE(exists(name));
    Process child(
        [](std::string name, ShareableList same) {
          SharedMemory::attach(name).as<int>() += static_cast<int>(std::get<std::int64_t>(same[0]));
        },
        memory.name(), list);
    child.start();
    child.join();
    EXPECT_EQ(memory.as<int>(), 18);
  }
  for (const std::string& name : names) EXPECT_FALSE(exists(name));
}

TEST_P(SharedMemoryManagers, ItIsGoneAfterShutdownThoughHandlesAreLeft) {
  SharedMemoryManager manager;
  const SharedMemory memory = manager.shared_memory(8);
  memory.as<int>() = 3;
  manager.shutdown();
  manager.shutdown();
  EXPECT_FALSE(exists(memory.name()));
  EXPECT_EQ(memory.as<int>(), 3);  // who has it keeps it
  EXPECT_THROW(static_cast<void>(manager.shared_memory(8)), StateError);
  EXPECT_THROW(static_cast<void>(manager.shareable_list({1})), StateError);
  SharedMemoryManager other;
  const std::string name = other.shared_memory(8).name();
  SharedMemory::unlink(name);
  other.shutdown();  // somebody was quicker
}

TEST_P(SharedMemoryManagers, ItIsGoneWhenItsProcessIsKilled) {
  Queue<std::string> names;
  Process owner(
      [](Queue<std::string> out) {
        SharedMemoryManager manager;
        const auto memory = manager.shared_memory(8);
        const auto list = manager.shareable_list({1, 2});
        out.put(memory.name());
        out.put(list.name());
        for (;;) ::pause();
      },
      names);
  owner.start();
  const std::string memory = names.get();
  const std::string list = names.get();
  EXPECT_TRUE(exists(memory));
  EXPECT_TRUE(exists(list));
  owner.kill();
  owner.join();
  EXPECT_TRUE(eventually([&] { return !exists(memory) && !exists(list); }));
}

TEST_P(SharedMemoryManagers, AForkedChildTakesNothingAway) {
  SharedMemoryManager manager;
  const SharedMemory memory = manager.shared_memory(8, "brood_test_of_a_fork");
  static SharedMemoryManager* inherited = nullptr;
  inherited = &manager;
  Process child(ProcessOptions{.start_method = StartMethod::fork}, [] {
    inherited->shutdown();
    try {
      static_cast<void>(inherited->shared_memory(8));
    } catch (const StateError&) {
      ::_exit(5);
    }
  });
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 5);
  EXPECT_TRUE(exists("brood_test_of_a_fork"));
}

}  // namespace
}  // namespace brood::shared_memory_manager_test
