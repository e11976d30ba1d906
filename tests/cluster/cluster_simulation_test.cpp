// The protocol with dozens of agents and all that may fail, in virtual time.
// Not for ThreadSanitizer: one thread plays all.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

#include <cluster_model.hpp>

#include "support/sanitizers.hpp"

namespace brood::testing::cluster_simulation_test {
namespace {

using namespace std::chrono_literals;
using simulation::ClusterModel;
using simulation::ClusterOutcome;

ClusterModel fifty_agents(std::uint64_t seed) {
  ClusterModel model;
  model.seed = seed;
  model.agents = 50;
  model.workers = 2;
  model.tasks = 20'000;
  model.at_once = 3000;
  return model;
}

double seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

// The workers' time, all of it.
double sum(const ClusterOutcome::Spent& spent) {
  return spent.useful + spent.twice + spent.unfinished + spent.dead + spent.hanging +
         spent.cut_off + spent.server_away + spent.end + spent.idle;
}

TEST(ClusterSimulation, EveryTaskHasOneResultWhateverFails) {
  for (std::uint64_t seed = 1; seed <= (kAddressSanitizer ? 2 : 5); ++seed) {
    ClusterModel model = fifty_agents(seed);
    model.ordered = seed % 2 == 0;
    model.between_deaths = 200s;
    model.replaced_after = 10s;
    model.between_hangs = 200s;
    model.outages = {{.at = 5s, .length = 3s, .loses_store = false},
                     {.at = 12s, .length = 18s, .loses_store = true}};
    model.partitions = {{.at = 35s, .length = 40s}};
    model.loss = 1e-3;
    const ClusterOutcome outcome = simulate(model);
    EXPECT_EQ(outcome.broken, "") << "seed " << seed;
    EXPECT_EQ(outcome.results, model.tasks) << "seed " << seed;
    // Each kind of failure was there.
    EXPECT_GT(outcome.deaths, 0U);
    EXPECT_GT(outcome.hangs, 0U);
    EXPECT_GT(outcome.lost_messages, 0U);
    EXPECT_GT(outcome.handed_out_again, 0U);
    EXPECT_GT(outcome.resent, 0U);
    EXPECT_GT(outcome.duplicates, 0U);
    const double all = seconds(outcome.took) * model.agents * model.workers;
    EXPECT_NEAR(sum(outcome.spent) / all, 1, 1e-3) << "seed " << seed;
  }
}

TEST(ClusterSimulation, WithoutFailuresNothingIsRunTwiceAndWorkersAreBusy) {
  const ClusterModel model = fifty_agents(1);
  const ClusterOutcome outcome = simulate(model);
  EXPECT_EQ(outcome.broken, "");
  EXPECT_EQ(outcome.resent, 0U);
  EXPECT_EQ(outcome.duplicates, 0U);
  EXPECT_EQ(outcome.handed_out_again, 0U);
  const double all = seconds(outcome.took) * model.agents * model.workers;
  EXPECT_LT(outcome.spent.idle / all, 0.02) << "but for the last tasks";
  EXPECT_NEAR(sum(outcome.spent) / all, 1, 1e-3);
}

TEST(ClusterSimulation, ThousandsOfWorkersAreKeptBusyByOneClient) {
  ClusterModel model;
  model.tasks = 200'000;
  model.sigma = 0;
  const ClusterOutcome outcome = simulate(model);
  EXPECT_EQ(outcome.broken, "");
  const double all = seconds(outcome.took) * model.agents * model.workers;
  EXPECT_LT(outcome.spent.idle / all, 0.3) << outcome.task_messages << " messages of tasks";
  EXPECT_LT(outcome.task_messages, model.tasks / 5) << "or the client does nothing but send";
}

TEST(ClusterSimulation, TheSameSeedHasTheSameOutcome) {
  ClusterModel model = fifty_agents(7);
  model.tasks = 2000;
  model.between_deaths = 30s;
  const ClusterOutcome one = simulate(model);
  const ClusterOutcome other = simulate(model);
  EXPECT_EQ(one.took, other.took);
  EXPECT_EQ(one.server_messages, other.server_messages);
  model.seed = 8;
  EXPECT_NE(simulate(model).took, one.took);
}

}  // namespace
}  // namespace brood::testing::cluster_simulation_test
