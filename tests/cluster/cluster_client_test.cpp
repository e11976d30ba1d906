// What a client does with an engine that is slow or away.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <brood/cluster/client.hpp>
#include <brood/errors.hpp>

#include "support/eventually.hpp"

namespace brood::testing::cluster_client_test {
namespace {

using namespace std::chrono_literals;
using detail::Bytes;

constexpr const char* kKey = "secret";

struct Seen {
  std::atomic<bool> reachable{true};
  std::atomic<int> looks{0};         // for beats
  std::atomic<std::size_t> sent{0};  // tasks
  std::atomic<int> failed{0};
};

// Takes a millisecond for a message, and has a node with room for all.
class SlowEngine final : public detail::ClientEngine {
 public:
  SlowEngine(Seen& seen, std::uint32_t slots) : seen_(seen), slots_(slots) {}
  bool send(std::uint64_t /*build*/, const std::string& /*id*/,
            std::span<const std::byte> message) override {
    std::this_thread::sleep_for(1ms);
    seen_.sent += detail::open_task(message, detail::MessageKeys(kKey)).items.size();
    return true;
  }
  std::optional<Bytes> receive(detail::Deadline /*deadline*/) override {
    std::this_thread::sleep_for(10ms);
    return std::nullopt;
  }
  bool empty(std::uint64_t /*build*/) override { return false; }
  bool reachable() override { return seen_.reachable; }
  std::vector<Bytes> beats() override {
    ++seen_.looks;
    if (slots_ == 0) return {};
    return {detail::sign(
        detail::NodeBeat{.node = "node", .build = detail::own_build(), .slots = slots_},
        detail::MessageKeys(kKey))};
  }
  void note(std::span<const std::byte> /*message*/) override {}
  [[nodiscard]] std::size_t most_bytes() const override { return std::size_t{1} << 20U; }

 private:
  Seen& seen_;
  const std::uint32_t slots_;
};

class CountedTask final : public detail::ClusterTask {
 public:
  explicit CountedTask(Seen& seen) : seen_(seen) {}
  void finish(std::span<const std::byte> /*value*/) override {}
  void fail(std::exception_ptr /*error*/) override { ++seen_.failed; }

 private:
  Seen& seen_;
};

std::shared_ptr<detail::ClusterClient> client_of(Seen& seen, std::uint32_t slots) {
  return std::make_shared<detail::ClusterClient>(
      std::make_unique<SlowEngine>(seen, slots),
      detail::ClientSetup{.key = kKey, .table = {.patience = 100ms}}, std::string(32, '0'));
}

TEST(ClusterClients, WhoHasMuchToSendHearsWhatGoesOnAllTheSame) {
  constexpr std::size_t kTasks = 50'000;
  Seen seen;
  const auto client = client_of(seen, 1'000'000);
  const auto call = std::make_shared<detail::ClusterCall>();
  for (std::size_t i = 0; i < kTasks; ++i) {
    client->submit(call, {}, std::make_shared<CountedTask>(seen));
  }
  ASSERT_TRUE(eventually([&] { return seen.looks >= 8; }));
  EXPECT_LT(seen.sent, kTasks) << "it looked only when all was sent";
  EXPECT_GT(seen.sent, 0U);
}

TEST(ClusterClients, AServerThatIsAwayIsNoLackOfAgents) {
  Seen seen;
  seen.reachable = false;
  const auto client = client_of(seen, 0);
  const auto call = std::make_shared<detail::ClusterCall>();
  client->submit(call, {}, std::make_shared<CountedTask>(seen));
  ASSERT_TRUE(eventually([&] { return seen.looks >= 10; })) << "50 ms each, patience is 100 ms";
  EXPECT_EQ(seen.failed, 0);
  seen.reachable = true;
  EXPECT_TRUE(eventually([&] { return seen.failed == 1; })) << "now nobody is there";
}

}  // namespace
}  // namespace brood::testing::cluster_client_test
