// A lock whose holder is killed: the next one has it, and knows that what it guards may be half
// changed.
#include <brood/brood.hpp>

#include <csignal>
#include <cstdio>
#include <mutex>
#include <vector>

// [functions]
void append(brood::Lock lock, brood::Array<int> pair) {
  for (int i = 0; i != 500; ++i) {
    const std::scoped_lock guard(lock);
    pair.set(0, pair.get(0) + 1);
    pair.set(1, pair.get(1) + 1);
  }
}
void die_half_way(brood::Lock lock, brood::Array<int> pair) {
  lock.lock();
  pair.set(0, pair.get(0) + 1);
  std::raise(SIGKILL);
}
// [/functions]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  brood::Lock lock;
  brood::Array<int> pair(2);  // equal, whenever nobody holds the lock
  std::vector<brood::Process> processes;
  for (int i = 0; i != 3; ++i) processes.emplace_back(append, lock, pair).start();
  for (brood::Process& process : processes) process.join();
  std::printf("%d and %d\n", pair.get(0), pair.get(1));

  brood::Process victim(die_half_way, lock, pair);
  victim.start();
  victim.join();
  // [repair]
  lock.lock();
  if (lock.owner_died()) {
    std::printf("its owner died: %d and %d\n", pair.get(0), pair.get(1));
    pair.set(0, pair.get(1));
  }
  lock.unlock();
  // [/repair]
  std::printf("repaired: %d and %d\n", pair.get(0), pair.get(1));
}
