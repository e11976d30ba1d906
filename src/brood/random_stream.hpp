// Layer: pool
// Random numbers that belong to an item, not to who computes it.
//
//     double estimate(int samples) {
//       std::uniform_real_distribution<> unit;
//       int inside = 0;
//       for (int i = 0; i < samples; ++i) {
//         const double x = unit(brood::random_stream());
//         const double y = unit(brood::random_stream());
//         if (x * x + y * y < 1) ++inside;
//       }
//       return 4.0 * inside / samples;
//     }
//     auto all = pool.with({.seed = 1}).map(estimate, sizes);   // the same, always and everywhere
//
// Every item of a call has a generator of its own, which depends on the call's `seed` and the
// item's number alone: not on the worker, the chunk, the order, the attempt, the number of workers,
// the start method, nor on whether processes, threads or the caller compute. A call without a seed
// has one that nobody can guess, and so has every submitted task without one. A submitted task with
// a seed has that of item 0.
//
// The reference is good until the item ends, for the thread that computes it. Outside of a pool,
// and in threads that an item starts, it is a generator of the calling thread, seeded by chance.
// The first call in an item costs about a microsecond. Not for secrets.
#pragma once

#include <random>

namespace brood {

/// See above.
[[nodiscard]] std::mt19937_64& random_stream();

}  // namespace brood
