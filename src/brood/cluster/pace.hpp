// How often the programs of a cluster look at things, and how much goes at once. In one place, as
// the load on the server follows from it, and the simulation counts with it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace brood::detail {

constexpr std::chrono::milliseconds kClientTick{50};   // between two looks of a client's sender
constexpr std::chrono::milliseconds kClientIdle{500};  // the same while there are no tasks
constexpr std::chrono::milliseconds kClientFull{5};    // before a full engine is asked again
constexpr std::chrono::seconds kClientNote{1};         // between two signs of life of a client
constexpr std::chrono::milliseconds kAgentFetch{500};  // how long a request for a message stands
constexpr std::chrono::milliseconds kAgentTick{100};   // between two looks at leases and beats
constexpr std::chrono::milliseconds kAgentIdle{500};   // the same with nothing in hand
constexpr std::chrono::milliseconds kAgentFull{5};     // before a full agent looks for room again

/// What goes between a program and the server when all is well, answered within:
constexpr std::chrono::milliseconds kServerAnswer{2000};
/// Before an agent asks again a server that does not know what it asks for.
constexpr std::chrono::milliseconds kServerUnknown{200};
/// Messages of tasks that the server holds at most; more it refuses.
constexpr std::int64_t kMostTaskMessages = 100'000;
/// Messages of results that a client fetches at once.
constexpr std::size_t kResultsAtOnce = 16;

}  // namespace brood::detail
