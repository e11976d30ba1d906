// Connections of a process that has children. [test_spawn_close]
#include <brood/connection.hpp>

#include <unistd.h>

#include <chrono>
#include <string>
#include <utility>

#include <brood/descriptor.hpp>
#include <brood/process.hpp>
#include <brood/queue.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace std::chrono_literals;
using brood::testing::TempDir;

class ConnectionProcessTest : public brood::testing::EveryStartMethod {
 protected:
  TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(ConnectionProcessTest);

TEST_P(ConnectionProcessTest, AChildDoesNotKeepTheEndsOfItsParentOpen) {
  const std::string sign = dir_.file("sign");
  brood::Pipe pipe;
  brood::Process child(
      {.daemon = true},
      [](std::string path) {
        brood::testing::give_sign(path);
        for (;;) ::pause();
      },
      sign);
  child.start();
  brood::testing::await_sign(sign);
  pipe.second.send(1);
  EXPECT_EQ(pipe.first.recv<int>(), 1);
  pipe.second.close();
  ASSERT_TRUE(pipe.first.poll(10s)) << "somebody else has a copy of the end";
  EXPECT_THROW(pipe.first.recv<int>(), brood::EndOfStream);
  EXPECT_TRUE(child.is_alive());
}

TEST_P(ConnectionProcessTest, WhereDescriptorsCannotGoIsSaid) {
  const brood::Queue<brood::Descriptor> queue;
  try {
    queue.put(brood::Descriptor::copy_of(0));
    ADD_FAILURE() << "a queue has no place for descriptors";
  } catch (const brood::StateError& e) {
    EXPECT_NE(std::string(e.what()).find("give it to a Process"), std::string::npos) << e.what();
  }
  EXPECT_TRUE(queue.empty());
}

}  // namespace
