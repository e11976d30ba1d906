#include "tasks.hpp"

#include <stdexcept>

#include <brood/pool.hpp>

std::vector<int> doubled(const std::vector<int>& numbers) {
  brood::Pool pool({.workers = 2});
  return pool.map([](int n) { return 2 * n; }, numbers);
}

int halved(int n) { return n / 2; }

int refused(int n) { throw std::out_of_range("not " + std::to_string(n)); }

void add_one(brood::Lock lock, brood::Value<int> value) {
  lock.lock();
  value.set(value.get() + 1);
  lock.unlock();
}
