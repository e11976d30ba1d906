// Layer: pool
// What a worker keeps from one item to the next.
//
//     double lookup(const std::string& key) {
//       return brood::worker_state<Database>("catalogue.db").find(key);   // opened once a worker
//     }
//
// One T for each worker: made from `args` when it is first asked for, destroyed when the worker
// ends in order (the pool is closed or terminated while it is idle; of a ThreadPool always), in
// reverse order of making. A worker that is killed takes it with it, and the next makes one anew.
// In a pool without workers there is one for each calling thread, until the pool ends; outside of a
// pool one for each thread, until the thread ends.
//
// The reference is good for as long as the worker lives, for the thread that asked: an item is
// computed by one thread, and no other item at the same time. What the constructor of T throws is
// thrown, and the next call tries again.
#pragma once

#include <utility>

#include <brood/pool/item_context.hpp>

namespace brood {

/// See above.
template <class T, class... Args>
[[nodiscard]] T& worker_state(Args&&... args) {
  return detail::WorkerStates::current().get<T>(std::forward<Args>(args)...);
}

}  // namespace brood
