// BarrierWord under a deterministic scheduler: orders of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <brood/sync/barrier_word.hpp>

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/proof.hpp"
#include "sync/scheduled_environment.hpp"

namespace brood::detail::barrier_schedule_test {
namespace {

using Barrier = BarrierWord<ScheduledEnvironment>;
using testing::Choices;
using testing::Schedule;

/// The index, or nothing when the barrier is broken. Nothing is on the stack afterwards that needs
/// a destructor: a fiber may die at its next step.
template <class Action = Barrier::NoAction>
std::optional<std::uint32_t> pass(Barrier& barrier, Deadline deadline, char* why = nullptr,
                                  Action action = {}) {
  try {
    return barrier.arrive_and_wait_until(deadline, action);
  } catch (const BrokenBarrierError& e) {
    if (why != nullptr) std::snprintf(why, 128, "%s", e.what());
    return std::nullopt;
  }
}

struct Plan {
  std::uint32_t parties = 3;
  int threads = 3;
  int rounds = 3;
  bool enlisted = false;  // all, before anybody arrives
  bool acts = false;      // with an action
  int timed = 0;          // the last so many
  int aborts = 0;
  int resets = 0;
};

/// Who arrived and who was let go, by what the threads know. Nobody is let go unless all parties
/// began to arrive for it; indices differ within each group that is let go together.
int run(const Plan& plan, Choices& choices) {
  alignas(64) std::array<std::byte, Barrier::bytes_needed(4)> memory;
  ScheduledWorld world(choices);
  Barrier* barrier = Barrier::format(memory.data(), plan.parties);
  const auto threads = static_cast<std::size_t>(plan.threads);
  const bool calm = plan.timed + plan.aborts + plan.resets == 0;
  std::array<int, 8> begun{};
  std::array<int, 8> passed{};
  std::array<bool, 8> enlisted{};
  std::array<int, 4> with_index{};
  int acting = -1;  // who runs the action
  int acted = 0;    // as long as all go well: how often it was run to its end
  for (std::size_t i = 0; i != threads; ++i) {
    world.start(
        [&, i] {
          const bool timed = static_cast<int>(i) >= plan.threads - plan.timed;
          if (plan.enlisted) {
            barrier->enlist();
            enlisted[i] = true;
            Schedule::wait_until([&] {
              for (std::size_t other = 0; other != threads; ++other) {
                if (!enlisted[other] && !world.dead(static_cast<int>(other))) return false;
              }
              return true;
            });
            // Who dies before it has enlisted is not known to be missing.
            for (std::size_t other = 0; other != threads; ++other) {
              if (!enlisted[other]) return;
            }
          }
          for (int round = 0; round != plan.rounds; ++round) {
            ++begun[i];
            const Deadline deadline = timed ? some_time() : Deadline::never();
            const auto action = [&, i] {
              // A broken barrier may be reset, and passed by others, while its action runs.
              require(acting == -1 || plan.resets != 0, "two run the action");
              for (std::size_t other = 0; other != threads && calm; ++other) {
                require(begun[other] == acted + 1, "the action is run before all have come");
                require(passed[other] <= acted, "let go before the action");
              }
              acting = static_cast<int>(i);
              Schedule::point();
              acting = -1;
              ++acted;
            };
            const auto index =
                plan.acts ? pass(*barrier, deadline, nullptr, action) : pass(*barrier, deadline);
            if (!index) {
              require(world.deaths() != 0 || !calm, "broken without a reason");
              if (plan.resets == 0) break;
              continue;
            }
            require(*index < plan.parties, "an index that no party has");
            ++passed[i];
            require(!plan.acts || !calm || acted >= passed[i], "let go without the action");
            ++with_index[*index];
            if (threads == plan.parties) {
              for (std::size_t other = 0; other != threads; ++other) {
                require(begun[other] >= passed[i], "let go before all had come");
              }
            }
          }
          if (plan.enlisted) barrier->withdraw();
        },
        true, [&, i] { acting = acting == static_cast<int>(i) ? -1 : acting; });
  }
  for (int i = 0; i != plan.aborts; ++i) world.start([&] { barrier->abort(); });
  for (int i = 0; i != plan.resets; ++i) world.start([&] { barrier->reset(); });
  if (plan.timed != 0) world.let_time_pass();
  require(world.run(), "somebody waits for ever");
  if (world.deaths() == 0 && calm && threads == plan.parties) {
    for (std::size_t i = 0; i != threads; ++i) {
      require(passed[i] == plan.rounds, "not let go");
    }
  }
  if (world.deaths() == 0) {
    for (std::uint32_t i = 1; i != plan.parties; ++i) {
      require(with_index[i] == with_index[0], "an index twice, or one too many let go");
    }
  }
  return world.deaths();
}

TEST(BarrierSchedules, RandomOrders) {
  with_random_orders("three", 0, [](Choices& c) { return run({}, c); });
  with_random_orders("three, deaths", 2,
                     [](Choices& c) { return run({.rounds = 2, .enlisted = true}, c); });
  with_random_orders("four, deaths", 3, [](Choices& c) {
    return run({.parties = 4, .threads = 4, .enlisted = true}, c);
  });
}
// More threads than parties, whose generations overlap.
TEST(BarrierSchedules, RandomOrdersOfMoreThanThereAreParties) {
  with_random_orders("four at two", 0,
                     [](Choices& c) { return run({.parties = 2, .threads = 4, .rounds = 1}, c); });
  with_random_orders("six at two, deaths", 2, [](Choices& c) {
    return run({.parties = 2, .threads = 6, .rounds = 2, .timed = 6}, c);
  });
  with_random_orders("four at two, timed", 0,
                     [](Choices& c) { return run({.parties = 2, .threads = 4, .timed = 4}, c); });
}
TEST(BarrierSchedules, RandomOrdersWithDeadlinesAbortsAndResets) {
  with_random_orders("one timed", 0, [](Choices& c) { return run({.timed = 1}, c); });
  with_random_orders("all timed, deaths", 2, [](Choices& c) { return run({.timed = 3}, c); });
  with_random_orders("aborted", 0, [](Choices& c) { return run({.aborts = 1}, c); });
  with_random_orders("aborted, deaths", 2,
                     [](Choices& c) { return run({.enlisted = true, .aborts = 1}, c); });
  with_random_orders("reset", 0,
                     [](Choices& c) { return run({.timed = 3, .aborts = 1, .resets = 2}, c); });
  with_random_orders("reset, deaths", 2,
                     [](Choices& c) { return run({.timed = 3, .aborts = 1, .resets = 2}, c); });
  with_random_orders("reset, crowd", 2, [](Choices& c) {
    return run({.parties = 2, .threads = 5, .timed = 5, .aborts = 1, .resets = 2}, c);
  });
}
TEST(BarrierSchedules, RandomOrdersWithAnAction) {
  with_random_orders("acts", 0, [](Choices& c) { return run({.acts = true}, c); });
  with_random_orders("acts, deaths", 2,
                     [](Choices& c) { return run({.enlisted = true, .acts = true}, c); });
  with_random_orders("acts, timed, deaths", 2,
                     [](Choices& c) { return run({.acts = true, .timed = 3}, c); });
  with_random_orders("acts, reset, deaths", 2, [](Choices& c) {
    return run({.acts = true, .timed = 3, .aborts = 1, .resets = 2}, c);
  });
}
TEST(BarrierSchedules, AllOrders) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two, one death", {.preemptions = 1 + more, .crashes = 1}, [](Choices& c) {
    return run({.parties = 2, .threads = 2, .rounds = 1, .enlisted = true}, c);
  });
  with_all_orders("two act, one death", {.preemptions = 1, .crashes = 1}, [](Choices& c) {
    return run({.parties = 2, .threads = 2, .rounds = 1, .enlisted = true, .acts = true}, c);
  });
  with_all_orders("two twice", {.preemptions = 1 + more, .crashes = 0},
                  [](Choices& c) { return run({.parties = 2, .threads = 2, .rounds = 2}, c); });
  with_all_orders("three at two, timed", {.preemptions = 1, .crashes = 0}, [](Choices& c) {
    return run({.parties = 2, .threads = 3, .rounds = 1, .timed = 3}, c);
  });
}

// Nobody has enlisted: it is the cell of one who dies while it waits that tells. The third party
// never comes; who lives to see its deadline breaks it too.
TEST(BarrierSchedules, OneWhoWaitsDies) {
  with_random_orders("waits and dies", 1, [](Choices& choices) {
    alignas(64) std::array<std::byte, Barrier::bytes_needed(3)> memory;
    ScheduledWorld world(choices);
    Barrier* barrier = Barrier::format(memory.data(), 3);
    world.start(
        [&] {
          Schedule::wait_until([&] { return barrier->n_waiting() == 1 || world.dead(1); });
          if (barrier->n_waiting() == 1) {
            require(!pass(*barrier, Deadline::never()), "let go without the third");
          }
        },
        false);
    bool over = false;
    world.start([&] {
      static_cast<void>(pass(*barrier, some_time()));
      over = true;
    });
    world.let_time_pass();
    const bool all = world.run();
    require(all || over, "waits for ever for the dead");
    return world.deaths();
  });
}

// Who runs the action has its exception, the other one is told.
TEST(BarrierSchedules, AnActionThatThrows) {
  with_random_orders("throws", 0, [](Choices& choices) {
    alignas(64) std::array<std::byte, Barrier::bytes_needed(2)> memory;
    ScheduledWorld world(choices);
    Barrier* barrier = Barrier::format(memory.data(), 2);
    int threw = 0;
    int told = 0;
    for (int i = 0; i != 2; ++i) {
      world.start(
          [&] {
            try {
              std::array<char, 128> why{};
              const auto fail = [] { throw std::out_of_range("the action's"); };
              require(!pass(*barrier, Deadline::never(), why.data(), fail), "let go");
              require(std::string(why.data()).find("action failed") != std::string::npos,
                      why.data());
              ++told;
            } catch (const std::out_of_range&) {
              ++threw;
            }
          },
          false);
    }
    require(world.run(), "somebody waits for ever");
    require(threw == 1 && told == 1, "not one each");
    return world.deaths();
  });
}

// What the dead have left does not hinder those who go on after a reset.
TEST(BarrierSchedules, AsNewAfterAReset) {
  with_random_orders("reset after a death", 1, [](Choices& choices) {
    alignas(64) std::array<std::byte, Barrier::bytes_needed(2)> memory;
    ScheduledWorld world(choices);
    Barrier* barrier = Barrier::format(memory.data(), 2);
    bool over = false;
    bool ready = false;
    world.start([&] {
      barrier->enlist();
      static_cast<void>(pass(*barrier, some_time()));
      barrier->withdraw();
      over = true;
    });
    for (int i = 0; i != 2; ++i) {
      world.start(
          [&, i] {
            Schedule::wait_until([&] { return i == 0 ? over || world.dead(0) : ready; });
            if (i == 0) barrier->reset();
            ready = true;
            require(pass(*barrier, Deadline::never()).has_value(), "broken still");
          },
          false);
    }
    world.let_time_pass();
    require(world.run(), "somebody waits for ever");
    return world.deaths();
  });
}

// One of two enlisted parties dies at any step from its enlisting on: the other does not wait for
// ever, and its error names the dead.
TEST(BarrierSchedules, TheErrorNamesTheDead) {
  with_all_orders("named", {.preemptions = 1, .crashes = 1}, [](Choices& choices) {
    alignas(64) std::array<std::byte, Barrier::bytes_needed(2)> memory;
    ScheduledWorld world(choices);
    Barrier* barrier = Barrier::format(memory.data(), 2);
    std::array<char, 128> why{};
    bool enlisted = false;
    bool passed = false;
    world.start(
        [&] {
          Schedule::wait_until([&] { return enlisted || world.dead(1); });
          if (enlisted) passed = pass(*barrier, Deadline::never(), why.data()).has_value();
        },
        false);
    world.start([&] {
      barrier->enlist();
      enlisted = true;
      static_cast<void>(pass(*barrier, Deadline::never()));
    });
    require(world.run(), "waits for ever");
    if (enlisted && !passed) {
      require(world.deaths() == 1, "broken without a death");
      require(std::string(why.data()).find("fiber 1 died") != std::string::npos, why.data());
    }
    return world.deaths();
  });
}

}  // namespace
}  // namespace brood::detail::barrier_schedule_test
