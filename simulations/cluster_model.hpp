// A cluster in virtual time: one client, a server, many agents, and what goes wrong with them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <brood/cluster/nats_setup.hpp>

namespace brood::simulation {

using Duration = std::chrono::nanoseconds;
/// Virtual, since the start.
using Time = std::chrono::nanoseconds;

/// What a step takes. Measured: simulations/server_costs.cpp says how, docs/design/cluster.md with
/// what.
struct Costs {
  /// One way, between two programs by way of the network, their wakeups included.
  Duration latency = std::chrono::microseconds(100);
  // Of the server, which does one after the other:
  Duration store = std::chrono::microseconds(80);          // a message, with its confirmation
  Duration hand_out = std::chrono::microseconds(65);       // the request of one, and the message
  Duration hand_out_more = std::chrono::microseconds(11);  // each, of many at one request
  Duration done = std::chrono::microseconds(4);            // acknowledged, or its lease renewed
  Duration pass_on = std::chrono::microseconds(2);         // a plain message, for each who gets it
  Duration inform = std::chrono::microseconds(75);         // what a consumer has, or is made
  // Of the client, whose two threads do one after the other:
  Duration client_message = std::chrono::microseconds(20);
  Duration client_task = std::chrono::microseconds(1);
};

/// The server is away for all.
struct Outage {
  Time at;
  Duration length;
  bool loses_store = false;  // what it held is gone
};

/// Some agents are cut off from the server.
struct Partition {
  Time at;
  Duration length;
  double share = 1.0 / 3;  // of the agents
};

struct ClusterModel {
  std::uint64_t seed = 1;
  std::uint32_t agents = 1000;
  std::uint32_t workers = 4;  // of each agent
  std::uint64_t tasks = 10'000'000;
  /// The caller has no more tasks in the table at once.
  std::uint64_t at_once = 100'000;
  /// It waits for results in their order, as with imap; else any result lets the next task in.
  bool ordered = false;
  /// Lognormal.
  Duration median = std::chrono::milliseconds(100);
  double sigma = 1;
  std::uint32_t argument_bytes = 100;
  std::uint32_t result_bytes = 100;
  Duration lease = detail::NatsSetup{}.lease;
  Costs costs;

  /// Of an agent, between two deaths of its machine, on average; 0: never.
  Duration between_deaths{0};
  Duration replaced_after = std::chrono::seconds(30);
  /// The same for its hanging, workers and all, for one to three leases.
  Duration between_hangs{0};
  std::vector<Outage> outages;
  std::vector<Partition> partitions;
  /// How likely a message that the server has confirmed is lost all the same: tasks, results.
  double loss = 0;

  /// What counts as never ending.
  Duration at_most = std::chrono::hours(100);
};

/// A second of it.
struct Second {
  std::uint64_t messages = 0;  // in and out of the server
  std::uint64_t bytes = 0;
  std::uint64_t infos = 0;      // requests about consumers
  std::uint64_t results = 0;    // tasks that got theirs
  double server_busy = 0;       // share of the second
  std::uint64_t in_flight = 0;  // tasks, at its end
  std::uint64_t held = 0;       // messages of tasks that the server has, at its end
  std::uint32_t present = 0;    // agents that are neither dead nor hanging, at its end
};

struct ClusterOutcome {
  /// What was promised and not kept; empty: nothing.
  std::string broken;
  Duration took{0};
  Duration ideal{0};  // the tasks' durations over all workers
  std::uint64_t results = 0;
  std::uint64_t failures = 0;  // of the results; given up after too many deliveries
  // Where the workers' time went, in seconds of a worker; together all workers for all the time.
  struct Spent {
    double useful = 0;
    double twice = 0;       // on tasks that had a result already, or got another
    double unfinished = 0;  // on tasks that were cut short: their node died, or heard of no client
    double dead = 0;        // until a dead agent was replaced
    double hanging = 0;
    double cut_off = 0;      // idle, as the agent was
    double server_away = 0;  // idle, as all were
    double end = 0;          // idle, as all tasks were with others
    double idle = 0;         // otherwise: none was there
  } spent;
  // What the protocol did.
  std::uint64_t task_messages = 0;
  std::uint64_t resent = 0;            // tasks
  std::uint64_t duplicates = 0;        // results
  std::uint64_t handed_out_again = 0;  // messages, as their lease had ended
  Duration lease_wait{0};              // from their holder's mishap until then, on average
  Duration longest_lease_wait{0};
  std::uint64_t deaths = 0;
  std::uint64_t hangs = 0;
  std::uint64_t lost_messages = 0;
  std::uint64_t server_messages = 0;
  std::uint64_t server_bytes = 0;
  std::uint64_t server_infos = 0;
  double server_busy = 0;  // share of the time
  std::uint64_t events = 0;
  std::vector<Second> seconds;
};

/// Runs it. The decisions of the client are TaskTable's, that of the library itself. Afterwards it
/// goes on without tasks and failures until the server holds nothing, so that late results are
/// seen. The same model has the same outcome.
ClusterOutcome simulate(const ClusterModel& model);

}  // namespace brood::simulation
