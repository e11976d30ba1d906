// What tests of the words in the real family need: places in its memory, and processes that really
// die.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include <brood/process/family.hpp>

#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/sanitizers.hpp"

namespace brood::detail {

/// A T in the family's memory.
template <class T>
class Placed {
 public:
  Placed() : block_(Member::require()->heap().allocate(sizeof(T))), value_(new(block_.data) T{}) {}
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
  ~Placed() { Member::require()->heap().free(block_); }
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  Block block_;
  T* value_;
};

/// A forked process of the family that runs `body`.
class Relative {
 public:
  template <class Body>
  explicit Relative(Body body)
      : family_(Family::require()),
        tag_(family_->registry().reserve(family_->self(), Role::process, "relative")),
        process_([this, &body] {
          if (family_->become(tag_)) body();
        }) {}
  Relative(Relative&&) = default;
  ~Relative() {
    if (!family_) return;
    process_.kill();
    announce(family_->segment().header());
    family_->registry().note_ended(tag_, 0);
    family_->registry().free(tag_);
  }
  testing::Forked& process() { return process_; }
  [[nodiscard]] Tag tag() const { return tag_; }

 private:
  std::shared_ptr<Family> family_;
  Tag tag_;
  testing::Forked process_;
};

/// Fills `workers` with relatives that run `work`, and for a while (longer when all is to be
/// proved) stops them, or kills and replaces them, at random. They still run afterwards. Returns
/// the kills.
template <class Work>
int kill_and_stop_at_random(std::vector<std::unique_ptr<Relative>>& workers, const Work& work) {
  for (auto& worker : workers) worker = std::make_unique<Relative>(work);
  std::mt19937 random(1);
  int kills = 0;
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(testing::prove_everything() ? 60'000 : 1'500);
  while (std::chrono::steady_clock::now() < end) {
    auto& worker = workers[random() % workers.size()];
    if (random() % 3 == 0) {
      worker->process().signal(SIGSTOP);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2'000));
      worker->process().signal(SIGCONT);
      continue;
    }
    worker.reset();
    ++kills;
    worker = std::make_unique<Relative>(work);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3'000));
  }
  return kills;
}

class SyncFamily : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  }
};

}  // namespace brood::detail
